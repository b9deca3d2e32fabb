from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from exporter.exporters.files.directory import write_directory
from exporter.exporters.files.entry import FileEntry
from exporter.layer.tree import Kind

_KILLED = """
import os, sys
from pathlib import Path
from exporter.exporters.files.directory import DirectoryWriter
from exporter.exporters.files.entry import FileEntry
from exporter.layer.tree import Kind
with DirectoryWriter.open(Path(sys.argv[1])) as writer:
    writer.add(FileEntry(path=b"d", kind=Kind.DIRECTORY))
    entry = FileEntry.of("d/file", b"contents")
    writer.add(entry)
    writer.new_file(entry).write(b"cont")
    os._exit(9)
"""
DIRECTORY = FileEntry(path=b"d", kind=Kind.DIRECTORY, mode=0o755)
LEGITIMATE = ".tmp.0123456789abcdef"


def names(path: Path) -> set[str]:
    return {str(found.relative_to(path)) for found in path.rglob("*")}


def killed(path: Path) -> set[str]:
    """What a killed export leaves."""
    before = names(path)
    assert subprocess.run([sys.executable, "-c", _KILLED, str(path)], check=False).returncode == 9
    return names(path) - before


@pytest.mark.parametrize("delete", [False, True])
def test_the_next_export_removes_files_of_a_killed_one(tmp_path: Path, *, delete: bool) -> None:
    left = killed(tmp_path)
    assert len(left) == 3, "the directory, the mark and the unfinished file"
    entries = [FileEntry.of(LEGITIMATE, b"x"), DIRECTORY, FileEntry.of("d/file", b"contents")]
    for _ in write_directory(tmp_path, entries, delete=delete):
        pass
    assert names(tmp_path) == {LEGITIMATE, "d", "d/file"}
    # A user's file with a similar name is not removed: its identifier does not belong to a run.
    for _ in write_directory(tmp_path, [DIRECTORY], delete=False):
        pass
    assert LEGITIMATE in names(tmp_path)


@pytest.mark.parametrize("delete", [False, True])
def test_a_running_export_is_not_disturbed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, delete: bool
) -> None:
    monkeypatch.setattr("exporter.content.threads._STEP_SECONDS", 0)
    steps = write_directory(tmp_path, [DIRECTORY, FileEntry.of("d/file", b"contents")], delete=False)
    next(steps), next(steps)
    unfinished = {name for name in names(tmp_path) if "tmp" in name}
    assert len(unfinished) == 1
    killed(tmp_path)
    for _ in write_directory(tmp_path, [DIRECTORY], delete=delete):
        pass
    assert {name for name in names(tmp_path) if "tmp" in name} == unfinished
    for _ in steps:
        pass
    assert names(tmp_path) == {"d", "d/file"}


def test_links_are_not_followed_when_leftovers_are_removed(tmp_path: Path) -> None:
    dest, outside = tmp_path / "dest", tmp_path / "outside"
    dest.mkdir()
    outside.mkdir()
    mark = next(name for name in killed(dest) if "run" in name)
    unfinished = f".tmp.{mark.rpartition('-')[2]}.7"
    (outside / unfinished).write_bytes(b"x")
    (dest / "link").symlink_to(outside)
    for _ in write_directory(dest, [], delete=False):
        pass
    assert (outside / unfinished).exists()
    assert names(dest) == {"d", "link"}
