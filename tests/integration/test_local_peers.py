"""Trees of files between BuildKit's own programs and us, in both directions."""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from exporter.daemon.sending.directory import send_files
from exporter.daemon.services.filesync import FileSyncServicer
from exporter.daemon.services.receive import FileSendServicer
from exporter.daemon.services.receive_directory import DirectoryReceiver, ReceivedDirectory
from exporter.errors import DataLossError, FailedPreconditionError
from exporter.exporters.files.entry import BytesContent, FileEntry
from exporter.layer.tree import Kind
from exporter.pb.moby.buildkit.v1 import control_pb2, control_pb2_grpc
from exporter.pb.moby.buildkit.v1.frontend import gateway_pb2_grpc
from exporter.rpc.session.attach import attach
from exporter.rpc.status import StatusInterceptor, rpc_errors
from tests.buildkit import buildkitd, require_buildkit
from tests.integration.test_buildkit_sessions import Bridge, Daemon, Files
from tests.sessions import PATIENCE

ODD_NAME = b"t\xe9st"
"""Names need not be UTF-8."""

MTIME = 1_600_000_000_123_456_789


DOCKERFILE = b"""\
FROM scratch
ARG TARGETARCH
COPY --chmod=4750 file /$TARGETARCH/
COPY file /d/b
"""


@pytest.fixture
def work() -> Iterator[Path]:
    """A directory whose sockets have short paths."""
    with tempfile.TemporaryDirectory(prefix="bke-", dir="/tmp") as name:
        yield Path(name)


def tree() -> list[FileEntry]:
    """All kinds of files that need no privileges, and more content than fits into a few packets."""
    big = os.urandom(5 << 20)
    return [
        FileEntry(path=b"d", kind=Kind.DIRECTORY, mode=0o1777, mtime=MTIME),
        FileEntry(
            path=b"d/big", mode=0o4755, uid=1, gid=2, mtime=MTIME, size=len(big), content=BytesContent(big)
        ),
        FileEntry.of("d/empty", b"", mode=0o600, mtime=MTIME),
        *(FileEntry.of(f"d/n{number:04}", b"%d" % number, mtime=MTIME) for number in range(500)),
        FileEntry(path=b"fifo", kind=Kind.FIFO, mode=0o640, mtime=MTIME),
        FileEntry(path=b"hard", mode=0o4755, mtime=MTIME, size=len(big), link=b"d/big"),
        FileEntry(path=b"soft", kind=Kind.SYMLINK, mode=0o777, mtime=MTIME, size=8, link=b"/nowhere"),
        FileEntry(path=ODD_NAME, mtime=MTIME),
    ]


def described(root: Path) -> dict[str, tuple[object, ...]]:
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(root.rglob("*")):
        info = path.lstat()
        content: object = None
        if stat.S_ISLNK(info.st_mode):
            content = str(path.readlink())
        elif stat.S_ISREG(info.st_mode):
            content = hashlib.sha256(path.read_bytes()).hexdigest(), info.st_nlink
        found[str(path.relative_to(root))] = oct(info.st_mode), info.st_mtime_ns, content
    return found


def expected(entries: Sequence[FileEntry]) -> dict[str, tuple[object, ...]]:
    types = {
        Kind.FILE: stat.S_IFREG,
        Kind.DIRECTORY: stat.S_IFDIR,
        Kind.FIFO: stat.S_IFIFO,
        Kind.SYMLINK: stat.S_IFLNK,
    }
    by_path = {entry.path: entry for entry in entries}
    links = [entry.link for entry in entries if entry.is_hard_link]
    found: dict[str, tuple[object, ...]] = {}
    for entry in entries:
        content: object = None
        if entry.kind is Kind.SYMLINK:
            content = entry.link.decode()
        elif entry.kind is Kind.FILE:
            first = by_path.get(entry.link, entry)
            data = b"".join(first.content.pieces())
            content = hashlib.sha256(data).hexdigest(), 1 + links.count(first.path)
        found[os.fsdecode(entry.path)] = oct(types[entry.kind] | entry.mode), entry.mtime, content
    return found


