"""Converting failures to gRPC statuses and back: the only module that knows both `exporter.errors` and gRPC.

A status carries ``google.rpc`` details: `ErrorInfo` always, `BadRequest` with the path of the invalid field
if known, `RetryInfo` if a retry may help. In the other direction, a status becomes the exception that our own
code would have raised, so that a failure keeps its meaning across processes. ``INTERNAL`` and ``UNKNOWN`` are
reserved for bugs of ours; if a peer returns them, it has failed for its own reasons, which is not a bug here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from inspect import isasyncgenfunction, iscoroutinefunction
from typing import Any, NoReturn, Protocol, cast

import grpc
from google.protobuf import any_pb2, message
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]
from grpc_status import rpc_status

from exporter.errors import (
    Code,
    DataLossError,
    DeadlineError,
    ExporterError,
    FailedPreconditionError,
    Failure,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    ResourceExhaustedError,
    UnavailableError,
    failure_of,
)

DOMAIN = "buildkit.exporter"
"""`ErrorInfo.domain` of our statuses."""

RETRY_SECONDS = 1
"""The delay that `RetryInfo` recommends."""

_LOG = logging.getLogger(__name__)

# HTTP/2 headers carry a status: the message twice, and once more with a field. Peers refuse
# headers above 8 KiB in an obscure way, so a long message (a config quoted in it, the output of a program)
# loses its middle.
_MESSAGE_LIMIT = 1500
_DESCRIPTION_LIMIT = 500

_ERRORS: dict[grpc.StatusCode, type[ExporterError]] = {
    grpc.StatusCode.CANCELLED: UnavailableError,
    grpc.StatusCode.UNKNOWN: FailedPreconditionError,
    grpc.StatusCode.INVALID_ARGUMENT: InvalidArgumentError,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineError,
    grpc.StatusCode.NOT_FOUND: NotFoundError,
    grpc.StatusCode.ALREADY_EXISTS: FailedPreconditionError,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDeniedError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ResourceExhaustedError,
    grpc.StatusCode.FAILED_PRECONDITION: FailedPreconditionError,
    grpc.StatusCode.ABORTED: UnavailableError,
    grpc.StatusCode.OUT_OF_RANGE: InvalidArgumentError,
    grpc.StatusCode.UNIMPLEMENTED: FailedPreconditionError,
    grpc.StatusCode.INTERNAL: FailedPreconditionError,
    grpc.StatusCode.UNAVAILABLE: UnavailableError,
    grpc.StatusCode.DATA_LOSS: DataLossError,
    grpc.StatusCode.UNAUTHENTICATED: PermissionDeniedError,
}

# gRPC itself uses INTERNAL or UNKNOWN for some connection failures.
_LOST_CONNECTION = ("RST_STREAM", "Stream removed", "Internal error from Core", "GOAWAY", "Connection reset")


def to_status(failure: Failure) -> grpc.Status:
    """Convert a failure to a status, with details in the trailing metadata."""
    text = _shorten(failure.message, _MESSAGE_LIMIT)
    details: list[message.Message] = [
        error_details_pb2.ErrorInfo(reason=failure.code.name, domain=DOMAIN),
    ]
    if failure.field is not None:
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=_shorten(failure.field, _DESCRIPTION_LIMIT), description=_shorten(text, _DESCRIPTION_LIMIT)
        )
        details.append(error_details_pb2.BadRequest(field_violations=[violation]))
    if failure.code is Code.UNAVAILABLE:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromSeconds(RETRY_SECONDS)
        details.append(retry)
    status = status_pb2.Status(code=failure.code.value, message=text, details=[_any(d) for d in details])
    return rpc_status.to_status(status)


class Abortable(Protocol):
    """A call that can be aborted with a status: `grpc.aio.ServicerContext`, or a replacement."""

    async def abort(
        self,
        code: grpc.StatusCode,
        details: str = "",
        trailing_metadata: tuple[tuple[str, str | bytes], ...] = (),
        /,
    ) -> NoReturn:
        """Abort the call by raising `grpc.aio.AbortError`."""
        ...


async def abort(context: Abortable, failure: Failure | BaseException) -> NoReturn:
    """Abort an incoming call with the status of a failure.

    Raises:
        Exception: always, like `grpc.aio.ServicerContext.abort`; do not catch it.
    """
    if isinstance(failure, grpc.aio.AioRpcError):
        failure = from_rpc_error(failure)
    if isinstance(failure, NotImplementedError):  # generated servicers raise it for unimplemented methods
        failure = Failure(Code.UNIMPLEMENTED, str(failure))
    if isinstance(failure, BaseException):
        error, failure = failure, failure_of(failure)
        is_explained = failure.code is Code.UNKNOWN and isinstance(error, ExporterError)
        if failure.code in {Code.INTERNAL, Code.UNKNOWN} and not is_explained:
            _LOG.error("unexpected failure of a call", exc_info=error)
    status = to_status(failure)
    await context.abort(status.code, status.details, tuple(status.trailing_metadata or ()))


def from_rpc_error(error: grpc.aio.AioRpcError, doing: str = "") -> ExporterError:
    """Convert the error of a call to a peer to one of our exceptions.

    Args:
        error: The error.
        doing: The call's purpose, as a prefix for the peer's message.
    """
    code, text = error.code(), error.details() or error.code().name
    kind = _ERRORS.get(code, FailedPreconditionError)
    if code in {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN} and any(
        w in text for w in _LOST_CONNECTION
    ):
        kind = UnavailableError
    if doing and doing not in text:  # our own messages often name the blob or ref already
        text = f"{doing}: {text}"
    return kind(text, field=_field_of(error))


@contextmanager
def rpc_errors(doing: str = "") -> Iterator[None]:
    """Convert errors of calls to a peer in the block to our exceptions.

    Args:
        doing: See `from_rpc_error`.
    """
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error, doing) from error
    except grpc.aio.UsageError as error:
        # The channel was closed during the call, because the session has ended.
        raise UnavailableError(f"{doing}: the connection is closed" if doing else str(error)) from error


class StatusInterceptor(grpc.aio.ServerInterceptor):
    """Converts every exception of a handler of an asynchronous server to a status.

    So servicers just raise. Cancellation and a status that a handler has already chosen pass unchanged.
    """

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Wrap the handler of a call, if there is one."""
        handler = await continuation(handler_call_details)
        for name in ("unary_unary", "unary_stream", "stream_unary", "stream_stream"):
            behaviour = getattr(handler, name, None)
            if handler is not None and behaviour is not None:
                make: Callable[..., grpc.RpcMethodHandler[Any, Any]]
                make = getattr(grpc, f"{name}_rpc_method_handler")
                deserialize = _deserializer(handler.request_deserializer)
                if name.startswith("unary_") and deserialize is not None:
                    # gRPC would log a deserializer's exception as a bug of ours, and return UNKNOWN.
                    behaviour, deserialize = _reading(behaviour, deserialize), None
                return make(_guarded(behaviour), deserialize, handler.response_serializer)
        return handler


