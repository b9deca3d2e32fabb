"""Build contexts: directories, archives, Git repositories, and files in memory."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO

from exporter.content.layout import OCILayout
from exporter.content.threads import run_in_thread
from exporter.daemon.services.upload import UploadServicer
from exporter.errors import InvalidArgumentError, NotFoundError, os_error_text
from exporter.rpc.session.attach import Attachable
from exporter.rpc.temporary import private_directory

_REMOTE = re.compile(r"(https?|git|ssh)://|git@|github\.com/")
_GIT_OVER_SSH = ("ssh://", "git@")
_PASSED_ON = re.compile(r"(docker-image|target|https?|git|ssh)://|target:|git@|github\.com/")
_LAYOUT = "oci-layout://"
_CONTEXT, _DOCKERFILE = "context", "dockerfile"
_DEFAULT_NAMES = ("Dockerfile", "dockerfile")
_PIECE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class MemoryFile:
    """A file of a context in memory.

    Attributes:
        data: Its content.
        mode: Its permissions.
        mtime: Its modification time, in seconds since 1970. A fixed default makes builds reproducible.
    """

    data: bytes | str
    mode: int = 0o644
    mtime: float = 0.0


MemoryFiles = Mapping[str, bytes | str | MemoryFile]
"""Files by their paths in the context, with slashes. Strings are encoded as UTF-8."""

Context = str | os.PathLike[str] | BinaryIO | IO[bytes] | MemoryFiles
"""A build context: the path of a directory or of a tar archive, the URL of a Git repository or archive, a
binary file object that has a tar archive, or files in memory."""

NamedContext = str | os.PathLike[str] | MemoryFiles
"""An additional context: a path, files in memory, a URL, ``docker-image://REFERENCE``, ``target:STAGE`` or
``oci-layout://PATH@DIGEST``."""


@dataclass(slots=True)
class OpenContexts:
    """What the daemon is offered.

    Attributes:
        attrs: The frontend's attributes.
        directories: The directories by name.
        stores: The image layouts by name.
        services: Additional services of the session.
        needs_agent: Whether the daemon needs an SSH agent for the context.
        shared_key: A key for the daemon's copies of local files. Daemons compare files by size and time, and
            all files in memory have the same time. So different ones must not share a copy.
    """

    attrs: dict[str, str] = field(default_factory=dict)
    directories: dict[str, Path] = field(default_factory=dict)
    stores: dict[str, OCILayout] = field(default_factory=dict)
    services: list[Attachable] = field(default_factory=list)
    needs_agent: bool = False
    shared_key: str = ""


@asynccontextmanager
async def open_contexts(
    context: Context,
    dockerfile: str | os.PathLike[str] | None = None,
    dockerfile_inline: str | bytes | None = None,
    contexts: Mapping[str, NamedContext] | None = None,
) -> AsyncIterator[OpenContexts]:
    """Prepare the contexts of a build.

    Args:
        context: The context.
        dockerfile: The path of the Dockerfile, relative to the context; on this machine if it is absolute.
        dockerfile_inline: The text of the Dockerfile, instead.
        contexts: Additional contexts by name.

    Raises:
        InvalidArgumentError, NotFoundError: a context or the Dockerfile is not usable.
    """
    if dockerfile is not None and dockerfile_inline is not None:
        raise InvalidArgumentError("dockerfile and dockerfile_inline contradict each other: give one of them")
    async with AsyncExitStack() as stack:
        opening = _Opening(stack)
        await opening.add_main(context, dockerfile, dockerfile_inline)
        for name, place in (contexts or {}).items():
            await opening.add_named(name, place)
        yield opening.opened


