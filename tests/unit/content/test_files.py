from __future__ import annotations

import os
from pathlib import Path

import pytest

from exporter.content import BlobDirectory, BlobInfo, FileProvider
from exporter.content.files import read_file
from exporter.errors import FailedPreconditionError, NotFoundError
from exporter.image import digest_bytes

DIGEST = digest_bytes(b"abc")


async def _read(provider: FileProvider | BlobDirectory, digest: str) -> bytes:
    return b"".join([piece async for piece in provider.read(digest)])


async def test_reads_single_files(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    provider = FileProvider({DIGEST: tmp_path / "file", digest_bytes(b"gone"): tmp_path / "gone"})
    assert await provider.info(DIGEST) == BlobInfo(DIGEST, 3)
    assert await _read(provider, DIGEST) == b"abc"
    for digest in (digest_bytes(b"gone"), digest_bytes(b"other")):
        with pytest.raises(NotFoundError, match=digest):
            await provider.info(digest)
        with pytest.raises(NotFoundError, match=digest):
            await _read(provider, digest)


async def test_lists_blobs_and_nothing_else(tmp_path: Path) -> None:
    directory = tmp_path / "sha256"
    directory.mkdir()
    (directory / DIGEST.removeprefix("sha256:")).write_bytes(b"abc")
    (directory / "not-a-digest").write_bytes(b"")
    (tmp_path / "md5").mkdir()
    (tmp_path / "md5" / ("0" * 32)).write_bytes(b"")
    (tmp_path / "file").write_bytes(b"")
    assert list(BlobDirectory(tmp_path).list()) == [BlobInfo(DIGEST, 3)]
    assert list(BlobDirectory(tmp_path / "missing").list()) == []


async def test_never_waits_for_the_writer_of_a_pipe(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    provider = FileProvider({DIGEST: path})
    with pytest.raises(FailedPreconditionError, match="pipe is not a regular file"):
        await provider.info(DIGEST)
    with pytest.raises(FailedPreconditionError, match="pipe is not a regular file"):
        await _read(provider, DIGEST)


def test_small_files_have_a_limit(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    assert read_file(tmp_path / "file", 3) == b"abc"
    with pytest.raises(FailedPreconditionError, match="the limit for such a file is 2 bytes"):
        read_file(tmp_path / "file", 2)


def test_what_is_not_a_blob_does_not_end_the_list(tmp_path: Path) -> None:
    directory = tmp_path / "sha256"
    directory.mkdir()
    digests = {digest_bytes(bytes([number])) for number in range(20)}
    for number, digest in enumerate(sorted(digests)):
        (directory / digest.removeprefix("sha256:")).write_bytes(b"x")
        (directory / f"other-{number}").write_bytes(b"")
    assert {info.digest for info in BlobDirectory(tmp_path).list()} == digests
