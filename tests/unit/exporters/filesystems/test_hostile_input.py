"""File systems: what an image or a working directory contains does not act on this machine."""

from __future__ import annotations

import subprocess
import tracemalloc
from pathlib import Path
from uuid import UUID

import pytest

from exporter.content.programs import ProgramResult
from exporter.errors import InvalidArgumentError
from exporter.exporters.filesystems.directory import make_squashfs
from exporter.exporters.filesystems.ext4 import _batches, make_ext4
from exporter.exporters.filesystems.ext4_script import Script
from exporter.exporters.filesystems.plan import FileSystemPlan
from exporter.exporters.report.contents import Contents
from exporter.exporters.report.page import _raw
from exporter.layer import Header, TypeFlag
from exporter.layer.entry import FileEntry
from exporter.layer.tree import Kind
from tests.peers import require


def plan(scratch: Path) -> FileSystemPlan:
    return FileSystemPlan(scratch=scratch, time=1, uuid=UUID(int=5))


def entry(path: bytes, **more: object) -> FileEntry:
    return FileEntry(path=path, kind=Kind.DIRECTORY, mode=0o755, mtime=10**18, **more)  # type: ignore[arg-type]


async def test_modules_of_the_working_directory_do_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require("mksquashfs", "squashfs-tools")
    require("fakeroot", "fakeroot")
    place = tmp_path / "project"
    (place / "exporter").mkdir(parents=True)
    (place / "exporter" / "__init__.py").write_text("raise SystemExit('ran')")
    monkeypatch.chdir(place)
    await make_squashfs(plan(tmp_path), [], tmp_path / "image")


@pytest.mark.parametrize("key", [b"-r", b"-f/dev/null", b"-c"])
async def test_an_attribute_with_a_leading_dash_is_kept(key: bytes, tmp_path: Path) -> None:
    debugfs = require("debugfs", "e2fsprogs")
    await make_ext4(plan(tmp_path), [entry(b"d", xattrs={key: b"v"})], tmp_path / "image")
    found = subprocess.run(  # noqa: ASYNC221
        [debugfs, "-R", "ea_list /d", str(tmp_path / "image")], capture_output=True, check=True
    )
    assert key in found.stdout


def test_a_carriage_return_is_the_caller_s_mistake() -> None:
    with pytest.raises(InvalidArgumentError, match="line break"):
        Script([]).add(entry(b"a\rb"))


def test_many_files_without_content_are_several_batches(tmp_path: Path) -> None:
    entries = [entry(b"directory-%d" % number) for number in range(80_000)]
    assert len(list(_batches(plan(tmp_path), entries, tmp_path))) > 1


def test_a_signal_without_a_name_is_explained() -> None:
    assert ProgramResult(-40, "").explanation == "ended by signal 40"
    assert ProgramResult(-9, "").explanation == "ended by SIGKILL"


def test_indentation_of_a_predicate_does_not_fill_the_memory() -> None:
    value: object = [1] * 200_000
    for _ in range(200):
        value = [value]
    tracemalloc.start()
    try:
        assert _raw({"p": value}) is None
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


def test_a_deep_path_looks_up_each_directory_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    find = Contents._find

    def counted(self: Contents, parts: list[bytes]) -> object:
        calls.append(len(parts))
        return find(self, parts)

    monkeypatch.setattr(Contents, "_find", counted)
    contents = Contents()
    contents.add_layer([Header(name=b"a/" * 1000 + b"f", typeflag=TypeFlag.REG)])
    assert sum(calls) <= 3000
