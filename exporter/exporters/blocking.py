"""Blocking exporters: `export` is a function in its own thread, with a synchronous context."""

from __future__ import annotations

import abc
import asyncio
import concurrent.futures
import contextvars
import inspect
import io
import threading
from collections.abc import AsyncIterator, Awaitable, Iterable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar, cast

from exporter.errors import InvalidArgumentError
from exporter.exporters.base import ExportContext, Exporter, ExportResult, O_co
from exporter.progress.producer import VertexProgress
from exporter.source.types import BuildInfo, Source

if TYPE_CHECKING:
    from exporter.exporters.destinations import FileSink
    from exporter.images import Image, ImageIndex
    from exporter.layer.entry import FileEntry

__all__ = ["BlockingContext", "BlockingExporter", "run_export"]

T = TypeVar("T")

_BUFFER = 1 << 18
"""Bytes that are read or written per trip to the event loop."""


class BlockingExporter(Exporter[O_co]):
    """An exporter whose `export` is an ordinary function, which may block.

    It runs in its own thread. `Source`, images and destinations are asynchronous; wait for them with
    `BlockingContext.wait`. A finalizer remains a coroutine function.
    """

    @abc.abstractmethod
    def export(self, source: Source, context: BlockingContext) -> ExportResult:
        """Create the artifact.

        If the client goes away, the next use of `context` raises `asyncio.CancelledError`, because a thread
        cannot be interrupted. Roll back unfinished work then.
        """


class BlockingContext:
    """The context of a `BlockingExporter`; see `ExportContext`. Use it only in the export's thread.

    Attributes:
        asynchronous: The context of asynchronous exporters, for use with `wait`.
        build: Information about the build.
        progress: The vertex of this export.
        scratch: A directory for this export only. It is removed after the export and its finalizer.
    """

    def __init__(self, context: ExportContext, loop: asyncio.AbstractEventLoop) -> None:
        self.asynchronous = context
        self.build: BuildInfo = context.build
        self.progress: VertexProgress = context.progress.in_thread(loop)
        self.scratch: Path = context.scratch
        self._loop = loop
        self._loop_thread = threading.get_ident()
        self._lock = threading.Lock()
        self._running: set[concurrent.futures.Future[Any]] = set()
        self._is_cancelled = False

    def wait(self, awaitable: Awaitable[T]) -> T:
        """Run an awaitable on the event loop and wait for it: ``context.wait(ref.remote())``.

        Raises:
            asyncio.CancelledError: the export has been cancelled.
        """
        return self._result(self._start(awaitable))

    def open(
        self, stream: AbstractAsyncContextManager[AsyncIterator[bytes]]
    ) -> AbstractContextManager[BinaryIO]:
        """Read a stream as a file: ``with context.open(layer.open(uncompressed=True)) as file``.

        The stream is verified at its end. Do not publish anything that depends on it before that.
        """
        return self._opened(stream)

    def file(self, response: Mapping[str, str] | None = None) -> AbstractContextManager[BinaryIO]:
        """Write the file for the client. The end of the block commits it; an error in the block discards it.

        Args:
            response: The response keys known so far.

        Raises:
            InvalidArgumentError: the client accepts no files.
        """
        return self._file(response or {})

    def directory(self, entries: Iterable[FileEntry], *, delete: bool = False) -> None:
        """Write files into the client's directory; see `Output.directory`.

        Raises:
            InvalidArgumentError: the client accepts no files, or the entries are out of order.
        """
        self.wait(self._output().directory(entries, delete=delete))

    def image(self, source: Source, attrs: Mapping[str, str] | None = None) -> Image | ImageIndex:
        """Make the image that BuildKit would make from a build result; see `ExportContext.image`."""
        return self.wait(self.asynchronous.image(source, attrs))

    def delegate(
        self, exporter: str | Exporter, source: Source, attrs: Mapping[str, str] | None = None
    ) -> ExportResult:
        """Export a build result with another exporter; see `ExportContext.delegate`."""
        return self.wait(self.asynchronous.delegate(exporter, source, attrs))

    def write(
        self,
        image: Image | ImageIndex,
        to: str | Exporter | None = None,
        attrs: Mapping[str, str] | None = None,
    ) -> ExportResult:
        """Write an image to the destination of this export; see `ExportContext.write`."""
        return self.wait(self.asynchronous.write(image, to, attrs))

    @contextmanager
    def entered(self, manager: AbstractAsyncContextManager[T]) -> Iterator[T]:
        """Enter an asynchronous context manager: ``with context.entered(...) as value``.

        One task enters and exits it. If the block fails, the manager gets an exception of a private type.
        """
        opened: concurrent.futures.Future[tuple[T, asyncio.Future[None]]] = concurrent.futures.Future()
        holding = self._start(_hold(manager, opened))
        holding.add_done_callback(lambda _: opened.cancel())  # if cancelled before it started
        value, leave = self._result(opened)
        try:
            yield value
        except BaseException:
            self._loop.call_soon_threadsafe(_settle, leave, _AbandonedError())
            with suppress(Exception, asyncio.CancelledError):
                holding.result()
            raise
        self._loop.call_soon_threadsafe(_settle, leave, None)
        self._result(holding)

    def cancel(self) -> None:
        """Make current and later uses of the context raise `asyncio.CancelledError`."""
        with self._lock:
            self._is_cancelled = True
            running = list(self._running)
        for future in running:
            future.cancel()

    @contextmanager
    def _opened(self, stream: AbstractAsyncContextManager[AsyncIterator[bytes]]) -> Iterator[BinaryIO]:
        with self.entered(stream) as pieces, io.BufferedReader(_Reading(self, pieces), _BUFFER) as reader:
            yield reader

    @contextmanager
    def _file(self, response: Mapping[str, str]) -> Iterator[BinaryIO]:
        with self.entered(self._output().file(response)) as sink:
            writer = io.BufferedWriter(_Writing(self, sink), _BUFFER)
            yield cast(BinaryIO, writer)
            writer.flush()
            self.wait(sink.commit())

    def _output(self) -> Any:
        output = self.asynchronous.output
        if output is None:
            raise InvalidArgumentError("this type writes files: give it a dest", field="attrs[dest]")
        return output

    def _start(self, awaitable: Awaitable[T]) -> concurrent.futures.Future[T]:
        if threading.get_ident() == self._loop_thread:
            _drop(awaitable)
            raise RuntimeError("a BlockingContext is for the thread of its export, not for the event loop")
        with self._lock:
            if self._is_cancelled:
                _drop(awaitable)
                raise asyncio.CancelledError
            future = asyncio.run_coroutine_threadsafe(_awaited(awaitable), self._loop)
            self._running.add(future)
        future.add_done_callback(self._running.discard)
        return future

    def _result(self, future: concurrent.futures.Future[T]) -> T:
        try:
            return future.result()
        except concurrent.futures.CancelledError as error:
            raise asyncio.CancelledError from error


