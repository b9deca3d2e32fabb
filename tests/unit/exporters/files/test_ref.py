from __future__ import annotations

import tarfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from exporter.exporters.files.entry import FileEntry
from exporter.exporters.files.ref import adjusted, epoch_nanoseconds, ref_entries
from exporter.layer.files import LayerFiles
from exporter.layer.tree import Kind
from tests.unit.exporters.harness import FakeLayer, make_ref
from tests.unit.layer import tars

SECOND = 10**9


@asynccontextmanager
async def unpacked(scratch: Path, *entries: Any) -> AsyncIterator[LayerFiles]:
    ref = make_ref([FakeLayer(tars.tar(*entries))])
    with await LayerFiles.unpack(await ref.remote(), scratch=scratch) as files:
        yield files


def paths(entries: list[FileEntry]) -> list[tuple[bytes, bytes]]:
    return [(entry.path, entry.link) for entry in entries]


async def test_attributes(tmp_path: Path) -> None:
    async with unpacked(
        tmp_path,
        tars.entry("f", b"data", mode=0o4755, uid=1, gid=2, mtime=1.25),
        tars.symlink("s", "target"),
        tars.entry("n", type=tarfile.CHRTYPE, devmajor=1, devminor=3),
    ) as files:
        f, n, s = ref_entries(files)
        assert (f.mode, f.uid, f.gid, f.mtime, f.size) == (0o4755, 1, 2, SECOND * 5 // 4, 4)
        assert b"".join(f.content.pieces()) == b"data"
        assert (n.kind, n.devmajor, n.devminor) == (Kind.CHARACTER_DEVICE, 1, 3)
        assert (s.kind, s.link, s.size) == (Kind.SYMLINK, b"target", 6)


async def test_the_first_of_several_names_is_the_file(tmp_path: Path) -> None:
    async with unpacked(
        tmp_path,
        tars.entry("z", b"data"),
        tars.hardlink("a", "z"),
        tars.directory("m"),
        tars.hardlink("m/b", "z"),
        tars.entry("p", type=tarfile.FIFOTYPE),
        tars.hardlink("q", "p"),
        tars.symlink("s", "x"),
        tars.hardlink("t", "s"),
    ) as files:
        entries = list(ref_entries(files))
        assert paths(entries) == [
            (b"a", b""),
            (b"m", b""),
            (b"m/b", b"a"),
            (b"p", b""),
            (b"q", b"p"),
            (b"s", b"x"),
            (b"t", b"x"),
            (b"z", b"a"),
        ]
        assert [entry.has_content for entry in entries] == [True, *[False] * 7]
        hidden = list(adjusted(ref_entries(files), hidden=frozenset({b"a"})))
        assert paths(hidden)[:3] == [(b"m", b""), (b"m/b", b""), (b"p", b"")]
        assert paths(hidden)[-1] == (b"z", b"m/b")


@pytest.mark.parametrize(
    ("mtime", "expected"), [(-1, 0), (0, 0), (2**33, 2**33 * SECOND), (2**62, 0), (-(2**40), 0)]
)
async def test_times_are_truncated_as_in_snapshots(tmp_path: Path, mtime: int, expected: int) -> None:
    async with unpacked(tmp_path, tars.entry("f", mtime=mtime)) as files:
        (entry,) = ref_entries(files)
        assert entry.mtime == expected


async def test_directories_without_an_entry_have_no_time(tmp_path: Path) -> None:
    async with unpacked(tmp_path, tars.entry("d/f")) as files:
        assert [(entry.path, entry.mtime) for entry in ref_entries(files)] == [
            (b"d", 0),
            (b"d/f", 1_700_000_000 * SECOND),
        ]
        assert [entry.mtime for entry in adjusted(ref_entries(files), epoch=5)] == [5 * SECOND] * 2


def test_epochs_wrap_as_in_go() -> None:
    assert epoch_nanoseconds(None) == 0
    assert epoch_nanoseconds(-1) == -SECOND
    assert epoch_nanoseconds(2**63 // SECOND + 1) == (2**63 // SECOND + 1) * SECOND - 2**64


async def test_extended_attributes_that_reach_the_client(tmp_path: Path) -> None:
    xattrs = {"SCHILY.xattr.user.a": "1", "SCHILY.xattr.com.apple.b": "2", "SCHILY.xattr.security.c": "3"}
    async with unpacked(
        tmp_path,
        tars.entry("f", pax_headers=xattrs),
        tars.directory("d", pax_headers=xattrs),
        tars.entry("p", type=tarfile.FIFOTYPE, pax_headers=xattrs),
    ) as files:
        found = {entry.path: set(entry.xattrs) for entry in ref_entries(files)}
    assert found == {
        b"d": {b"user.a", b"security.c"},
        b"f": {b"user.a", b"security.c"},
        b"p": {b"security.c"},
    }
