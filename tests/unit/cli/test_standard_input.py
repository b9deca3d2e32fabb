from __future__ import annotations

import asyncio
import bz2
import gzip
import io
import lzma
import os
import tarfile
from pathlib import Path

import pytest

from exporter.cli.build.standard_input import StandardInput


def tarball() -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("ü" * 200))
    return data.getvalue()


def opened(path: Path, data: bytes) -> int:
    path.write_bytes(data)
    return os.open(path, os.O_RDONLY)


@pytest.mark.parametrize(
    ("data", "is_archive"),
    [
        (tarball(), True),
        (gzip.compress(tarball()), True),
        (bz2.compress(tarball()), True),
        (lzma.compress(tarball()), True),
        (b"FROM scratch\n" * 1000, False),
        (b"", False),
        (b"\0" * 10240, False),
    ],
)
def test_archives_are_distinguished_from_dockerfiles(tmp_path: Path, data: bytes, is_archive: bool) -> None:
    stdin = StandardInput(opened(tmp_path / "file", data))
    assert stdin.is_archive() is is_archive
    assert stdin.read() == data


async def test_a_file_is_read_in_pieces(tmp_path: Path) -> None:
    data = os.urandom(3 << 20)
    stdin = StandardInput(opened(tmp_path / "file", data))
    stdin.is_archive()
    assert b"".join([piece async for piece in stdin.stream()]) == data


async def test_a_pipe_without_data() -> None:
    read_end, write_end = os.pipe()
    os.write(write_end, b"first")
    pieces: list[bytes] = []

    async def read() -> None:
        async for piece in StandardInput(read_end).stream():
            pieces.append(piece)
            first.set()

    first = asyncio.Event()
    reading = asyncio.create_task(read())
    await first.wait()
    reading.cancel()
    await asyncio.wait((reading,))  # would not end if a thread waited for the pipe
    assert pieces == [b"first"]
    os.close(read_end)
    os.close(write_end)
