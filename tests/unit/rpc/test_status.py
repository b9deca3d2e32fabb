from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2  # type: ignore[import-untyped]
from grpc_status import rpc_status
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.errors import (
    Code,
    DataLossError,
    DeadlineError,
    ExporterError,
    FailedPreconditionError,
    Failure,
    ImageError,
    InvalidArgumentError,
    LayerChainError,
    NotFoundError,
    PermissionDeniedError,
    ResourceExhaustedError,
    UnavailableError,
)
from exporter.rpc.status import StatusInterceptor, abort, from_rpc_error, rpc_errors, to_status

Handler = Callable[[Any, Any], Any]


@asynccontextmanager
async def serving(
    handler: Handler, kind: str = "unary_unary", *, intercepted: bool = True
) -> AsyncIterator[Any]:
    """A channel to a server with the method /t/m that passes bytes as they are."""
    server = grpc.aio.server(interceptors=[StatusInterceptor()] if intercepted else [])
    make = getattr(grpc, f"{kind}_rpc_method_handler")
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("t", {"m": make(handler)}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel
    finally:
        await server.stop(None)


async def error_of(handler: Handler, *, intercepted: bool = True) -> grpc.aio.AioRpcError:
    async with serving(handler, intercepted=intercepted) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary("/t/m")(b"")
        return caught.value


def raising(error: BaseException) -> Handler:
    async def handler(request: bytes, context: Any) -> bytes:
        raise error

    return handler


def details_of(error: grpc.aio.AioRpcError) -> dict[str, Any]:
    status = rpc_status.from_call(error)  # type: ignore[arg-type]
    assert status is not None
    found = {}
    for detail in status.details:
        for kind in (error_details_pb2.ErrorInfo, error_details_pb2.BadRequest, error_details_pb2.RetryInfo):
            message = kind()
            if detail.Unpack(message):
                found[kind.DESCRIPTOR.name] = message
    return found


@pytest.mark.parametrize(
    "kind",
    [
        DataLossError,
        DeadlineError,
        FailedPreconditionError,
        InvalidArgumentError,
        NotFoundError,
        PermissionDeniedError,
        ResourceExhaustedError,
        UnavailableError,
    ],
)
@pytest.mark.parametrize("field", [None, "source.refs[linux/amd64].id"])
async def test_our_errors_survive_the_wire(kind: type[ExporterError], field: str | None) -> None:
    error = await error_of(raising(kind("größer als 5 %", field=field)))
    assert error.code().name == kind.code.name
    back = from_rpc_error(error)
    assert type(back) is kind
    assert (back.message, back.field) == ("größer als 5 %", field)


async def test_details_say_domain_reason_and_field() -> None:
    error = await error_of(raising(InvalidArgumentError("no such thing", field="attrs[compression]")))
    details = details_of(error)
    assert details.keys() == {"ErrorInfo", "BadRequest"}
    assert details["ErrorInfo"].domain == "buildkit.exporter"
    assert details["ErrorInfo"].reason == "INVALID_ARGUMENT"
    [violation] = details["BadRequest"].field_violations
    assert (violation.field, violation.description) == ("attrs[compression]", "no such thing")


async def test_retryable_errors_say_when_to_retry() -> None:
    details = details_of(await error_of(raising(UnavailableError("gone"))))
    assert details.keys() == {"ErrorInfo", "RetryInfo"}
    assert details["RetryInfo"].retry_delay.seconds == 1


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ImageError("bad config"), grpc.StatusCode.INVALID_ARGUMENT),
        (LayerChainError("index out of range"), grpc.StatusCode.FAILED_PRECONDITION),
        (TimeoutError(), grpc.StatusCode.DEADLINE_EXCEEDED),
        (ConnectionResetError("gone"), grpc.StatusCode.UNAVAILABLE),
        (NotImplementedError("Method not implemented!"), grpc.StatusCode.UNIMPLEMENTED),
    ],
)
async def test_other_failures_have_codes_too(error: Exception, code: grpc.StatusCode) -> None:
    assert (await error_of(raising(error))).code() is code


async def test_a_bug_is_internal_and_leaves_its_trace_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "exporter.rpc.status"):
        error = await error_of(raising(KeyError("x")))
    assert error.code() is grpc.StatusCode.INTERNAL
    assert any(record.exc_info for record in caplog.records)


async def test_a_peers_failure_inside_a_handler_is_not_our_bug() -> None:
    peer = grpc.aio.AioRpcError(
        grpc.StatusCode.UNKNOWN, grpc.aio.Metadata(), grpc.aio.Metadata(), details="disk on fire"
    )
    error = await error_of(raising(peer))
    assert (error.code(), error.details()) == (grpc.StatusCode.FAILED_PRECONDITION, "disk on fire")


