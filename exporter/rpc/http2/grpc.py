"""gRPC over HTTP/2: the mapping of calls, metadata and statuses to headers."""

from __future__ import annotations

import base64
import binascii
from urllib.parse import quote

import grpc

from exporter.errors import Code
from exporter.rpc.http2.frames import ErrorCode
from exporter.rpc.http2.headers import Headers
from exporter.rpc.http2.stream import Stream


def path_of(headers: Headers) -> str:
    """The method of a call, ``/package.Service/Method``; empty if ``:path`` is missing."""
    return next((value.decode("latin-1") for name, value in headers if name == b":path"), "")


def header_values(headers: Headers, name: str) -> list[str]:
    """All values of a header, in order."""
    key = name.encode()
    return [value.decode("utf-8", "replace") for found, value in headers if found == key]


Metadata = tuple[tuple[str, str | bytes], ...]

RESPONSE_HEADERS: Headers = [(b":status", b"200"), (b"content-type", b"application/grpc")]
"""The headers of every response."""

_BINARY = "-bin"
_PLAIN = " !#$&'()*+,-./:;<=>?@[]^_`{|}~\"\\"


def metadata_of(headers: Headers) -> Metadata:
    """Convert headers to metadata. Values are text, or bytes if their keys end in ``-bin``."""
    return tuple(
        (name.decode("latin-1"), _binary(value) if name.endswith(_BINARY.encode()) else _text(value))
        for name, value in headers
        if not name.startswith(b":")
    )


def metadata_headers(metadata: Metadata) -> Headers:
    """Convert metadata to headers, with bytes in base64."""
    return [
        (key.encode(), value.encode() if isinstance(value, str) else base64.b64encode(value).rstrip(b"="))
        for key, value in metadata
    ]


def status_headers(code: grpc.StatusCode, message: str, metadata: Metadata = ()) -> Headers:
    """The trailers that end a call."""
    headers = [(b"grpc-status", str(code.value[0]).encode())]
    if message:
        headers.append((b"grpc-message", quote(message, safe=_PLAIN).encode()))
    return headers + metadata_headers(metadata)


def end_with_status(stream: Stream, code: Code, message: str) -> None:
    """Answer a call with only a status (a trailers-only response)."""
    stream.send_headers([*RESPONSE_HEADERS, *status_headers(grpc.StatusCode[code.name], message)], end=True)
    if not stream.remote_ended:
        stream.reset(ErrorCode.NO_ERROR)


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _binary(value: bytes) -> bytes:
    try:
        return base64.b64decode(value + b"=" * (-len(value) % 4), validate=True)
    except binascii.Error:
        return value
