from __future__ import annotations

import io
import json
import tarfile
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from exporter.errors import InvalidArgumentError
from exporter.exporters.files.entry import FileEntry
from exporter.exporters.output import LocalOutput
from exporter.exporters.tar import TarExporter
from exporter.layer.entry_tar import tar_pieces
from exporter.layer.gotar import TarError
from exporter.layer.tree import Kind
from exporter.source.types import Source
from tests.unit.exporters.harness import Workplace
from tests.unit.exporters.test_local import PLATFORMS, TWO, attestation, keyed, layer, single
from tests.unit.layer import tars

SECOND = 10**9


def written(*entries: FileEntry) -> list[tarfile.TarInfo]:
    data = b"".join(tar_pieces(entries))
    assert data.endswith(bytes(1024))
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return archive.getmembers()


async def export(tmp_path: Path, source: Source, **attrs: str) -> dict[str, Any]:
    attrs = {key.replace("_", "-"): value for key, value in attrs.items()}
    work = Workplace(tmp_path)
    out = tmp_path / "out.tar"
    result = await work.export(TarExporter(attrs), source, output=LocalOutput(str(out)))
    assert result.response == {}
    assert not work.unfinished()
    assert work.status_ids() == ["sending tarball"]
    assert work.updates[-1].statuses[0].current == out.stat().st_size
    assert not list((tmp_path / "scratch").iterdir())
    with tarfile.open(out) as archive:
        return {member.name: member for member in archive}


def test_name() -> None:
    assert TarExporter({}).name == "exporting to client tarball"
    assert TarExporter({"unknown": "x"}).attrs == {"unknown": "x"}


def test_all_kinds() -> None:
    members = written(
        FileEntry(path=b"c", kind=Kind.CHARACTER_DEVICE, mode=0o600, devmajor=1, devminor=3),
        FileEntry(path=b"d", kind=Kind.DIRECTORY, mode=0o1777, size=5),
        FileEntry.of("d/x", b"hello", mode=0o6755, mtime=3 * SECOND),
        FileEntry(path=b"e", kind=Kind.BLOCK_DEVICE, mode=0o600, devmajor=8, devminor=1),
        FileEntry(path=b"f", kind=Kind.FIFO, mode=0o622),
        FileEntry(path=b"h", mode=0o6755, size=5, link=b"d/x", uid=1, gid=2),
        FileEntry(path=b"s", kind=Kind.SYMLINK, mode=0o777, size=3, link=b"d/x"),
    )
    assert [(m.name, m.type, m.mode, m.size, m.linkname) for m in members] == [
        ("c", tarfile.CHRTYPE, 0o600, 0, ""),
        ("d", tarfile.DIRTYPE, 0o1777, 0, ""),
        ("d/x", tarfile.REGTYPE, 0o6755, 5, ""),
        ("e", tarfile.BLKTYPE, 0o600, 0, ""),
        ("f", tarfile.FIFOTYPE, 0o622, 0, ""),
        ("h", tarfile.LNKTYPE, 0o6755, 0, "d/x"),
        ("s", tarfile.SYMTYPE, 0o777, 0, "d/x"),
    ]
    assert (members[0].devmajor, members[0].devminor) == (1, 3)
    assert (members[5].uid, members[5].gid, members[5].uname, members[5].gname) == (1, 2, "", "")


@pytest.mark.parametrize(
    ("nanoseconds", "seconds"),
    [(0, 0), (499_999_999, 0), (500_000_000, 1), (-1, 0), (-SECOND, -1), (7 * SECOND + 1, 7)],
)
def test_times_are_rounded_to_seconds(nanoseconds: int, seconds: int) -> None:
    (member,) = written(FileEntry(path=b"x", mtime=nanoseconds))
    assert member.mtime == seconds
    assert "mtime" not in member.pax_headers or seconds < 0