@asynccontextmanager
async def open_directories(
    directories: Mapping[str, NamedContext], layouts: Mapping[str, str | Path]
) -> AsyncIterator[OpenContexts]:
    """Prepare what a definition in LLB may read.

    Args:
        directories: Directories and files in memory, by name.
        layouts: Image layouts by name.

    Raises:
        InvalidArgumentError, NotFoundError: one of them is not usable.
    """
    async with AsyncExitStack() as stack:
        opening = _Opening(stack)
        for name, place in directories.items():
            await opening.add_directory(name, place)
        for name, path in layouts.items():
            opening.opened.stores[name] = await OCILayout.open(path, create=False)
        yield opening.opened


class _Opening:
    def __init__(self, stack: AsyncExitStack) -> None:
        self.opened = OpenContexts()
        self._stack = stack

    async def add_main(
        self, context: Context, dockerfile: str | os.PathLike[str] | None, inline: str | bytes | None
    ) -> None:
        if isinstance(context, Mapping):
            await self._add_directory(
                await self._write_memory(context), dockerfile, inline, "the files in memory"
            )
            return
        if not isinstance(context, str | os.PathLike):
            await self._add_archive(_pieces(context), dockerfile, inline)
            return
        if isinstance(context, str) and _REMOTE.match(context):
            self.opened.attrs[_CONTEXT] = context
            self.opened.needs_agent = context.startswith(_GIT_OVER_SSH)
            await self._add_remote_dockerfile(dockerfile, inline)
            return
        path = Path(context)
        if await run_in_thread(path.is_file):
            file = await run_in_thread(path.open, "rb")
            self._stack.callback(file.close)
            await self._add_archive(_pieces(file), dockerfile, inline)
            return
        if not await run_in_thread(path.is_dir):
            raise NotFoundError(f"context {path}: there is no such directory or archive")
        await self._add_directory(path, dockerfile, inline, str(path))

    async def add_directory(self, name: str, place: NamedContext) -> None:
        if isinstance(place, Mapping):
            self.opened.directories[name] = await self._write_memory(place)
        elif await run_in_thread(Path(place).is_dir):
            self.opened.directories[name] = Path(place)
        else:
            raise NotFoundError(f"directories[{name}]: {place} is not a directory")

    async def add_named(self, name: str, place: NamedContext) -> None:
        key = f"context:{name}"
        if isinstance(place, Mapping):
            self.opened.attrs[key] = f"local:{name}"
            self.opened.directories[name] = await self._write_memory(place)
        elif isinstance(place, str) and place.startswith(_LAYOUT):
            path, at, digest = place.removeprefix(_LAYOUT).partition("@")
            if not at:
                raise InvalidArgumentError(
                    f"contexts[{name}]: {place} has no digest; write {_LAYOUT}PATH@DIGEST"
                )
            store = f"context-{name}"
            self.opened.stores[store] = await OCILayout.open(path, create=False)
            self.opened.attrs[key] = f"{_LAYOUT}{store}@{digest}"
        elif isinstance(place, str) and _PASSED_ON.match(place):
            self.opened.attrs[key] = place
            self.opened.needs_agent |= place.startswith(_GIT_OVER_SSH)
        elif await run_in_thread(Path(place).is_dir):
            self.opened.attrs[key] = f"local:{name}"
            self.opened.directories[name] = Path(place)
        else:
            raise NotFoundError(f"contexts[{name}]: {place} is neither a directory nor a URL")

    async def _add_directory(
        self, root: Path, dockerfile: str | os.PathLike[str] | None, inline: str | bytes | None, name: str
    ) -> None:
        self.opened.directories[_CONTEXT] = root
        if inline is not None:
            await self._add_inline(inline)
            return
        path = await run_in_thread(_find_dockerfile, root, dockerfile, name)
        self.opened.directories[_DOCKERFILE] = path.parent
        self.opened.attrs["filename"] = path.name

    async def _add_archive(
        self,
        pieces: AsyncIterator[bytes],
        dockerfile: str | os.PathLike[str] | None,
        inline: str | bytes | None,
    ) -> None:
        upload = UploadServicer()
        self.opened.services.append(upload.register)
        self.opened.attrs[_CONTEXT] = upload.add(pieces)
        await self._add_remote_dockerfile(dockerfile, inline)

    async def _add_remote_dockerfile(
        self, dockerfile: str | os.PathLike[str] | None, inline: str | bytes | None
    ) -> None:
        if inline is not None:
            await self._add_inline(inline)
        elif dockerfile is not None and Path(dockerfile).is_absolute():  # it is on this machine
            path = await run_in_thread(_find_dockerfile, Path(), dockerfile, "")
            self.opened.directories[_DOCKERFILE] = path.parent
            self.opened.attrs.update(filename=path.name, dockerfilekey=_DOCKERFILE)
        elif dockerfile is not None:
            self.opened.attrs["filename"] = os.fspath(dockerfile)

    async def _add_inline(self, text: str | bytes) -> None:
        self.opened.directories[_DOCKERFILE] = await self._write(
            {"Dockerfile": MemoryFile(text, mtime=time.time())}
        )
        self.opened.attrs.update(filename="Dockerfile", dockerfilekey=_DOCKERFILE)

    async def _write_memory(self, files: MemoryFiles) -> Path:
        self.opened.shared_key = await run_in_thread(_digest, self.opened.shared_key, files)
        return await self._write(files)

    async def _write(self, files: MemoryFiles) -> Path:
        manager = private_directory()
        root = await run_in_thread(manager.__enter__)
        self._stack.push_async_callback(run_in_thread, manager.__exit__, None, None, None)
        directory = root / "files"
        await run_in_thread(_write_files, directory, files)
        return directory


