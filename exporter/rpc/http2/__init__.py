"""HTTP/2 at the level of frames (RFC 9113), for relaying streams and for calls with very many messages.

A relayed call, such as the transfer of a build context, has tens of thousands of frames. A gRPC library
parses them into messages, and the library ``h2`` turns them into events, which costs more than the transfer
itself. This package parses only the payloads of header blocks when it relays a stream. The library ``hpack``
decompresses them.
"""
