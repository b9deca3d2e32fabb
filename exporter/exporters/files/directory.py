"""Writing entries into a directory, as fsutil's receiver does in BuildKit's clients.

There are some deliberate improvements: a file gets its name only when its content is complete; files are only
deleted after everything has arrived; directories get their attributes at the end, so that read-only ones can
be filled without privileges and keep their modification time; extended attributes are set after operations
that would clear them (file capabilities).
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from exporter.content.threads import StepTimer
from exporter.errors import DataLossError, FailedPreconditionError
from exporter.exporters.files import place
from exporter.exporters.files.entry import FileEntry, shown
from exporter.exporters.files.order import EntryOrder
from exporter.exporters.files.run import Run, is_ours
from exporter.layer.tree import Kind

__all__ = ["DirectoryWriter", "NewFile", "write_directory"]

_ROOT_MODE = 0o700


def write_directory(path: Path, entries: Iterable[FileEntry], *, delete: bool) -> Generator[int, None, None]:
    """Write entries into a directory, in steps. Blocks.

    Args:
        path: The directory; created if it does not exist.
        entries: The entries to write.
        delete: Whether to remove everything else from the directory.

    Yields:
        The number of bytes of content written since the last step.

    Raises:
        FailedPreconditionError: `path` exists and is not a directory.
        InvalidArgumentError: the entries are inconsistent.
        OSError: something cannot be written.
    """
    with DirectoryWriter.open(path, delete=delete) as writer:
        timer, written = StepTimer(), 0
        for entry in entries:
            if writer.add(entry):
                with writer.new_file(entry) as file:
                    for piece in entry.content.pieces():
                        file.write(piece)
                        written += len(piece)
                        if timer.is_over():
                            yield written
                            written = 0
                    file.commit()
            if timer.is_over():
                yield written
                written = 0
        for _ in writer.finish():
            yield 0
        yield written


class DirectoryWriter:
    """Writes entries into a directory; created by `open`. All calls block.

    Announce every entry with `add`, in order. Then or later, write the contents of those that have any with
    `new_file`. After that, `finish` does the rest. As in BuildKit's clients, all files belong to the user and
    group of this process.

    Args:
        root: The open directory; closed by `close`.
        delete: Whether to remove everything else from it at the end.
    """

    def __init__(self, root: int, *, delete: bool = False) -> None:
        self._root = root
        self._run = Run.begin(root)
        self._owner = (os.getuid(), os.getgid())
        self._order = EntryOrder()
        self._announced = place.DirectoryCursor(root)
        self._filled = place.DirectoryCursor(root)
        self._directories: list[FileEntry] = []
        self._links: list[FileEntry] = []
        self._names: dict[bytes, set[bytes]] | None = {b"": set()} if delete else None

    @classmethod
    @contextmanager
    def open(cls, path: Path, *, delete: bool = False) -> Iterator[DirectoryWriter]:
        """Open a directory, and create it if necessary.

        Raises:
            FailedPreconditionError: the path exists and is not a directory.
        """
        try:
            path.mkdir(_ROOT_MODE, parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise FailedPreconditionError(
                f"destination directory is a file: {path}", field="attrs[dest]"
            ) from error
        root = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        writer = cls(root, delete=delete)
        try:
            with place.explained(str(path)):
                yield writer
        finally:
            writer.close()

    def add(self, entry: FileEntry) -> bool:
        """Announce the next entry.

        Returns:
            Whether it has content, to be written with `new_file`.

        Raises:
            InvalidArgumentError: the entry is invalid here; see `EntryOrder`.
            OSError: it cannot be created.
        """
        *folder, name = self._order.check(entry)
        self._note(entry, folder, name)
        if entry.has_content:
            return True
        if entry.is_hard_link:
            self._links.append(entry)
            return False
        parent = self._announced.move(folder)
        if entry.kind is Kind.DIRECTORY:
            with place.explained(f"failed to create dir {shown(entry.path)}"):
                place.make_directory(name, parent)
            self._directories.append(entry)
            return False
        what = "symlink" if entry.kind is Kind.SYMLINK else "create device"
        with place.explained(f"failed to {what} {shown(entry.path)}"):
            self._make_special(entry, name, parent)
        return False

    def new_file(self, entry: FileEntry) -> NewFile:
        """Begin to write the content of an announced entry.

        Raises:
            OSError: it cannot be created.
        """
        *folder, name = entry.path.split(b"/")
        with place.explained(f"failed to create {shown(entry.path)}"):
            parent = self._filled.move(folder)
            return NewFile(entry, self._owner, name, parent, self._run.temporary_name())

    def finish(self) -> Generator[None, None, None]:
        """Do the work that has to wait until all contents have been written, in short steps.

        Raises:
            OSError: something cannot be created or removed.
        """
        timer = StepTimer()
        for _ in self._final_steps():
            if timer.is_over():
                yield

    def _final_steps(self) -> Iterator[None]:
        yield from self._make_links()
        if self._names is not None:
            yield from self._delete_others(self._names)
        # Children before their directory, which may become read-only.
        for entry in reversed(self._directories):
            with place.explained(f"error setting dir metadata for {shown(entry.path)}"):
                place.set_attributes(entry, self._owner, self._announced.move(entry.path.split(b"/")))
            yield
        self._run.end()  # before the sender learns that everything is done

    def close(self) -> None:
        """Close the directory."""
        self._announced.close()
        self._filled.close()
        self._run.end()
        os.close(self._root)

    def _note(self, entry: FileEntry, folder: list[bytes], name: bytes) -> None:
        if self._names is not None:
            self._names[b"/".join(folder)].add(name)
            if entry.kind is Kind.DIRECTORY:
                self._names[entry.path] = set()

    def _make_special(self, entry: FileEntry, name: bytes, parent: int) -> None:
        temporary = self._run.temporary_name()
        place.make_special(entry, temporary, parent)
        try:
            place.set_special_attributes(entry, self._owner, temporary, parent)
            place.put(temporary, name, parent)
        except BaseException:
            place.remove(temporary, parent)
            raise

    def _make_links(self) -> Iterator[None]:
        targets = place.DirectoryCursor(self._root)
        try:
            for entry in self._links:
                *target_folder, target = entry.link.split(b"/")
                *folder, name = entry.path.split(b"/")
                parent = self._announced.move(folder)
                with place.explained(f"failed to link {shown(entry.path)} to {shown(entry.link)}"):
                    place.remove(name, parent)
                    os.link(
                        target,
                        name,
                        src_dir_fd=targets.move(target_folder),
                        dst_dir_fd=parent,
                        follow_symlinks=False,
                    )
                yield
        finally:
            targets.close()

    def _delete_others(self, wanted: dict[bytes, set[bytes]]) -> Iterator[None]:
        for folder, names in wanted.items():
            parent = self._announced.move(folder.split(b"/") if folder else [])
            for name in place.names_in(parent):
                if name not in names and not is_ours(name):
                    with place.explained(f"failed to remove: {shown(folder + b'/' + name)}"):
                        place.remove(name, parent)
                    yield


class NewFile:
    """A file that is being written; created by `DirectoryWriter.new_file`. All calls block.

    Use it as a context manager, which discards an uncommitted file.
    """

    def __init__(
        self, entry: FileEntry, owner: tuple[int, int], name: bytes, parent: int, temporary: bytes
    ) -> None:
        self._entry = entry
        self._owner = owner
        self._name = name
        self._parent = os.dup(parent)
        self._temporary: bytes | None = None
        self._written = 0
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            self._file = os.open(temporary, flags, 0o600, dir_fd=self._parent)
        except BaseException:
            os.close(self._parent)
            raise
        self._temporary = temporary

    def __enter__(self) -> NewFile:
        return self

    def __exit__(self, *error: object) -> None:
        self.discard()

    def write(self, data: bytes) -> None:
        """Append `data`.

        Raises:
            DataLossError: the content is longer than the entry says.
            OSError: it cannot be written.
        """
        self._written += len(data)
        if self._written > self._entry.size:
            raise self._wrong_size()
        view = memoryview(data)
        with place.explained(f"failed to write {shown(self._entry.path)}"):
            while view:
                view = view[os.write(self._file, view) :]

    def commit(self) -> None:
        """Move the file to its final name, replacing whatever has it.

        Raises:
            DataLossError: the content is shorter than the entry says.
            OSError: it cannot be moved.
        """
        assert self._temporary is not None, "the file was committed or discarded"
        path = shown(self._entry.path)
        if self._written != self._entry.size:
            raise self._wrong_size()
        with place.explained(f"error setting metadata for {path}"):
            place.set_attributes(self._entry, self._owner, self._file)
        with place.explained(f"failed to rename {path}"):
            place.put(self._temporary, self._name, self._parent)
        self._temporary = None
        self.discard()

    def discard(self) -> None:
        """Remove the file unless it was committed."""
        if self._parent < 0:
            return
        try:
            if self._temporary is not None:
                place.remove(self._temporary, self._parent)
        finally:
            os.close(self._file)
            os.close(self._parent)
            self._parent = -1

    def _wrong_size(self) -> DataLossError:
        path = shown(self._entry.path)
        return DataLossError(f"{path}: received {self._written} bytes instead of {self._entry.size}")