class SendingDaemon(Daemon):
    """A daemon whose exporter is ours."""

    def __init__(self, transfers: Sequence[Sequence[FileEntry]], *, all_at_once: bool) -> None:
        super().__init__({})
        self.transfers = transfers
        self.all_at_once = all_at_once
        self.sent = 0
        self.error: Exception | None = None

    async def Solve(self, request: Any, context: Any) -> Any:  # noqa: N802
        session = await self.sessions.wait(request.Session, PATIENCE)
        try:
            for entries in self.transfers:
                await send_files(session, 0, entries, all_at_once=self.all_at_once, on_sent=self._count)
        except Exception as error:
            self.error = error
            raise
        return control_pb2.SolveResponse()

    def _count(self, size: int) -> None:
        self.sent += size


@asynccontextmanager
async def serving(daemon: Daemon, directory: Path) -> AsyncIterator[str]:
    server = grpc.aio.server(interceptors=[StatusInterceptor()])
    control_pb2_grpc.add_ControlServicer_to_server(daemon, server)
    gateway_pb2_grpc.add_LLBBridgeServicer_to_server(Bridge(), server)
    server.add_insecure_port(f"unix:{directory}/s")
    await server.start()
    try:
        yield f"unix://{directory}/s"
    finally:
        await daemon.sessions.close()
        await server.stop(None)


