"""Writing entries into a directory, as fsutil's receiver does at BuildKit's clients.

Differences, all to the user's advantage: a file gets its name when its content is complete, what is to be
deleted is deleted when everything has come, directories get their attributes at the end (so that a read-only
one can be filled without privileges, and keeps its modification time), and extended attributes are set after
what would clear them (file capabilities).
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
    """Write entries into a directory, piece by piece; blocks.

    Args:
        path: The directory; made if there is none.
        entries: What to write.
        delete: Whether to remove everything else from the directory.

    Yields:
        How many bytes of content have been written since the last time.

    Raises:
        FailedPreconditionError: there is something else than a directory.
        InvalidArgumentError: the entries make no sense.
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
    """Writes entries into a directory; made by `open`. All calls block.

    Every entry is announced with `add`, in order. The contents of those that have some come with `new_file`,
    then or later. When all is there, `finish` does the rest. Owner and group are always those of this
    process, as with BuildKit's clients.

    Args:
        root: The directory, open; closed by `close`.
        delete: Whether everything else is removed from it in the end.
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
        """Open a directory, or make it.

        Raises:
            FailedPreconditionError: there is something else.
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
            Whether it has content, which is to be written with `new_file`.

        Raises:
            InvalidArgumentError: it is not one that may come next.
            OSError: it cannot be made.
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
        """Begin to write the content of an entry that has been announced.

        Raises:
            OSError: it cannot be made.
        """
        *folder, name = entry.path.split(b"/")
        with place.explained(f"failed to create {shown(entry.path)}"):
            parent = self._filled.move(folder)
            return NewFile(entry, self._owner, name, parent, self._run.temporary_name())

    def finish(self) -> Generator[None, None, None]:
        """Do what has to wait until all contents are there; an iteration is a short piece of work.

        Raises:
            OSError: something cannot be made, or removed.
        """
        timer = StepTimer()
        for _ in self._final_steps():
            if timer.is_over():
                yield

    def _final_steps(self) -> Iterator[None]:
        yield from self._make_links()
        if self._names is not None:
            yield from self._delete_others(self._names)
        # What is in a directory comes before the directory, which may become read-only.
        for entry in reversed(self._directories):
            with place.explained(f"error setting dir metadata for {shown(entry.path)}"):
                place.set_attributes(entry, self._owner, self._announced.move(entry.path.split(b"/")))
            yield
        self._run.end()  # before the other side is told that all is done

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
    """A file that is being written; made by `DirectoryWriter.new_file`. All calls block.

    A context manager, at whose end nothing is left of what was not committed.
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
            DataLossError: it is more than the entry announced.
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
        """Put the file into its place, in that of whatever is there.

        Raises:
            DataLossError: less has been written than the entry announced.
            OSError: it cannot be put there.
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
        """Drop what was not committed."""
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
        return DataLossError(f"{path}: {self._written} bytes have come in place of {self._entry.size}")
