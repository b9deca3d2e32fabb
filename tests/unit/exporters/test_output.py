from __future__ import annotations

import asyncio
import io
import os
import pty
import threading
from pathlib import Path

import pytest

from exporter.content.copy import write_blob
from exporter.content.layout import OCILayout
from exporter.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError
from exporter.exporters.output import LocalOutput
from exporter.image import Descriptor, digest_bytes
from exporter.image.media_types import OCI_INDEX


def names_in(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


async def write(output: LocalOutput, *pieces: bytes, commit: bool = True) -> None:
    async with output.file({}) as sink:
        for piece in pieces:
            await sink.write(piece)
        if commit:
            await sink.commit()


async def test_file_appears_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "image.tar"
    async with LocalOutput(str(path)).file({}) as sink:
        await sink.write(b"one")
        assert not path.exists()
        await sink.write(b"two")
        await sink.commit()
        assert path.read_bytes() == b"onetwo"
    assert names_in(tmp_path) == {"image.tar"}


async def test_what_is_not_committed_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "image.tar"
    path.write_bytes(b"old")
    await write(LocalOutput(str(path)), b"new", commit=False)
    with pytest.raises(RuntimeError):
        async with LocalOutput(str(path)).file({}) as sink:
            await sink.write(b"new")
            raise RuntimeError
    assert path.read_bytes() == b"old"
    assert names_in(tmp_path) == {"image.tar"}


async def test_cancellation_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "image.tar"
    started = asyncio.Event()

    async def export() -> None:
        async with LocalOutput(str(path)).file({}) as sink:
            await sink.write(b"new")
            started.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(export())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert names_in(tmp_path) == set()


async def test_a_file_keeps_its_permissions(tmp_path: Path) -> None:
    path = tmp_path / "image.tar"
    path.write_bytes(b"old")
    path.chmod(0o600)
    await write(LocalOutput(str(path)), b"new")
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600


async def test_a_link_stays_a_link(tmp_path: Path) -> None:
    target, link = tmp_path / "target.tar", tmp_path / "link.tar"
    target.write_bytes(b"old")
    link.symlink_to("target.tar")
    await write(LocalOutput(str(link)), b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"


async def test_a_pipe_is_written_to(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(path.read_bytes()))
    reader.start()
    await write(LocalOutput(str(path)), b"through")
    await asyncio.to_thread(reader.join)
    assert got == [b"through"]
    assert path.is_fifo()


async def test_standard_output() -> None:
    stdout = io.BytesIO()
    await write(LocalOutput("-", stdout=stdout), b"one", b"two")
    assert stdout.getvalue() == b"onetwo"


async def test_a_terminal_is_refused() -> None:
    leader, follower = pty.openpty()
    try:
        with os.fdopen(follower, "wb") as terminal:
            output = LocalOutput("-", stdout=terminal)
            with pytest.raises(InvalidArgumentError, match="refusing to write to console"):
                await write(output, b"bytes")
    finally:
        os.close(leader)


async def test_a_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FailedPreconditionError, match="destination file is a directory"):
        await write(LocalOutput(str(tmp_path)), b"bytes")


async def test_a_missing_directory_is_not_created(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no directory"):
        await write(LocalOutput(str(tmp_path / "missing" / "image.tar")), b"bytes")
    assert names_in(tmp_path) == set()


@pytest.mark.parametrize(
    ("names", "annotations"),
    [
        ((), {"org.opencontainers.image.ref.name": "latest"}),
        (
            ("example.com/app:v1",),
            {"io.containerd.image.name": "example.com/app:v1", "org.opencontainers.image.ref.name": "v1"},
        ),
    ],
)
async def test_layout(tmp_path: Path, names: tuple[str, ...], annotations: dict[str, str]) -> None:
    data = b'{"schemaVersion":2,"manifests":[]}'
    root = Descriptor(OCI_INDEX, digest_bytes(data), len(data))
    async with LocalOutput(str(tmp_path / "layout")).layout() as layout:
        await write_blob(layout.store, data, root)
        await layout.publish(root, names)
    (entry,) = await (await OCILayout.open(tmp_path / "layout")).index()
    assert entry.digest == root.digest
    assert entry.annotations == annotations


async def test_layout_cannot_go_to_standard_output() -> None:
    with pytest.raises(InvalidArgumentError, match="standard output"):
        async with LocalOutput("-").layout():
            raise AssertionError
