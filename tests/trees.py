"""The trees of files that the recorded builds have, and those that were made of them again.

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

from exporter.exporters.files.entry import BytesContent, FileEntry
from exporter.layer.tree import Kind
from tests.builds import read_json, scenario

SECOND = 10**9
KINDS = {
    "0": Kind.FILE,
    "1": Kind.FILE,
    "2": Kind.SYMLINK,
    "3": Kind.CHARACTER_DEVICE,
    "5": Kind.DIRECTORY,
    "6": Kind.FIFO,
}


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


def unlike_the_recorded(name: str, root: Path) -> list[str]:
    """Which files of a directory have other names or another text than those of a recorded one."""
    unlike = []
    for recorded in read_json(name, "tree_listing.json"):
        path, other = root / recorded["path"], recorded.get("hardlink_to")
        if other is not None and not path.samefile(root / other):
            unlike.append(recorded["path"])
        if "text" in recorded and path.read_text() != recorded["text"]:
            unlike.append(recorded["path"])
    return unlike
