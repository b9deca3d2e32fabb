"""The result of a build while its daemon holds it: reading files and running processes, without an export."""

from __future__ import annotations

import enum
import os
import posixpath
import re
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from exporter.client.gateway import Gateway
from exporter.client.processes import Completed, Process, run_process
from exporter.client.results import BuildResult
from exporter.errors import ExporterError, FailedPreconditionError, NotFoundError
from exporter.layer.tree import Kind
from exporter.pb.fsutil.types import stat_pb2
from exporter.pb.moby.buildkit.v1.frontend import gateway_pb2
from exporter.pb.pb import ops_pb2
from exporter.remotes.messages.stats import entry_of

_PIECE_BYTES = 4 << 20
"""The size of one answer; a daemon's answers have at most 16 MiB."""

_NETWORKS = {"default": ops_pb2.UNSET, "host": ops_pb2.HOST, "none": ops_pb2.NONE}


_PATTERN = re.compile(r"[*?\[\\]")


class FileKind(enum.Enum):
    """The kind of a file in a result."""

    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"
    OTHER = "other"
    """A device or a pipe."""


@dataclass(frozen=True, slots=True)
class FileInfo:
    """A file in a result.

    Attributes:
        path: Its path, from the root.
        kind: Its kind.
        mode: Its permissions, with set-ID and sticky bits.
        size: Its size in bytes.
        uid: The ID of the user that owns it.
        gid: The ID of its group.
        mtime: Its modification time, in nanoseconds since 1970.
        link: The target of a symbolic link.
    """

    path: str
    kind: FileKind
    mode: int
    size: int = 0
    uid: int = 0
    gid: int = 0
    mtime: int = 0
    link: str = ""

    @property
    def name(self) -> str:
        """The last component of its path."""
        return posixpath.basename(self.path)


