"""Adding images to the ``index.json`` of an OCI layout, with group commit."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from exporter.content.concurrency import map_each
from exporter.content.files import read_file
from exporter.content.index import LayoutIndex
from exporter.content.staging import Staging, replace_file
from exporter.content.threads import run_in_thread
from exporter.errors import FailedPreconditionError, UnavailableError
from exporter.image import Descriptor, ImageError

T = TypeVar("T")

_LIMIT = 64 << 20
_CHECKS_AT_ONCE = 4


class IndexFile:
    """The file ``index.json``. It is parsed only if it has changed.

    All calls block. They may come from several threads; to change the file, hold the layout's lock, too.

    Args:
        path: The file.
        staging: The directory for the next version.
    """

    def __init__(self, path: Path, staging: Staging) -> None:
        self._path = path
        self._staging = staging
        self._mutex = threading.Lock()
        self._kept: tuple[bytes, LayoutIndex] | None = None

    def read(self, read: Callable[[LayoutIndex], T]) -> T:
        """Call a function with the index, which it must not change; an empty one if there is no file.

        Raises:
            FailedPreconditionError: the file is not an index, or what is read is malformed.
        """
        with self._mutex, self._naming():
            return read(self._load())

    def change(self, change: Callable[[LayoutIndex], bool]) -> None:
        """Change the file atomically.

        Args:
            change: Changes the index; returns whether it did.

        Raises:
            FailedPreconditionError: it is not an index.
            OSError: it cannot be written; the file is as it was.
        """
        with self._mutex, self._naming():
            index = self._load()
            self._kept = None  # until the file has the same changes
            if change(index):
                data = index.marshal()
                replace_file(self._staging, self._path, data)
                self._kept = data, index

    def _load(self) -> LayoutIndex:
        try:
            data = read_file(self._path, _LIMIT)
        except FileNotFoundError:
            return LayoutIndex()
        # Timestamps are too coarse to tell two versions apart; comparing takes far less time than parsing.
        if self._kept is None or self._kept[0] != data:
            self._kept = data, LayoutIndex.parse(data)
        return self._kept[1]

    @contextmanager
    def _naming(self) -> Iterator[None]:
        try:
            yield
        except ImageError as error:
            raise FailedPreconditionError(f"{self._path}: {error}") from error


@dataclass(frozen=True, slots=True, eq=False)
class Publication:
    """An image or index to be added.

    Attributes:
        descriptor: Its descriptor.
        names: Full image names.
        tags: Names within the layout.
    """

    descriptor: Descriptor
    names: Sequence[str] = ()
    tags: Sequence[str] = ()

    def enter(self, index: LayoutIndex) -> None:
        """Add it to an index."""
        for name in self.names:
            index.insert_name(self.descriptor, name)
        for tag in self.tags:
            index.insert_tag(self.descriptor, tag)
        if not self.names and not self.tags:
            index.insert(self.descriptor)


class Publisher:
    """Adds images to an index, in order of arrival.

    Most of the time is spent writing the index to disk, under a lock that other processes take as well. So
    the call that gets the lock adds all images that are waiting at that moment ("group commit").

    Args:
        file: The index.
        locked: Takes the layout's lock.
        check: Raises an error if an image is not complete; called under the lock.
    """

    def __init__(
        self,
        file: IndexFile,
        locked: Callable[[], AbstractAsyncContextManager[None]],
        check: Callable[[Descriptor], Awaitable[None]],
    ) -> None:
        self._file = file
        self._locked = locked
        self._check = check
        self._turn = asyncio.Lock()
        self._waiting: dict[Publication, asyncio.Future[None]] = {}

    async def publish(self, publication: Publication) -> None:
        """Add an image. When this returns, it is on disk.

        A call that is cancelled has added it or not; it adds nothing after it has returned.

        Raises:
            FailedPreconditionError: it is not complete, or the index cannot be read.
            OSError: the index cannot be written.
            UnavailableError: another process holds the lock for too long.
        """
        done = self._waiting[publication] = asyncio.get_running_loop().create_future()
        try:
            async with self._turn:
                if not done.done():
                    await self._publish_waiting()
        except BaseException:
            if self._waiting.pop(publication, None) is None:
                await _outlast(done)
                done.exception()  # mark it as retrieved; the caller gets the other one
            raise
        await done

    async def _publish_waiting(self) -> None:
        try:
            async with self._locked():
                batch, self._waiting = self._waiting, {}
                # Not to be cancelled with the one that happens to have the lock.
                await _outlast(asyncio.create_task(self._publish(batch), name="publishing images"))
        except UnavailableError as error:  # the others would wait as long for the same lock
            batch, self._waiting = self._waiting, {}
            for done in batch.values():
                done.set_exception(error)

    async def _publish(self, batch: Mapping[Publication, asyncio.Future[None]]) -> None:
        """Decide about each publication of a batch."""

        async def check(publication: Publication) -> None:
            try:
                await self._check(publication.descriptor)
            except Exception as error:
                batch[publication].set_exception(error)

        try:
            await map_each(batch, check, _CHECKS_AT_ONCE)
            complete = [publication for publication, done in batch.items() if not done.done()]
            if complete:
                await run_in_thread(self._file.change, partial(_enter, complete))
        except BaseException as error:
            for done in batch.values():
                if not done.done():
                    done.set_exception(error) if isinstance(error, Exception) else done.cancel()
            if not isinstance(error, Exception):
                raise
        for done in batch.values():
            if not done.done():
                done.set_result(None)


def _enter(publications: Sequence[Publication], index: LayoutIndex) -> bool:
    for publication in publications:
        publication.enter(index)
    return True


async def _outlast(future: asyncio.Future[None]) -> None:
    """Wait until a future is done, even when cancelled."""
    cancellation: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError as error:
            cancellation = error
    if cancellation is not None:
        raise cancellation
