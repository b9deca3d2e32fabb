"""Walks through local directories, compared with upstream's library."""

from __future__ import annotations

import gzip
import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from exporter.daemon.fsutil.local_files import LocalWalk, Selection
from exporter.errors import FailedPreconditionError
from exporter.layer.tree import Kind
from exporter.remotes.messages.stats import stat_of

DATA = Path(__file__).parents[3] / "data" / "filesync" / "walks.jsonl.gz"


def recorded() -> list[dict[str, Any]]:
    with gzip.open(DATA, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def make_tree(root: Path, nodes: list[dict[str, str]]) -> None:
    for node in nodes:
        path = root / node["path"]
        match node["kind"]:
            case "dir":
                path.mkdir()
                path.chmod(0o755)
            case "file":
                path.write_text(node["path"])
                path.chmod(0o644)
            case "hardlink":
                os.link(root / node["target"], path)
            case _:
                path.symlink_to(node["target"])


def paths(root: Path, **selection: list[str]) -> list[str]:
    return [entry.path.decode() for entry in LocalWalk(root, Selection(**selection)).entries()]


def test_like_upstream(tmp_path: Path) -> None:
    cases = recorded()
    assert len(cases) > 500
    for number, case in enumerate(cases):
        root = tmp_path / str(number)
        root.mkdir()
        make_tree(root, case["tree"])
        selection = Selection(case.get("include", ()), case.get("exclude", ()), case.get("follow", ()))
        entries = [
            {
                "path": entry.path.decode(),
                "mode": entry.mode,
                "link": entry.linkname.decode(),
                "size": entry.size,
            }
            for entry in map(stat_of, LocalWalk(root, selection).entries())
        ]
        expected = [{"link": "", "size": 0} | entry for entry in case["entries"] or ()]
        assert entries == expected, case


def test_attributes(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"12345")
    file.chmod(0o4751)
    os.utime(file, ns=(0, 1_700_000_000_123_456_789))
    try:
        os.setxattr(file, "user.colour", b"red\0")
    except OSError:
        pytest.skip("the file system has no extended attributes")
    [entry] = LocalWalk(tmp_path).entries()
    assert (entry.size, entry.mtime, entry.mode) == (5, 1_700_000_000_123_456_789, 0o4751)
    assert dict(entry.xattrs) == {b"user.colour": b"red\0"}
    assert (entry.uid, entry.gid) == (0, 0)


def test_kinds(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "f").write_bytes(b"f")
    (tmp_path / "l").symlink_to("f")
    os.mkfifo(tmp_path / "p")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        entries = {entry.path: entry for entry in LocalWalk(tmp_path).entries()}
    kinds = {path.decode(): entry.kind for path, entry in entries.items()}
    assert kinds == {"d": Kind.DIRECTORY, "f": Kind.FILE, "l": Kind.SYMLINK, "p": Kind.FIFO, "s": Kind.FILE}
    assert b"".join(entries[b"f"].content.pieces()) == b"f"
    assert b"".join(entries[b"s"].content.pieces()) == b""


def test_names_are_ordered_by_their_bytes(tmp_path: Path) -> None:
    for name in ("a-b", "a", "a.b", "ü", "Z", "😀", "\uffee"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x").touch()
    tops = [path for path in paths(tmp_path) if "/" not in path]
    assert tops == sorted(tops, key=os.fsencode)
    assert paths(tmp_path)[:4] == ["Z", "Z/x", "a", "a/x"]


def test_names_and_targets_need_not_be_utf8(tmp_path: Path) -> None:
    odd = os.fsdecode(b"caf\xe9")
    (tmp_path / odd).touch()
    (tmp_path / "link").symlink_to(odd)
    found = [(entry.path, entry.link) for entry in LocalWalk(tmp_path).entries()]
    assert found == [(b"caf\xe9", b""), (b"link", b"caf\xe9")]


def test_a_file_replaced_during_the_walk_is_not_read(tmp_path: Path) -> None:
    for name in ("pipe", "link", "gone"):
        (tmp_path / name).write_bytes(b"before")
    entries = {entry.path.decode(): entry for entry in LocalWalk(tmp_path).entries()}
    for name in entries:
        (tmp_path / name).unlink()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/etc/passwd")
    with pytest.raises(FailedPreconditionError, match="pipe was replaced"):
        list(entries["pipe"].content.pieces())
    with pytest.raises(OSError):
        list(entries["link"].content.pieces())
    assert list(entries["gone"].content.pieces()) == []


def test_a_directory_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "closed").mkdir()
    scandir = os.scandir

    def guarded(path: Path) -> Any:
        if path.name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    with pytest.raises(PermissionError):
        paths(tmp_path)
    assert paths(tmp_path, exclude=["closed", "!closed/x*"]) == []