class ResultTree:
    """The file system of a result, for one platform.

    Args:
        gateway: The daemon.
        ref_id: Its ref; empty for an empty file system.
    """

    def __init__(self, gateway: Gateway, ref_id: str) -> None:
        self._gateway = gateway
        self._ref_id = ref_id

    async def read(self, path: str, *, offset: int = 0, length: int | None = None) -> bytes:
        """Read a file, or a part of it. Symbolic links are followed.

        Raises:
            NotFoundError: the file does not exist.
            ExporterError: it is a directory, or the daemon does not answer.
        """
        return b"".join([piece async for piece in self.stream(path, offset=offset, length=length)])

    async def stream(self, path: str, *, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """Read a file in pieces.

        Raises:
            NotFoundError: the file does not exist.
            ExporterError: it is a directory, or the daemon does not answer.
        """
        ref_id = self._need(path)
        while length is None or length > 0:
            wanted = _PIECE_BYTES if length is None else min(length, _PIECE_BYTES)
            with _about(path):
                data = await self._gateway.read_file(ref_id, path, offset, wanted)
            if data:
                yield data
            if len(data) < wanted:
                return
            offset += len(data)
            length = None if length is None else length - len(data)

    async def list(self, path: str = "/", *, pattern: str = "") -> list[FileInfo]:
        """List a directory, by name.

        Args:
            path: The directory.
            pattern: A pattern that names must match, such as ``*.so``; all if empty.

        Raises:
            NotFoundError: the directory does not exist.
            ExporterError: it is not a directory, or the daemon does not answer.
        """
        if not self._ref_id and path.strip("/") == "":
            return []
        with _about(path):
            entries = await self._gateway.read_dir(self._need(path), path, pattern)
        return sorted((_info(path, each) for each in entries), key=lambda info: info.path)

    async def stat(self, path: str) -> FileInfo:
        """Describe a file. A symbolic link is not followed.

        Raises:
            NotFoundError: the file does not exist.
        """
        directory, name = posixpath.split(posixpath.normpath(posixpath.join("/", path)))
        if not name:
            with _about(path):
                answer = await self._gateway.stat_file(self._need(path), "/")
            return replace(_info("/", answer.stat), path="/")
        # StatFile follows links; what lists a directory does not.
        pattern = "" if _PATTERN.search(name) else name
        for info in await self.list(directory, pattern=pattern):
            if info.name == name:
                return info
        raise NotFoundError(f"{path}: there is no such file in the result")

    async def exists(self, path: str) -> bool:
        """Whether a file exists."""
        try:
            await self.stat(path)
        except NotFoundError:
            return False
        return True

    async def run(
        self,
        args: Sequence[str] | str,
        *,
        input: bytes = b"",
        env: Mapping[str, str] | None = None,
        cwd: str = "/",
        user: str = "",
        network: str = "default",
        on_output: Callable[[int, bytes], object] | None = None,
        check: bool = False,
    ) -> Completed:
        """Run a process in the file system. Its changes are visible to that process only, and discarded.

        Args:
            args: The program and its arguments; a string is a command for ``/bin/sh -c``.
            input: Its standard input.
            env: Environment variables.
            cwd: The working directory.
            user: The user.
            network: ``default``, ``host`` or ``none``.
            on_output: Receives output as it comes, with the number of the stream (1 or 2).
            check: Whether an exit code other than 0 is an error.

        Raises:
            ProcessError: the process failed, with `check`.
            ExporterError: it cannot be started.
        """
        command = ["/bin/sh", "-c", args] if isinstance(args, str) else list(args)
        process = Process(command, env or {}, cwd, user, input, on_output)
        async with self._container(network) as container_id:
            completed = await run_process(self._gateway, container_id, process)
        if check:
            completed.check()
        return completed

    @asynccontextmanager
    async def _container(self, network: str) -> AsyncIterator[str]:
        if network not in _NETWORKS:
            raise FailedPreconditionError(f"network: {network!r} is not one of {', '.join(_NETWORKS)}")
        container_id = uuid.uuid4().hex
        request = gateway_pb2.NewContainerRequest(
            ContainerID=container_id,
            Mounts=[ops_pb2.Mount(dest="/", resultID=self._ref_id)],
            Network=_NETWORKS[network],
        )
        async with self._gateway.container(request):
            yield container_id

    def _need(self, path: str) -> str:
        if not self._ref_id:
            raise NotFoundError(f"{path}: the result has no files")
        return self._ref_id


class OpenedBuild(ResultTree):
    """A build whose result the daemon holds: the file system of its only platform, or its first one.

    Attributes:
        ref: The build's ID.
        platforms: The file systems by platform; the key is empty if the build has only one.
        metadata: The metadata of the result, such as ``containerimage.config``.
        result: The result of the build, after the block has ended.
    """

    def __init__(self, gateway: Gateway, ref: str, result: gateway_pb2.Result) -> None:
        refs = _refs(result)
        super().__init__(gateway, next(iter(refs.values()), ""))
        self.ref = ref
        self.platforms = {key: ResultTree(gateway, ref_id) for key, ref_id in refs.items()}
        self.metadata: Mapping[str, bytes] = dict(result.metadata)
        self.result: BuildResult | None = None


def _refs(result: gateway_pb2.Result) -> dict[str, str]:
    match result.WhichOneof("result"):
        case "ref":
            return {"": result.ref.id}
        case "refs":
            return {key: ref.id for key, ref in sorted(result.refs.refs.items())}
        case "refDeprecated":
            return {"": result.refDeprecated}
        case "refsDeprecated":
            return dict(sorted(result.refsDeprecated.refs.items()))
    return {}


def _info(directory: str, stat: stat_pb2.Stat) -> FileInfo:
    entry = entry_of(stat)
    kinds = {
        Kind.FILE: FileKind.FILE,
        Kind.DIRECTORY: FileKind.DIRECTORY,
        Kind.SYMLINK: FileKind.SYMLINK,
    }
    return FileInfo(
        path=posixpath.join("/", directory, posixpath.basename(os.fsdecode(entry.path))),
        kind=kinds.get(entry.kind, FileKind.OTHER),
        mode=entry.mode,
        size=entry.size,
        uid=entry.uid,
        gid=entry.gid,
        mtime=entry.mtime,
        link=os.fsdecode(entry.link),
    )


class _about:  # noqa: N801 (used like a function)
    """Names the file in errors, and recognises those about missing files: daemons report them as unknown."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, ExporterError) and "no such file or directory" in error.message:
            raise NotFoundError(f"{self._path}: there is no such file in the result") from error
