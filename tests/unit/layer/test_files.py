from __future__ import annotations

import asyncio
import gzip
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from exporter.errors import DataLossError, InvalidArgumentError, NotFoundError, ResourceExhaustedError
from exporter.image import CompressionType, Descriptor, media_types
from exporter.layer.files import LayerFiles
from exporter.layer.tree import Kind
from exporter.source.types import Remote
from tests.unit.layer import tars
from tests.unit.layer.test_gotar import sparse_archive

BIG = os.urandom(1 << 20) * 3 + b"end"


async def content(files: LayerFiles, path: bytes, offset: int = 0, length: int | None = None) -> bytes:
    inode = files.tree.find(path)
    return b"".join([piece async for piece in files.read(inode, offset=offset, length=length)])


def open_files(directory: Path) -> list[Path]:
    return list(directory.iterdir())


@pytest.mark.parametrize(
    "compression", [CompressionType.UNCOMPRESSED, CompressionType.GZIP, CompressionType.ZSTD]
)
async def test_files_of_several_layers(tmp_path: Path, compression: CompressionType) -> None:
    blobs = tars.Blobs()
    remote = tars.remote(
        blobs,
        tars.layer(
            blobs,
            tars.tar(tars.entry("a", b"old"), tars.entry("d/big", BIG), tars.entry("gone")),
            compression,
        ),
        tars.layer(
            blobs,
            tars.tar(tars.entry("a", b"new"), tars.entry(".wh.gone"), tars.hardlink("h", "d/big")),
            compression,
        ),
    )
    with await LayerFiles.unpack(remote, scratch=tmp_path) as files:
        assert [path for path, _ in files.tree.walk()] == [b"a", b"d", b"d/big", b"h"]
        assert await content(files, b"a") == b"new"
        assert await content(files, b"h") == BIG
        assert await content(files, b"d/big", 1 << 20, 10) == BIG[1 << 20 : (1 << 20) + 10]
        assert await content(files, b"d/big", len(BIG) - 3, 100) == b"end"
        assert await content(files, b"d/big", len(BIG) + 5) == b""
        assert not open_files(tmp_path)


async def test_holes_are_kept(tmp_path: Path) -> None:
    blobs = tars.Blobs()
    data = bytes(3 << 20) + b"x" + bytes(3 << 20)
    remote = tars.remote(
        blobs,
        tars.layer(
            blobs, tars.tar(tars.entry("a", data), tars.entry("b", b"y"), tars.entry("c", bytes(100)))
        ),
    )
    with await LayerFiles.unpack(remote, scratch=tmp_path) as files:
        assert await content(files, b"a") == data
        assert await content(files, b"b") == b"y"
        assert await content(files, b"c") == bytes(100)
        assert os.fstat(files._contents.fileno()).st_blocks * 512 < 3 << 20


async def test_sparse_files(tmp_path: Path) -> None:
    pax = b"".join(
        (
            b"22 GNU.sparse.major=0\n",
            b"22 GNU.sparse.minor=1\n",
            b"22 GNU.sparse.size=12\n",
            b"26 GNU.sparse.numblocks=2\n",
            b"26 GNU.sparse.map=2,3,8,1\n",
        )
    )
    blobs = tars.Blobs()
    remote = tars.remote(blobs, tars.layer(blobs, sparse_archive(pax, b"abcd")))
    with await LayerFiles.unpack(remote, scratch=tmp_path) as files:
        assert await content(files, b"f") == b"\x00\x00abc\x00\x00\x00d\x00\x00\x00"


async def test_filling_the_hole_of_a_bomb_can_be_cancelled(tmp_path: Path) -> None:
    pax = b"".join(
        (
            b"22 GNU.sparse.major=0\n",
            b"22 GNU.sparse.minor=1\n",
            b"39 GNU.sparse.size=4611686018427387904\n",
            b"26 GNU.sparse.numblocks=0\n",
        )
    )
    blobs = tars.Blobs()
    remote = tars.remote(blobs, tars.layer(blobs, sparse_archive(pax, b"")))
    task = asyncio.create_task(LayerFiles.unpack(remote, scratch=tmp_path, max_size=1 << 63))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(
        ResourceExhaustedError,
        match=r"^f has 46\d+ bytes; .* 1000 bytes .*--max-content-bytes",
    ):
        await LayerFiles.unpack(remote, scratch=tmp_path, max_size=1000)


async def test_no_layers(tmp_path: Path) -> None:
    with await LayerFiles.unpack(Remote((), tars.Blobs()), scratch=tmp_path) as files:
        assert not list(files.tree.walk())


async def test_only_files_have_content(tmp_path: Path) -> None:
    blobs = tars.Blobs()
    remote = tars.remote(blobs, tars.layer(blobs, tars.tar(tars.directory("d"), tars.symlink("l", "d"))))
    with await LayerFiles.unpack(remote, scratch=tmp_path) as files:
        with pytest.raises(InvalidArgumentError, match="not a directory"):
            await content(files, b"d")
        link = files.tree.find(b"l", follow=False)
        assert link.kind is Kind.SYMLINK
        with pytest.raises(InvalidArgumentError, match="not a symlink"):
            [piece async for piece in files.read(link)]


@pytest.mark.parametrize(
    ("tar", "message"),
    [
        (tars.tar(tars.hardlink("a", "gone")), "hard link to gone, which does not exist"),
        (b"no tar" * 200, "checksum is wrong"),
    ],
)
async def test_errors_name_the_layer(tmp_path: Path, tar: bytes, message: str) -> None:
    blobs = tars.Blobs()
    layer = tars.layer(blobs, tar)
    with pytest.raises(InvalidArgumentError, match=f"layer {layer.digest}: .*{message}"):
        await LayerFiles.unpack(tars.remote(blobs, layer), scratch=tmp_path)


async def test_layers_are_verified(tmp_path: Path) -> None:
    blobs = tars.Blobs()
    layer = tars.layer(blobs, tars.tar(tars.entry("a", b"x")))
    blobs.put(gzip.compress(tars.tar(tars.entry("a", b"y")), mtime=0), layer.digest)
    with pytest.raises(DataLossError):
        await LayerFiles.unpack(tars.remote(blobs, layer), scratch=tmp_path)


async def test_layers_that_no_longer_exist(tmp_path: Path) -> None:
    layer = Descriptor(media_types.OCI_LAYER, "sha256:" + "1" * 64, 5)
    with pytest.raises(NotFoundError):
        await LayerFiles.unpack(Remote((layer,), tars.Blobs()), scratch=tmp_path)


async def test_cancellation(tmp_path: Path) -> None:
    started = asyncio.Event()

    class Endless(tars.Blobs):
        async def read(
            self, digest: str, *, offset: int = 0, length: int | None = None
        ) -> AsyncIterator[bytes]:
            yield tars.tar(tars.entry("a", b"x" * 5000))[:3000]
            started.set()
            await asyncio.sleep(3600)

    layer = Descriptor(media_types.OCI_LAYER, "sha256:" + "1" * 64, 1 << 40)
    task = asyncio.create_task(LayerFiles.unpack(Remote((layer,), Endless()), scratch=tmp_path))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not open_files(tmp_path)
