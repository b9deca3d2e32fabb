from __future__ import annotations

import posixpath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.errors import InvalidArgumentError
from exporter.exporters.files.entry import FileEntry
from exporter.exporters.files.order import EntryOrder
from exporter.layer.tree import Kind


def directory(path: bytes) -> FileEntry:
    return FileEntry(path=path, kind=Kind.DIRECTORY)


def check(*entries: FileEntry) -> list[list[bytes]]:
    order = EntryOrder()
    return [order.check(entry) for entry in entries]


def test_paths_are_split() -> None:
    parts = check(directory(b"a"), FileEntry(path=b"a/x"), FileEntry(path=b"a.b"), FileEntry(path=b"b"))
    assert parts == [[b"a"], [b"a", b"x"], [b"a.b"], [b"b"]]


@pytest.mark.parametrize(
    "path",
    [
        b"",
        b"/",
        b"/etc",
        b"..",
        b"../x",
        b"a/../b",
        b"a/..",
        b".",
        b"./a",
        b"a//b",
        b"a/",
        b"a/./b",
        b"a\x00b",
    ],
)
def test_unclean_paths(path: bytes) -> None:
    with pytest.raises(InvalidArgumentError, match="unclean path"):
        check(directory(b"a"), FileEntry(path=path))


@pytest.mark.parametrize(
    "paths",
    [
        [b"b", b"a"],
        [b"a", b"a"],
        [b"a/b"],
        [b"a", b"b/c"],
        [b"d", b"d/b", b"e", b"d/c"],
        [b"d", b"d/sub/x"],
    ],
)
def test_order(paths: list[bytes]) -> None:
    with pytest.raises(InvalidArgumentError, match="changes out of order"):
        check(*(directory(path) for path in paths))


def test_nothing_is_below_a_non_directory() -> None:
    link = FileEntry(path=b"a", kind=Kind.SYMLINK, link=b"/etc")
    with pytest.raises(InvalidArgumentError, match='changes out of order: "a/passwd" "a"'):
        check(link, FileEntry(path=b"a/passwd"))


@pytest.mark.parametrize(
    "target", [directory(b"a"), FileEntry(path=b"a", kind=Kind.SYMLINK, link=b"x"), FileEntry(path=b"b")]
)
def test_hard_links_refer_to_earlier_files(target: FileEntry) -> None:
    with pytest.raises(InvalidArgumentError, match='invalid link z to unknown path: "a"'):
        check(target, FileEntry(path=b"z", link=b"a"))


def test_hard_links_of_links() -> None:
    entries = [FileEntry(path=b"a"), FileEntry(path=b"b", link=b"a"), FileEntry(path=b"c", link=b"b")]
    check(*entries[:2])
    with pytest.raises(InvalidArgumentError, match="unknown path"):
        check(*entries)


@given(st.lists(st.text("ab./", max_size=6).map(str.encode), max_size=8))
def test_every_accepted_order_is_a_walk(paths: list[bytes]) -> None:
    order = EntryOrder()
    passed: list[bytes] = []
    for path in paths:
        try:
            order.check(directory(path))
        except InvalidArgumentError:
            continue
        passed.append(path)
    keys = [path.split(b"/") for path in passed]
    assert keys == sorted(keys)
    assert len(set(passed)) == len(passed)
    for path in passed:
        assert posixpath.normpath(path) == path
        assert path[:1] != b"/"
        assert path.split(b"/")[0] != b".."
        parent = posixpath.dirname(path)
        assert not parent or parent in passed
