"""Header blocks that are sent (RFC 7541).

All headers are literals. Tables of headers sent before, and Huffman codes, save bytes, which cost next to
nothing here; keeping them takes a large part of the time of a short call.
"""

from __future__ import annotations

from collections.abc import Iterable

from exporter.bridge.http2.frames import varint

NO_TABLE = b"\x20"
"""What the first block of a connection begins with: there is no table, whatever size the peer allows."""

_LITERAL, _SECRET = b"\x00", b"\x10"
_ONE_BYTE = 0x7F


def encode_headers(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Encode headers. Those that were received as never to be indexed are sent as such."""
    out = []
    for header in headers:
        name, value = header
        out += [
            _LITERAL if getattr(header, "indexable", True) else _SECRET,
            _length(len(name)),
            name,
            _length(len(value)),
            value,
        ]
    return b"".join(out)


def _length(value: int) -> bytes:
    return bytes((value,)) if value < _ONE_BYTE else b"\x7f" + varint(value - _ONE_BYTE)