def test_extended_attributes_and_long_names_are_records() -> None:
    (member,) = written(FileEntry(path=b"x" * 300, xattrs={b"user.b": b"2", b"user.a": b"\x01=\n"}))
    assert member.name == "x" * 300
    assert list(member.pax_headers) == ["SCHILY.xattr.user.a", "SCHILY.xattr.user.b", "path"]
    assert member.pax_headers["SCHILY.xattr.user.a"] == "\x01=\n"


def test_names_need_not_be_text() -> None:
    (member,) = written(FileEntry(path=b"\xff"))
    assert member.name.encode("utf-8", "surrogateescape") == b"\xff"


def test_entries_that_tar_cannot_hold_are_refused() -> None:
    entry = FileEntry(path=b"dir/x", xattrs={b"user.a=b": b"x"})
    with pytest.raises(TarError, match="^failed to write file header dir/x: "):
        written(entry)


def test_a_large_file_is_not_held_in_memory() -> None:
    piece = bytes(1 << 20)

    class Large:
        def pieces(self) -> Iterator[bytes]:
            for _ in range(64):
                yield piece

    tracemalloc.start()
    try:
        size = sum(map(len, tar_pieces([FileEntry(path=b"x", size=64 << 20, content=Large())])))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size == (64 << 20) + 3 * 512
    assert peak < 8 << 20


async def test_one_platform(tmp_path: Path) -> None:
    source = single(
        layer(tars.directory("d"), tars.entry("d/x", b"1", uid=3, gid=4, uname="u", gname="g")),
        layer(tars.hardlink("h", "d/x")),
    )
    members = await export(tmp_path, source)
    assert list(members) == ["d", "d/x", "h"]
    assert (members["d/x"].uid, members["d/x"].gid, members["d/x"].uname) == (0, 0, "")
    assert members["h"].linkname == "d/x"


@pytest.mark.parametrize("split", ["true", "false"])
async def test_platforms_have_directories_in_any_case(tmp_path: Path, split: str) -> None:
    attested = {platform: [attestation()] for platform in PLATFORMS}
    members = await export(tmp_path, keyed(TWO, attestations=attested), platform_split=split)
    names = ["provenance.json"] * 2
    if split == "false":
        names = [f"provenance.{platform.replace('/', '_')}.json" for platform in PLATFORMS]
    assert list(members) == [
        "linux_amd64",
        "linux_amd64/amd64",
        "linux_amd64/d",
        f"linux_amd64/{names[0]}",
        "linux_arm64",
        "linux_arm64/arm64",
        "linux_arm64/d",
        f"linux_arm64/{names[1]}",
    ]
    assert members["linux_amd64"].mtime == 0


async def test_epoch(tmp_path: Path) -> None:
    members = await export(tmp_path, keyed(TWO), source_date_epoch="77")
    assert {member.mtime for member in members.values()} == {77}


async def test_without_layers_the_tarball_is_empty(tmp_path: Path) -> None:
    assert await export(tmp_path, Source()) == {}
    assert (tmp_path / "out.tar").read_bytes() == bytes(1024)


async def test_a_failed_export_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: object) -> Iterator[bytes]:
        yield b"x"
        raise TarError("failed to write file header x")

    monkeypatch.setattr("exporter.exporters.tar.tar_pieces", broken)
    out = tmp_path / "out.tar"
    out.write_bytes(b"old")
    with pytest.raises(TarError):
        await export(tmp_path, single(layer()))
    assert out.read_bytes() == b"old"
    assert not Workplace(tmp_path).leftovers()


async def test_platforms_whose_directories_would_be_the_same(tmp_path: Path) -> None:
    source = keyed(TWO)
    listed = json.loads(source.metadata["refs.platforms"])
    listed["Platforms"][1]["ID"] = "linux_amd64"
    metadata = {"refs.platforms": json.dumps(listed).encode()}
    refs = {"linux/amd64": None, "linux_amd64": None}
    with pytest.raises(InvalidArgumentError, match="^duplicate path linux_amd64: file exists$"):
        await export(tmp_path, replace(source, refs=refs, metadata=metadata))
