"""How an outgoing call ended: maps trailers, resets and HTTP statuses to gRPC statuses."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote

import grpc
import grpc.aio

from exporter.rpc.http2.frames import ErrorCode
from exporter.rpc.http2.grpc import Metadata, metadata_of
from exporter.rpc.http2.headers import Headers

CONTENT_TYPE = "application/grpc"

_CODES = {code.value[0]: code for code in grpc.StatusCode}

# gRPC over HTTP/2, "HTTP2 Transport Mapping"; all other codes are INTERNAL.
_RESETS = {
    ErrorCode.REFUSED_STREAM: grpc.StatusCode.UNAVAILABLE,
    ErrorCode.CANCEL: grpc.StatusCode.CANCELLED,
    ErrorCode.ENHANCE_YOUR_CALM: grpc.StatusCode.RESOURCE_EXHAUSTED,
}

# gRPC, "HTTP to gRPC Status Code Mapping", for responses that are not gRPC; all other statuses are UNKNOWN.
_HTTP = {
    "400": grpc.StatusCode.INTERNAL,
    "401": grpc.StatusCode.UNAUTHENTICATED,
    "403": grpc.StatusCode.PERMISSION_DENIED,
    "404": grpc.StatusCode.UNIMPLEMENTED,
    "429": grpc.StatusCode.UNAVAILABLE,
    "502": grpc.StatusCode.UNAVAILABLE,
    "503": grpc.StatusCode.UNAVAILABLE,
    "504": grpc.StatusCode.UNAVAILABLE,
}


@dataclass(frozen=True, slots=True)
class CallEnd:
    """The end of a call.

    Attributes:
        code: The gRPC status code.
        details: The status message.
        trailers: The trailing metadata.
    """

    code: grpc.StatusCode
    details: str = ""
    trailers: Metadata = ()

    def error(self, initial: Metadata = ()) -> grpc.aio.AioRpcError:
        """The exception that a gRPC channel would raise.

        Args:
            initial: The initial metadata.
        """
        return grpc.aio.AioRpcError(
            self.code, grpc.aio.Metadata(*initial), grpc.aio.Metadata(*self.trailers), self.details
        )


def end_of_trailers(headers: Headers) -> CallEnd:
    """Parse the end of a call from its trailers, or from a trailers-only response."""
    values = {bytes(name): bytes(value).decode("utf-8", "replace") for name, value in headers}
    number = values.get(b"grpc-status")
    if number is None:
        return _without_status(values)
    code = _CODES.get(int(number), grpc.StatusCode.UNKNOWN) if number.isdecimal() else grpc.StatusCode.UNKNOWN
    trailers = tuple((k, v) for k, v in metadata_of(headers) if k not in _NOT_METADATA)
    return CallEnd(code, unquote(values.get(b"grpc-message", "")), trailers)


_NOT_METADATA = {"grpc-status", "grpc-message", "content-type"}


def end_of_answer(headers: Headers) -> CallEnd | None:
    """The end of a call whose response headers are not gRPC's; None if they are."""
    values = {bytes(name): bytes(value).decode("utf-8", "replace") for name, value in headers}
    if values.get(b":status") == "200" and values.get(b"content-type", "").startswith(CONTENT_TYPE):
        return None
    return _without_status(values)


def end_of_reset(code: int) -> CallEnd:
    """The end of a call whose stream the peer has reset."""
    name = ErrorCode(code).name if code in set(ErrorCode) else f"error {code}"
    return CallEnd(
        _RESETS.get(ErrorCode(code), grpc.StatusCode.INTERNAL)
        if code in set(ErrorCode)
        else grpc.StatusCode.INTERNAL,
        f"the call was reset by the peer (RST_STREAM: {name})",
    )


def _without_status(values: dict[bytes, str]) -> CallEnd:
    status = values.get(b":status")
    if status is None or status == "200":
        kind = values.get(b"content-type", CONTENT_TYPE)
        if status is not None and not kind.startswith(CONTENT_TYPE):
            return CallEnd(grpc.StatusCode.UNKNOWN, f"the answer is not gRPC's: its content type is {kind!r}")
        return CallEnd(grpc.StatusCode.UNKNOWN, "the call has ended without a status")
    return CallEnd(_HTTP.get(status, grpc.StatusCode.UNKNOWN), f"HTTP status {status}")
