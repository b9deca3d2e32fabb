"""Every recorded tarball and directory, made again from the layers.

Layers hold less than a daemon's snapshots: whole seconds, and of extended attributes file capabilities only.
What a recording has beyond that is left out of the comparison.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from exporter.exporters.files_entry import BytesContent, FileEntry
from exporter.exporters.files_tar import tar_pieces
from exporter.exporters.output import LocalOutput
from exporter.exporters.registry import Registry
from exporter.image import Time
from exporter.layer.tree import Kind
from exporter.source.saved import SavedSource
from tests.builds import read_json, scenario, scenario_names
from tests.unit.exporters.harness import Workplace

SECOND = 10**9
KINDS = {
    "0": Kind.FILE,
    "1": Kind.FILE,
    "2": Kind.SYMLINK,
    "3": Kind.CHARACTER_DEVICE,
    "5": Kind.DIRECTORY,
    "6": Kind.FIFO,
}


def names(exporter_type: str) -> list[str]:
    return [
        name
        for name in scenario_names(daemon="buildkit")
        if read_json(name, "scenario.json")["exporter"]["type"] == exporter_type
    ]


async def export(name: str, directory: Path) -> Path:
    saved = await SavedSource.open(scenario(name))
    exporter = read_json(name, "scenario.json")["exporter"]
    output = directory / "output"
    await Workplace(directory).export(
        Registry().get(exporter["type"])(exporter["attrs"]), saved.source, output=LocalOutput(str(output))
    )
    return output


def recorded_entries(name: str, *, xattrs: bool) -> Iterator[FileEntry]:
    tar = (scenario(name) / "result.tar").read_bytes()
    prefix = "SCHILY.xattr."
    for recorded in read_json(name, "tar_listing.json")["entries"]:
        start, size = recorded["data_offset"], recorded["size"]
        pax = recorded["pax_headers"].items() if xattrs else ()
        yield FileEntry(
            path=recorded["name"].encode(),
            kind=KINDS[recorded["type"]],
            mode=int(recorded["mode"], 8),
            uid=recorded["uid"],
            gid=recorded["gid"],
            mtime=recorded["mtime"] * SECOND,
            size=size,
            link=recorded["linkname"].encode(),
            devmajor=recorded["devmajor"],
            devminor=recorded["devminor"],
            xattrs={key.removeprefix(prefix).encode(): value.encode() for key, value in pax},
            content=BytesContent(tar[start : start + size]),
        )


@pytest.mark.parametrize("name", names("tar"))
def test_the_bytes_of_a_tarball(name: str) -> None:
    written = b"".join(tar_pieces(recorded_entries(name, xattrs=True)))
    assert written == (scenario(name) / "result.tar").read_bytes()


@pytest.mark.parametrize("name", names("tar"))
async def test_tarball(name: str, tmp_path: Path) -> None:
    expected = b"".join(tar_pieces(recorded_entries(name, xattrs=False)))
    assert (await export(name, tmp_path)).read_bytes() == expected


def test_which_tarballs_have_what_layers_do_not() -> None:
    entries = {
        name: read_json(name, "tar_listing.json")["entries"]
        for name in scenario_names(daemon="buildkit")
        if name in names("tar")
    }
    beyond = {name for name, found in entries.items() if any(entry["pax_headers"] for entry in found)}
    assert beyond == {"tar", "tar-epoch"}


def listing(root: Path) -> dict[str, dict[str, Any]]:
    return {path.relative_to(root).as_posix(): _describe(path) for path in sorted(root.rglob("*"))}


def _describe(path: Path) -> dict[str, Any]:
    info = path.lstat()
    found: dict[str, Any] = {
        "mode": oct(info.st_mode),
        "uid": info.st_uid - os.getuid(),
        "gid": info.st_gid - os.getgid(),
        "mtime": info.st_mtime_ns / SECOND,
    }
    if stat.S_ISLNK(info.st_mode):
        found["linkname"] = str(path.readlink())
    if stat.S_ISCHR(info.st_mode):
        found["rdev"] = [os.major(info.st_rdev), os.minor(info.st_rdev)]
    if not stat.S_ISDIR(info.st_mode):  # of directories it is the file system's affair
        found["nlink"] = info.st_nlink
    if stat.S_ISREG(info.st_mode):
        found["size"] = info.st_size
        found["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def recorded_listing(name: str) -> dict[str, dict[str, Any]]:
    tree = {}
    for recorded in read_json(name, "tree_listing.json"):
        entry = dict(recorded)
        path = entry.pop("path")
        for key in ("xattrs", "hardlink_to", "text"):
            entry.pop(key, None)
        if path != ".":
            if stat.S_ISDIR(int(entry["mode"], 8)):
                del entry["nlink"]
            entry["mtime"] = entry.pop("mtime_ns") // SECOND
            tree[path] = entry
    return tree


@pytest.mark.parametrize("name", names("local"))
async def test_directory(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "local-devices" and os.geteuid() != 0:
        pytest.skip("only root makes devices")
    statements = [e for e in read_json(name, "tree_listing.json") if "provenance.json" in e["path"]]
    if statements:
        made = Time.from_unix_nano(statements[0]["mtime_ns"])
        monkeypatch.setattr("exporter.exporters.files_source.now", lambda: made)
    output = await export(name, tmp_path)
    assert listing(output) == recorded_listing(name)
    for recorded in read_json(name, "tree_listing.json"):
        if "hardlink_to" in recorded:
            assert (output / recorded["path"]).samefile(output / recorded["hardlink_to"])
        if "text" in recorded:
            assert (output / recorded["path"]).read_text() == recorded["text"]