async def buildctl(address: str, directory: Path, output: str) -> tuple[int | None, str]:
    context = directory / "context"
    context.mkdir(exist_ok=True)
    (context / "Dockerfile").write_text("FROM scratch\n")
    process = await asyncio.create_subprocess_exec(
        *(require_buildkit("buildctl"), "--addr", address, "build", "--progress", "plain"),
        *("--frontend", "dockerfile.v0", "--local", f"context={context}", "--local", f"dockerfile={context}"),
        *("--output", output),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    text, _ = await process.communicate()
    return process.returncode, text.decode()


async def test_buildctl_receives_our_files(work: Path) -> None:
    first, second = tree(), [FileEntry.of("e", b"second", mtime=MTIME)]
    daemon = SendingDaemon([first, second], all_at_once=False)
    (work / "out").mkdir()
    (work / "out/kept").write_text("kept")
    async with serving(daemon, work) as address:
        code, output = await buildctl(address, work, f"type=local,dest={work}/out")
    assert code == 0, output
    found = described(work / "out")
    assert found.pop("kept")
    assert found == expected(sorted(first + second, key=lambda entry: entry.key))
    assert daemon.sent > 5 << 20


async def test_buildctl_deletes_files_that_are_not_sent(work: Path) -> None:
    daemon = SendingDaemon([tree()], all_at_once=True)
    (work / "out/old").mkdir(parents=True)
    (work / "out/old/x").write_text("x")
    async with serving(daemon, work) as address:
        code, output = await buildctl(address, work, f"type=local,dest={work}/out,mode=delete")
    assert code == 0, output
    assert described(work / "out") == expected(daemon.transfers[0])


async def test_buildctl_refuses_to_delete_for_one_of_several_transfers(work: Path) -> None:
    daemon = SendingDaemon([tree()], all_at_once=False)
    async with serving(daemon, work) as address:
        code, _ = await buildctl(address, work, f"type=local,dest={work}/out,mode=delete")
    assert code != 0
    assert isinstance(daemon.error, FailedPreconditionError)
    assert "mode=delete requires a BuildKit daemon with multi-platform" in daemon.error.message


async def test_files_that_buildctl_cannot_write(work: Path) -> None:
    odd = FileEntry(path=b"x", kind=Kind.SYMLINK, mode=0o777, link=b"")
    daemon = SendingDaemon([[*tree(), odd]], all_at_once=False)
    async with serving(daemon, work) as address:
        code, _ = await buildctl(address, work, f"type=local,dest={work}/out")
    assert code != 0
    assert isinstance(daemon.error, FailedPreconditionError)
    assert "error from receiver: failed to symlink" in daemon.error.message


class Unreadable:
    def pieces(self) -> Iterator[bytes]:
        yield b"x" * 1000
        raise DataLossError("the layer is damaged")


async def test_our_failures_reach_buildctl(work: Path) -> None:
    broken = FileEntry(path=b"x", size=2000, content=Unreadable())
    daemon = SendingDaemon([[*tree(), broken]], all_at_once=False)
    async with serving(daemon, work) as address:
        code, output = await buildctl(address, work, f"type=local,dest={work}/out")
    assert code != 0
    assert isinstance(daemon.error, DataLossError)
    assert "the layer is damaged" in output


async def test_names_that_are_not_utf8_go_through_buildkitd(work: Path) -> None:
    context = work / "context"
    context.mkdir()
    (context / "Dockerfile").write_text("FROM scratch\nCOPY t* /\n")
    (context / os.fsdecode(ODD_NAME)).write_text("odd")
    files = FileSyncServicer({"context": context, "dockerfile": context})
    receiver = DirectoryReceiver({0: ReceivedDirectory(work / "out")})
    async with (
        buildkitd(work) as address,
        grpc.aio.insecure_channel(address) as channel,
        attach(channel, [files.register, FileSendServicer(receiver.handlers).register]) as attachment,
    ):
        request = control_pb2.SolveRequest(
            Ref=os.urandom(8).hex(),
            Session=attachment.id,
            Frontend="dockerfile.v0",
            Exporters=[control_pb2.Exporter(Type="local")],
        )
        with rpc_errors():
            await control_pb2_grpc.ControlStub(channel).Solve(request, timeout=PATIENCE)
    assert {path.name: path.read_text() for path in (work / "out").iterdir()} == {
        os.fsdecode(ODD_NAME): "odd"
    }


@pytest.mark.parametrize("mode", ["copy", "delete"])
@pytest.mark.parametrize("platforms", ["linux/amd64", "linux/amd64,linux/arm64"])
async def test_we_receive_the_files_of_buildkitd(work: Path, mode: str, platforms: str) -> None:
    out = work / "out"
    (out / "old").mkdir(parents=True)
    receiver = DirectoryReceiver({0: ReceivedDirectory(out, delete=mode == "delete")})
    async with (
        buildkitd(work) as address,
        grpc.aio.insecure_channel(address) as channel,
        attach(
            channel, [Files(DOCKERFILE).register, FileSendServicer(receiver.handlers).register]
        ) as attachment,
    ):
        request = control_pb2.SolveRequest(
            Ref=os.urandom(8).hex(),
            Session=attachment.id,
            Frontend="dockerfile.v0",
            FrontendAttrs={"filename": "file", "platform": platforms},
            Exporters=[control_pb2.Exporter(Type="local", Attrs={"mode": mode})],
        )
        with rpc_errors():
            await control_pb2_grpc.ControlStub(channel).Solve(request, timeout=PATIENCE)
    folders = platforms.split(",")
    prefixes = [f"{folder.replace('/', '_')}/" for folder in folders] if len(folders) > 1 else [""]
    wanted: dict[str, bytes | None] = {"old": None} if mode == "copy" else {}
    for prefix, folder in zip(prefixes, folders, strict=True):
        architecture = folder.partition("/")[2]
        wanted |= {prefix.rstrip("/"): None} if prefix else {}
        wanted |= {f"{prefix}{architecture}": None, f"{prefix}d": None}
        wanted |= {f"{prefix}{architecture}/file": DOCKERFILE, f"{prefix}d/b": DOCKERFILE}
        assert stat.S_IMODE((out / f"{prefix}{architecture}/file").stat().st_mode) == 0o4750
    found = {str(p.relative_to(out)): p.read_bytes() if p.is_file() else None for p in out.rglob("*")}
    assert found == wanted
