"""gRPC's use of HTTP/2, as far as the level of frames has to do with it."""

from __future__ import annotations

from urllib.parse import quote

from exporter.bridge.http2.frames import ErrorCode
from exporter.bridge.http2.headers import Headers
from exporter.bridge.http2.stream import Stream
from exporter.errors import Code


def path_of(headers: Headers) -> str:
    """The method of a call, ``/package.Service/Method``; empty if there is none."""
    return next((value.decode("latin-1") for name, value in headers if name == b":path"), "")


def header_values(headers: Headers, name: str) -> list[str]:
    """All values of a header, in order."""
    key = name.encode()
    return [value.decode("utf-8", "replace") for found, value in headers if found == key]


def end_with_status(stream: Stream, code: Code, message: str) -> None:
    """Answer a call with nothing but a status."""
    stream.send_headers(
        [
            (b":status", b"200"),
            (b"content-type", b"application/grpc"),
            (b"grpc-status", str(code.value).encode()),
            (b"grpc-message", quote(message, safe=" !#$&'()*+,-./:;<=>?@[]^_`{|}~\"\\").encode()),
        ],
        end=True,
    )
    if not stream.remote_ended:
        stream.reset(ErrorCode.NO_ERROR)