def _deserializer(deserialize: Callable[[bytes], Any] | None) -> Callable[[bytes], Any] | None:
    """Convert a deserializer's exceptions to invalid-argument errors for the caller."""
    if deserialize is None:
        return None

    def checked(data: bytes) -> Any:
        try:
            return deserialize(data)
        except message.DecodeError as error:
            raise InvalidArgumentError(
                f"the request is not the message that it should be: {error}"
            ) from error

    return checked


def _reading(behaviour: Any, deserialize: Callable[[bytes], Any]) -> Any:
    """Make a handler of single requests accept bytes."""
    if iscoroutinefunction(behaviour):

        async def call(request: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            return await behaviour(deserialize(request), context)

        return call
    if isasyncgenfunction(behaviour):

        async def generate(request: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            async with aclosing(behaviour(deserialize(request), context)) as responses:
                async for response in responses:
                    yield response

        return generate
    return lambda request, context: behaviour(deserialize(request), context)


def _guarded(behaviour: Any) -> Any:
    """Wrap a handler.

    A handler that yields its responses becomes one that writes them: gRPC does not close the generators of
    cancelled calls, so their ``finally`` would run at some later time.
    """
    if not isasyncgenfunction(behaviour) and not iscoroutinefunction(behaviour):
        return behaviour

    async def call(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        try:
            if iscoroutinefunction(behaviour):
                return await behaviour(request, context)
            async with aclosing(behaviour(request, context)) as responses:
                async for response in responses:
                    await context.write(response)
        except (asyncio.CancelledError, grpc.aio.AbortError):
            raise
        except BaseException as error:
            await abort(context, error)

    return call


def _field_of(error: grpc.aio.AioRpcError) -> str | None:
    try:
        status = rpc_status.from_call(cast(grpc.Call, error))
        for detail in status.details if status is not None else ():
            request = error_details_pb2.BadRequest()
            if detail.Unpack(request) and request.field_violations:
                return request.field_violations[0].field or None
    except (ValueError, message.DecodeError):
        # Details from other implementations: BuildKit's are JSON, and proxies change messages.
        return None
    return None


def _any(detail: message.Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(detail)
    return packed


def _shorten(text: str, limit: int) -> str:
    """Cut out the middle of a text longer than `limit` bytes, and make it valid UTF-8."""
    data = text.encode("utf-8", "backslashreplace")
    if len(data) <= limit:
        return data.decode("utf-8")
    head = data[: limit * 2 // 3].decode("utf-8", "ignore")
    tail = data[-(limit // 4) :].decode("utf-8", "ignore")
    return f"{head} […] {tail}"