async def run_export(exporter: Exporter, source: Source, context: ExportContext) -> ExportResult:
    """Call `Exporter.export`, in a thread if it is not a coroutine function.

    If cancelled, this waits for the thread to end. The thread does not keep the process alive.
    """
    if inspect.iscoroutinefunction(exporter.export):
        return cast(ExportResult, await exporter.export(source, context))
    loop = asyncio.get_running_loop()
    blocking = BlockingContext(context, loop)
    export = exporter.export
    done: asyncio.Future[tuple[Any, BaseException | None]] = loop.create_future()
    variables = contextvars.copy_context()

    def work() -> None:
        try:
            ended: tuple[Any, BaseException | None] = (variables.run(export, source, blocking), None)
        except BaseException as error:  # raised again below
            ended = (None, error)
        with suppress(RuntimeError):  # the loop is closed: nothing waits any more
            loop.call_soon_threadsafe(done.set_result, ended)

    threading.Thread(target=work, name=f"export {exporter.type}", daemon=True).start()
    try:
        result, error = await asyncio.shield(done)
    except asyncio.CancelledError:
        blocking.cancel()
        while not done.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([done])
        raise
    if error is not None:
        raise error
    if inspect.isawaitable(result):
        result = await result
    return cast(ExportResult, result)


class _AbandonedError(Exception):
    """The block of `BlockingContext.entered` has failed."""


def _drop(awaitable: Awaitable[object]) -> None:
    """Avoid the warning that a coroutine was never awaited."""
    if inspect.iscoroutine(awaitable):
        awaitable.close()


async def _awaited(awaitable: Awaitable[T]) -> T:
    return await awaitable


async def _hold(
    manager: AbstractAsyncContextManager[T], opened: concurrent.futures.Future[tuple[T, asyncio.Future[None]]]
) -> None:
    leave: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    try:
        async with manager as value:
            opened.set_result((value, leave))
            await leave
    except BaseException as error:
        if not opened.done():
            opened.set_exception(error)
        raise


def _settle(leave: asyncio.Future[None], error: Exception | None) -> None:
    if leave.done():
        return
    if error is None:
        leave.set_result(None)
    else:
        leave.set_exception(error)


class _Reading(io.RawIOBase):
    """A stream of pieces as a file."""

    def __init__(self, context: BlockingContext, pieces: AsyncIterator[bytes]) -> None:
        self._context = context
        self._pieces = pieces
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            piece = self._context.wait(_next(self._pieces))
            if piece is None:
                return 0
            self._rest = memoryview(piece)
        size = min(len(buffer), len(self._rest))
        buffer[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size


class _Writing(io.RawIOBase):
    """A sink as a file."""

    def __init__(self, context: BlockingContext, sink: FileSink) -> None:
        self._context = context
        self._sink = sink

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._context.wait(self._sink.write(bytes(data)))
        return len(data)


async def _next(pieces: AsyncIterator[bytes]) -> bytes | None:
    return await anext(pieces, None)