@pytest.mark.parametrize(
    ("code", "details", "kind"),
    [
        (grpc.StatusCode.CANCELLED, "context canceled", UnavailableError),
        (grpc.StatusCode.ABORTED, "try again", UnavailableError),
        (grpc.StatusCode.ALREADY_EXISTS, "there it is", FailedPreconditionError),
        (grpc.StatusCode.UNIMPLEMENTED, "unknown method", FailedPreconditionError),
        (grpc.StatusCode.OUT_OF_RANGE, "behind the end", InvalidArgumentError),
        (grpc.StatusCode.UNAUTHENTICATED, "who are you", PermissionDeniedError),
        (grpc.StatusCode.UNKNOWN, "write /x: no space left on device", FailedPreconditionError),
        (grpc.StatusCode.INTERNAL, "Internal error from Core", UnavailableError),
        (grpc.StatusCode.UNKNOWN, "Stream removed", UnavailableError),
        (grpc.StatusCode.INTERNAL, "Received RST_STREAM with error code 2", UnavailableError),
    ],
)
def test_peers_codes_become_errors_of_ours(
    code: grpc.StatusCode, details: str, kind: type[ExporterError]
) -> None:
    peer = grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details=details)
    error = from_rpc_error(peer, "reading")
    assert type(error) is kind
    assert error.message == f"reading: {details}"


def test_unknown_details_are_ignored() -> None:
    trailers = grpc.aio.Metadata(("grpc-status-details-bin", b"\xff\xff"))
    peer = grpc.aio.AioRpcError(grpc.StatusCode.NOT_FOUND, grpc.aio.Metadata(), trailers, details="nope")
    assert from_rpc_error(peer).field is None


async def test_the_context_is_not_repeated() -> None:
    error = await error_of(raising(NotFoundError("blob sha256:1 not found")))
    assert from_rpc_error(error, "blob sha256:1").message == "blob sha256:1 not found"


async def test_calls_on_a_closed_channel_are_unavailable() -> None:
    channel: Any = grpc.aio.insecure_channel("unix:/nowhere")
    await channel.close()
    with pytest.raises(UnavailableError, match="reading: the connection is closed"), rpc_errors("reading"):
        await channel.unary_unary("/t/m")(b"")


async def test_long_messages_lose_their_middle_and_arrive() -> None:
    text = "begin " + "ü" * 100_000 + " end"
    error = await error_of(raising(InvalidArgumentError(text, field="x" * 100_000)))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    details = error.details() or ""
    assert details.startswith("begin ü")
    assert details.endswith("ü end")
    assert "[…]" in details


@given(st.text(st.characters(exclude_categories=[])), st.sampled_from(list(Code)))
def test_any_text_makes_a_status(text: str, code: Code) -> None:
    status = to_status(Failure(code, text, text))
    assert status.code.value[0] == code.value
    size = len(status.details.encode()) + sum(len(value) for _, value in status.trailing_metadata or ())
    assert size < 8192


@settings(max_examples=25)
@given(st.text(max_size=1000))
def test_any_text_arrives(text: str) -> None:
    error = asyncio.run(error_of(raising(NotFoundError(text))))
    assert from_rpc_error(error).message == (text or "NOT_FOUND")


async def test_handlers_may_choose_a_status_themselves() -> None:
    async def handler(request: bytes, context: Any) -> bytes:
        await abort(context, Failure(Code.ALREADY_EXISTS, "have it"))

    error = await error_of(handler)
    assert (error.code(), error.details()) == (grpc.StatusCode.ALREADY_EXISTS, "have it")
    assert (await error_of(handler, intercepted=False)).code() is grpc.StatusCode.ALREADY_EXISTS


async def test_streams_fail_after_what_they_have_sent() -> None:
    async def handler(request: bytes, context: Any) -> AsyncIterator[bytes]:
        yield b"1"
        yield b"2"
        raise NotFoundError("no third")

    async with serving(handler, "unary_stream") as channel:
        call = channel.unary_stream("/t/m")(b"")
        assert [await call.read(), await call.read()] == [b"1", b"2"]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_methods_that_read_a_stream_work() -> None:
    async def echo(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        async for request in requests:
            yield request.upper()

    async def join(requests: AsyncIterator[bytes], context: Any) -> bytes:
        return b"".join([request async for request in requests])

    async with serving(echo, "stream_stream") as channel:
        call = channel.stream_stream("/t/m")(iter((b"a", b"b")))
        assert [message async for message in call] == [b"A", b"B"]
    async with serving(join, "stream_unary") as channel:
        assert await channel.stream_unary("/t/m")(iter((b"a", b"b"))) == b"ab"


async def test_unknown_methods_stay_unimplemented() -> None:
    async with serving(raising(ValueError())) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary("/t/other")(b"")
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("blocked_at", ["await", "yield"])
async def test_a_cancelled_stream_is_closed_at_once(blocked_at: str) -> None:
    closed, going = asyncio.Event(), asyncio.Event()

    async def handler(request: bytes, context: Any) -> AsyncIterator[bytes]:
        try:
            going.set()
            if blocked_at == "await":
                await asyncio.Event().wait()
            while True:
                yield bytes(1 << 20)
        finally:
            closed.set()

    async with serving(handler, "unary_stream") as channel:
        call = channel.unary_stream("/t/m")(b"")
        await going.wait()
        if blocked_at == "yield":
            await call.read()
        call.cancel()
        async with asyncio.timeout(10):
            await closed.wait()


async def test_cancellation_reaches_the_handler() -> None:
    cancelled, going = asyncio.Event(), asyncio.Event()

    async def handler(request: bytes, context: Any) -> bytes:
        going.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return b""

    async with serving(handler) as channel:
        task = asyncio.ensure_future(channel.unary_unary("/t/m")(b""))
        await going.wait()
        task.cancel()
        async with asyncio.timeout(10):
            await cancelled.wait()
