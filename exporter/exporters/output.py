"""The client's side of ``dest=`` if client and exporter are in the same process: local files."""

from __future__ import annotations

import stat
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

from exporter.content.layout import OCILayout
from exporter.content.lease import Lease, lease_of
from exporter.content.protocol import ContentStore
from exporter.content.staging import Staging
from exporter.content.threads import iterate_in_thread, run_in_thread
from exporter.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError, naming
from exporter.exporters.destinations import FileSink, LayoutSink
from exporter.image import Descriptor

if TYPE_CHECKING:
    from exporter.exporters.files.entry import FileEntry

__all__ = ["STDOUT", "LocalOutput"]

STDOUT = "-"
"""The destination that means standard output."""

_LATEST = "latest"


class LocalOutput:
    """A path, or standard output.

    Files are replaced atomically: an existing file stays until the new one is complete. Devices and pipes are
    written to directly.

    Args:
        dest: Path of the file or directory, or `STDOUT`.
        stdout: The standard output; a parameter for tests.
    """

    def __init__(self, dest: str, *, stdout: BinaryIO | None = None) -> None:
        self._dest = dest
        self._stdout = stdout

    @asynccontextmanager
    async def file(self, response: Mapping[str, str]) -> AsyncIterator[FileSink]:
        """See `Output.file`. The response is ignored.

        Raises:
            FailedPreconditionError: the path is a directory.
            InvalidArgumentError: standard output is a terminal.
            NotFoundError: the path's directory does not exist.
        """
        target = await run_in_thread(self._open)
        try:
            yield _Sink(target)
        finally:
            await run_in_thread(target.close)

    @asynccontextmanager
    async def layout(self) -> AsyncIterator[LayoutSink]:
        """See `Output.layout`.

        Raises:
            InvalidArgumentError: the destination is standard output.
            FailedPreconditionError: the directory is neither empty nor a layout.
        """
        if self._dest == STDOUT:
            raise InvalidArgumentError("a layout directory cannot go to standard output", field="attrs[dest]")
        async with lease_of(await OCILayout.open(self._dest)) as lease:
            yield _LocalLayout(lease)

    async def directory(
        self,
        entries: Iterable[FileEntry],
        *,
        delete: bool = False,
        on_sent: Callable[[int], None] | None = None,
    ) -> None:
        """See `Output.directory`.

        Raises:
            FailedPreconditionError: the destination is a file.
            InvalidArgumentError: it is standard output.
        """
        if self._dest == STDOUT:
            raise InvalidArgumentError("a directory cannot go to standard output", field="attrs[dest]")
        from exporter.exporters.files.directory import write_directory  # slow, and only for trees

        steps = write_directory(Path(self._dest), entries, delete=delete)
        async with aclosing(iterate_in_thread(steps)) as written:
            async for size in written:
                if on_sent is not None:
                    on_sent(size)

    def _open(self) -> _Target:
        if self._dest == STDOUT:
            return _Stream(self._stdout or sys.stdout.buffer, "standard output")
        # Follow symbolic links, to replace their target and not the link.
        path = Path(self._dest).resolve()
        try:
            mode = path.stat().st_mode
        except FileNotFoundError:
            return _File(path, 0o666)
        if stat.S_ISDIR(mode):
            raise FailedPreconditionError(
                f"destination file is a directory: {self._dest}", field="attrs[dest]"
            )
        return (
            _File(path, stat.S_IMODE(mode))
            if stat.S_ISREG(mode)
            else _Stream(path.open("wb", buffering=0), self._dest, owned=True)
        )


class _Target(Protocol):
    """The destination of the bytes. All calls block."""

    def write(self, data: bytes) -> None: ...

    def commit(self) -> None: ...

    def close(self) -> None:
        """Discard uncommitted data, if possible."""
        ...


class _File:
    def __init__(self, path: Path, mode: int) -> None:
        if not path.parent.is_dir():
            raise NotFoundError(f"cannot write {path}: there is no directory {path.parent}")
        self._path = path
        staging = Staging(path.parent / f".{path.name}.partial", path)
        staging.remove_stale()
        self._staged = staging.create(mode=mode)

    def write(self, data: bytes) -> None:
        self._staged.write(data)

    def commit(self) -> None:
        self._staged.publish(self._path)

    def close(self) -> None:
        self._staged.discard()


class _Stream:
    """Something that cannot be replaced: standard output, a pipe, a device."""

    def __init__(self, stream: BinaryIO, name: str, *, owned: bool = False) -> None:
        if not owned and stream.isatty():
            raise InvalidArgumentError(
                "output file is required, refusing to write to console", field="attrs[dest]"
            )
        self._stream = stream
        self._name = name
        self._owned = owned

    def write(self, data: bytes) -> None:
        with naming(self._name):
            view = memoryview(data)
            while view:
                view = view[self._stream.write(view) :]

    def commit(self) -> None:
        with naming(self._name):
            self._stream.flush()

    def close(self) -> None:
        if self._owned:
            self._stream.close()


class _Sink:
    def __init__(self, target: _Target) -> None:
        self._target = target

    async def write(self, data: bytes) -> None:
        await run_in_thread(self._target.write, data)

    async def commit(self) -> None:
        await run_in_thread(self._target.commit)


class _LocalLayout:
    def __init__(self, layout: Lease) -> None:
        self._layout = layout

    @property
    def store(self) -> ContentStore:
        return self._layout

    async def publish(self, root: Descriptor, names: tuple[str, ...]) -> None:
        """Like BuildKit's client, tag an image without names as ``latest``."""
        await self._layout.publish(root, names, tags=() if names else (_LATEST,))
