from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.errors import InvalidArgumentError
from exporter.exporters.files.entry import FileEntry
from exporter.exporters.files.merge import check_overlaps, in_directories, merged
from exporter.layer.tree import Kind


def files(*paths: str, mode: int = 0o644) -> list[FileEntry]:
    return [FileEntry.of(path, b"", mode=mode) for path in paths]


def directory(path: str, mtime: int = 0) -> FileEntry:
    return FileEntry(path=path.encode(), kind=Kind.DIRECTORY, mode=0o755, mtime=mtime)


def test_trees_are_merged_name_by_name() -> None:
    lower = [directory("a"), *files("a/x", "a/z", "a.b")]
    upper = files("a/y", "a.a", "b")
    assert [e.path.decode() for e in merged(lower, upper)] == ["a", "a/x", "a/y", "a/z", "a.a", "a.b", "b"]


def test_the_last_tree_wins() -> None:
    result = list(merged(files("a", "b", mode=1), files("b", mode=2), files("b", "c", mode=3)))
    assert [(entry.path, entry.mode) for entry in result] == [(b"a", 1), (b"b", 3), (b"c", 3)]
    assert list(merged()) == []


@given(st.lists(st.sets(st.text("ab/", min_size=1, max_size=4)), max_size=3))
def test_merging_keeps_order_and_drops_only_repetitions(trees: list[set[str]]) -> None:
    ordered = [sorted(files(*tree), key=lambda entry: entry.key) for tree in trees]
    result = [entry.key for entry in merged(*ordered)]
    assert result == sorted({entry.key for tree in ordered for entry in tree})


def test_directories_are_in_order_and_links_begin_at_them() -> None:
    first = [
        FileEntry.of("a", b""),
        FileEntry(path=b"hard", link=b"a"),
        FileEntry(path=b"abs", kind=Kind.SYMLINK, link=b"/usr/../../etc"),
        FileEntry(path=b"rel", kind=Kind.SYMLINK, link=b"../x"),
    ]
    tree = list(
        in_directories([(directory("linux_arm64"), files("b")), (directory("linux_amd64", 5), first)])
    )
    assert [(e.path, e.link) for e in tree] == [
        (b"linux_amd64", b""),
        (b"linux_amd64/a", b""),
        (b"linux_amd64/hard", b"linux_amd64/a"),
        (b"linux_amd64/abs", b"/etc"),
        (b"linux_amd64/rel", b"../x"),
        (b"linux_arm64", b""),
        (b"linux_arm64/b", b""),
    ]
    assert tree[0].mtime == 5


@pytest.mark.parametrize("name", ["..", ".", "", "a/b"])
def test_names_of_directories(name: str) -> None:
    with pytest.raises(InvalidArgumentError, match=f"invalid path {name}: is a directory"):
        in_directories([(directory(name), [])])


def test_directories_of_the_same_name() -> None:
    with pytest.raises(InvalidArgumentError, match="duplicate path x: file exists"):
        in_directories([(directory("x"), []), (directory("y"), []), (directory("x"), [])])


def test_only_directories_may_be_in_several_trees() -> None:
    check_overlaps({"a": [directory("d"), *files("d/x")], "b": [directory("d"), *files("d/y")]})
    with pytest.raises(InvalidArgumentError) as raised:
        check_overlaps({"linux/amd64": files("same", "x"), "linux/arm64": files("same", "y")})
    assert raised.value.message == (
        "cannot overwrite same from linux/amd64 with linux/arm64 when split option is disabled"
    )
    assert raised.value.field == "attrs[platform-split]"
    with pytest.raises(InvalidArgumentError, match="cannot overwrite d from a with b"):
        check_overlaps({"a": [directory("d")], "b": files("d")})