def _digest(previous: str, files: MemoryFiles) -> str:
    """Compute a key for files in memory, and for those before them."""
    digest = hashlib.sha256(previous.encode())
    for name, value in sorted(files.items()):
        file = value if isinstance(value, MemoryFile) else MemoryFile(value)
        data = file.data.encode() if isinstance(file.data, str) else file.data
        digest.update(f"{name!r} {file.mode} {file.mtime} {len(data)}\n".encode())
        digest.update(data)
    return digest.hexdigest()


def _find_dockerfile(root: Path, dockerfile: str | os.PathLike[str] | None, name: str) -> Path:
    if dockerfile is not None:
        path = root / dockerfile
        if not path.is_file():
            problem = "it is a directory" if path.is_dir() else "there is no such file"
            where = f" in {name}" if name and not Path(dockerfile).is_absolute() else ""
            raise NotFoundError(f"dockerfile {os.fspath(dockerfile)}: {problem}{where}")
        return path
    found = next((root / each for each in _DEFAULT_NAMES if (root / each).is_file()), None)
    if found is None:
        raise NotFoundError(f"there is no Dockerfile in {name}: give dockerfile or dockerfile_inline")
    return found


def _write_files(root: Path, files: MemoryFiles) -> None:
    """Write files in memory to a directory, with permissions and times that do not depend on this process."""
    root.mkdir()
    directories = {root}
    for name, value in files.items():
        pure = PurePosixPath(name)
        if pure.is_absolute() or ".." in pure.parts or not pure.parts or "\0" in name:
            raise InvalidArgumentError(f"context: {name!r} is not a path in the context")
        file = value if isinstance(value, MemoryFile) else MemoryFile(value)
        path = root / pure
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(file.data.encode() if isinstance(file.data, str) else file.data)
            path.chmod(file.mode)
            os.utime(path, (file.mtime, file.mtime))
        except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
            raise InvalidArgumentError(f"context: {name!r} is a file and a directory") from error
        except OSError as error:
            raise InvalidArgumentError(f"context: {name!r}: {os_error_text(error)}") from error
        directories.update(root / parent for parent in pure.parents)
    for directory in directories:
        directory.chmod(0o755)
        os.utime(directory, (0, 0))


async def _pieces(file: BinaryIO | IO[bytes]) -> AsyncIterator[bytes]:
    while data := await run_in_thread(file.read, _PIECE_BYTES):
        yield data
