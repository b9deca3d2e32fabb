"""HTTP/2 at the level of frames (RFC 9113): for passing streams on, and for calls of very many messages.

Calls that are only passed on, a build's context above all, come in tens of thousands of frames. A gRPC
library makes messages of them, and the library ``h2`` events, which costs more than the transfer itself; here
a frame's payload is looked at only if it is a header block. The library ``hpack`` decompresses headers.
"""
