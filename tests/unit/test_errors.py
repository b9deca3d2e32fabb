"""Messages for errors of the operating system."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from exporter.content.layout import OCILayout
from exporter.content.staging import Staging
from exporter.errors import Code, failure_of, naming
from exporter.exporters.files.directory import write_directory
from exporter.exporters.files.entry import FileEntry
from exporter.exporters.output import LocalOutput
from exporter.image import Descriptor


@pytest.fixture
def full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No write to the test's files succeeds from now on."""
    really_write = os.write

    def write(fd: int, data: bytes) -> int:
        if not Path(f"/proc/self/fd/{fd}").readlink().is_relative_to(tmp_path):
            return really_write(fd, data)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", write)


def names(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir()]


@pytest.mark.parametrize(
    ("error", "message", "code"),
    [
        (
            OSError(errno.ENOENT, "No such file or directory", "a"),
            "a: No such file or directory",
            "NOT_FOUND",
        ),
        (OSError(errno.EACCES, "Permission denied", b"a"), "a: Permission denied", "PERMISSION_DENIED"),
        (OSError(errno.EROFS, "Read-only file system", "a"), "a: Read-only file system", "PERMISSION_DENIED"),
        (OSError(errno.EXDEV, "Cross-device", "a", None, "b"), "a -> b: Cross-device", "INTERNAL"),
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device", "RESOURCE_EXHAUSTED"),
        (OSError(errno.EFBIG, "File too large", "a"), "a: File too large", "RESOURCE_EXHAUSTED"),
        (OSError(errno.EIO, "Input/output error", 3), "Input/output error", "INTERNAL"),
        (OSError("of our own making"), "of our own making", "INTERNAL"),
    ],
)
def test_the_text_of_an_error(error: OSError, message: str, code: str) -> None:
    failure = failure_of(error)
    assert (failure.message, failure.code) == (message, Code[code])


def test_naming_a_file() -> None:
    with pytest.raises(FileNotFoundError) as raised, naming("other"):
        Path("/missing/file").touch()
    assert failure_of(raised.value).message == "/missing/file: No such file or directory"
    with pytest.raises(FileNotFoundError) as raised, naming("other", instead=True):
        Path("/missing/file").touch()
    assert failure_of(raised.value).message == "other: No such file or directory"


@pytest.mark.usefixtures("full_disk")
async def test_a_file_that_a_full_disk_has_no_room_for(tmp_path: Path) -> None:
    path = tmp_path / "app.tar"
    with pytest.raises(OSError) as raised:
        async with LocalOutput(str(path)).file({}) as sink:
            await sink.write(b"x")
    assert failure_of(raised.value).message == f"{path}: No space left on device"
    assert names(tmp_path) == []


@pytest.mark.usefixtures("full_disk")
def test_a_file_of_a_directory(tmp_path: Path) -> None:
    with pytest.raises(OSError) as raised:
        list(write_directory(tmp_path / "out", [FileEntry.of("a", b"x")], delete=False))
    assert failure_of(raised.value).message == f"{tmp_path}/out: failed to write a: No space left on device"


async def test_a_blob_of_a_layout(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    layout = await OCILayout.open(tmp_path / "layout")
    request.getfixturevalue("full_disk")
    descriptor = Descriptor("text/plain", f"sha256:{'0' * 64}", 1)
    with pytest.raises(OSError) as raised:
        async with layout.ingest(descriptor) as writer:
            await writer.write(b"x")
            await writer.commit()
    assert failure_of(raised.value).message == f"{tmp_path}/layout: No space left on device"


def test_a_file_instead_of_a_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "app.tar"
    with pytest.raises(NotADirectoryError) as raised:
        Staging(path.parent / ".partial", path).create()
    assert failure_of(raised.value).message == f"{path}: Not a directory"
