from __future__ import annotations

import posixpath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.errors import InvalidArgumentError, NotFoundError
from exporter.layer.gotar import Header, TarTime, TypeFlag
from exporter.layer.tree import FileTree, Kind


def header(name: str, kind: bytes = TypeFlag.REG, link: str = "", **attributes: Any) -> Header:
    made = Header(name=name.encode(), typeflag=kind, linkname=link.encode(), mode=0o644)
    for key, value in attributes.items():
        setattr(made, key, value)
    return made


def folder(name: str, **attributes: Any) -> Header:
    return header(name, TypeFlag.DIR, **{"mode": 0o755, **attributes})


def link(name: str, target: str) -> Header:
    return header(name, TypeFlag.SYMLINK, target)


def hard(name: str, target: str, **attributes: Any) -> Header:
    return header(name, TypeFlag.LINK, target, **attributes)


def tree(*layers: list[Header]) -> FileTree:
    """Apply layers; each entry's content is numbered, from 1 on."""
    made = FileTree()
    number = 0
    for layer in layers:
        made.begin_layer()
        for entry in layer:
            number += 1
            made.apply(entry, number)
    return made


def contents(made: FileTree) -> dict[str, int]:
    """The number of each file's entry; 0 for all else."""
    return {path.decode(): inode.content if inode.kind is Kind.FILE else 0 for path, inode in made.walk()}


# --- one layer ---


def test_attributes() -> None:
    made = tree(
        [
            folder("d/", mode=0o1777, uid=1, gid=2),
            header(
                "d/f",
                mode=0o104755,
                size=7,
                mod_time=TarTime(5, 6),
                pax_records={b"SCHILY.xattr.user.k": b"v", b"comment": b"c"},
            ),
            link("d/l", "../x"),
            header("d/c", TypeFlag.CHAR, devmajor=1, devminor=3),
            header("d/b", TypeFlag.BLOCK, devmajor=8),
            header("d/p", TypeFlag.FIFO, size=99),
        ]
    )
    found = {path.decode(): inode for path, inode in made.walk()}
    assert list(found) == ["d", "d/b", "d/c", "d/f", "d/l", "d/p"]
    assert (found["d"].kind, found["d"].mode, found["d"].uid, found["d"].gid) == (
        Kind.DIRECTORY,
        0o1777,
        1,
        2,
    )
    file = found["d/f"]
    assert (file.kind, file.mode, file.size, file.mod_time) == (Kind.FILE, 0o4755, 7, TarTime(5, 6))
    assert file.xattrs == {b"user.k": b"v"}
    assert (found["d/l"].kind, found["d/l"].target) == (Kind.SYMLINK, b"../x")
    assert (found["d/c"].kind, found["d/c"].devmajor, found["d/c"].devminor) == (Kind.CHARACTER_DEVICE, 1, 3)
    assert (found["d/b"].kind, found["d/b"].devmajor) == (Kind.BLOCK_DEVICE, 8)
    assert (found["d/p"].kind, found["d/p"].size) == (Kind.FIFO, 0)


def test_names_are_sorted_by_bytes_within_each_directory() -> None:
    made = tree([header(name) for name in ("b", "a/z", "a.txt", "a/é", "a/B", "Z")])
    assert list(contents(made)) == ["Z", "a", "a/B", "a/z", "a/é", "a.txt", "b"]


def test_directories_that_are_not_listed_are_made() -> None:
    made = tree([header("a/b/c")])
    assert (made.find(b"a/b").mode, made.find(b"a/b").uid) == (0o755, 0)


def test_the_last_of_duplicate_names_wins() -> None:
    assert contents(tree([header("a"), header("./a"), header("/a")])) == {"a": 3}


def test_layers_do_not_change_the_root() -> None:
    made = tree([folder("./", mode=0o700, uid=5), folder("/"), folder(".."), header("a")])
    assert (made.root.mode, made.root.uid) == (0o755, 0)
    assert contents(made) == {"a": 4}


def test_global_headers_are_ignored() -> None:
    assert contents(tree([header("pax_global_header", TypeFlag.X_GLOBAL_HEADER)])) == {}


@pytest.mark.parametrize("kind", [TypeFlag.GNU_SPARSE, b"7", b"Z"])
def test_unknown_kinds(kind: bytes) -> None:
    with pytest.raises(InvalidArgumentError, match="unknown kind"):
        tree([header("a", kind)])


# --- hard links ---


def test_hard_links_are_one_inode() -> None:
    made = tree([header("a"), hard("d/b", "a"), hard("c", "/d/b")])
    assert made.find(b"a") is made.find(b"d/b") is made.find(b"c")
    assert made.find(b"a").names == 3


def test_a_hard_link_sets_attributes_of_its_target() -> None:
    made = tree(
        [header("a", uid=1), hard("b", "a", uid=2, mode=0o600, pax_records={b"SCHILY.xattr.k": b"v"})]
    )
    assert (made.find(b"a").uid, made.find(b"a").mode, made.find(b"a").xattrs) == (2, 0o600, {b"k": b"v"})


def test_replacing_one_name_leaves_the_other() -> None:
    made = tree([header("a"), hard("b", "a")], [header("a")])
    assert contents(made) == {"a": 3, "b": 1}
    assert made.find(b"b").names == 1


def test_a_link_to_a_link_is_that_link() -> None:
    made = tree([link("l", "nowhere"), hard("h", "l")])
    assert made.find(b"h", follow=False).target == b"nowhere"


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([hard("a", "gone")], "a is a hard link to gone, which does not exist"),
        ([header("a"), hard("a", "a")], "does not exist"),
        ([folder("d"), hard("a", "d")], "hard link to the directory d"),
        ([hard("a", "../../etc/passwd")], "does not exist"),
    ],
)
def test_invalid_hard_links(entries: list[Header], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        tree(entries)


# --- names that want to lead out ---


@pytest.mark.parametrize("name", ["../x", "/x", "../../../x", "a/../x", "./././x", "//x", "a/../../x"])
def test_names_cannot_leave_the_root(name: str) -> None:
    assert contents(tree([header(name)])) == {"x": 1}


@pytest.mark.parametrize("target", ["/etc", "../../../etc", "./etc", "etc", "//etc//"])
def test_links_in_the_way_are_followed_within_the_tree(target: str) -> None:
    made = tree([folder("etc"), link("l", target), header("l/f")])
    assert contents(made) == {"etc": 0, "etc/f": 3, "l": 0}


def test_links_to_nothing_in_the_way_make_a_directory() -> None:
    assert contents(tree([link("l", "new/place"), header("l/f")])) == {
        "l": 0,
        "new": 0,
        "new/place": 0,
        "new/place/f": 2,
    }


def test_links_at_the_end_are_replaced() -> None:
    assert contents(tree([header("f"), link("l", "f")], [header("l")])) == {"f": 1, "l": 3}


def test_cyclic_links() -> None:
    with pytest.raises(InvalidArgumentError, match="too many links"):
        tree([link("a", "b"), link("b", "a"), header("a/f")])


def test_files_are_not_directories() -> None:
    with pytest.raises(InvalidArgumentError, match="f is not a directory"):
        tree([header("f"), header("f/x")])


paths = st.lists(
    st.sampled_from(["a", "b", "..", ".", "", ".wh.a", ".wh..wh..opq", ".wh.b"]), min_size=1, max_size=4
).map("/".join)
entries = st.one_of(
    st.builds(header, paths),
    st.builds(folder, paths),
    st.builds(link, paths, paths),
    st.builds(hard, paths, paths),
)


@given(st.lists(st.lists(entries, max_size=8), max_size=4))
def test_any_layers_make_a_tree_or_an_error(layers: list[list[Header]]) -> None:
    try:
        made = tree(*layers)
    except InvalidArgumentError:
        return
    names: dict[int, int] = {}
    previous: list[bytes] = []
    for path, inode in made.walk():
        assert posixpath.normpath(path) == path
        assert not path.startswith((b"/", b".."))
        assert path.split(b"/") > previous
        previous = path.split(b"/")
        assert made.find(path, follow=False) is inode
        names[id(inode)] = names.get(id(inode), 0) + 1
        assert inode.kind is Kind.DIRECTORY or not inode.children
    assert all(inode.names == names[id(inode)] for _, inode in made.walk())


# --- several layers ---


def test_layers_add_and_replace() -> None:
    made = tree(
        [header("a"), header("b"), folder("d", uid=1), header("d/x")],
        [header("b"), folder("d", uid=2), header("d/y")],
    )
    assert contents(made) == {"a": 1, "b": 5, "d": 0, "d/x": 4, "d/y": 7}
    assert made.find(b"d").uid == 2


def test_files_replace_directories_and_vice_versa() -> None:
    made = tree([folder("d"), header("d/x"), header("f")], [header("d"), folder("f"), header("f/y")])
    assert contents(made) == {"d": 4, "f": 0, "f/y": 6}


def test_whiteouts() -> None:
    made = tree(
        [header("a"), folder("d"), header("d/x"), header("d/y"), header("e/z")],
        [header(".wh.a"), header("d/.wh.x"), header(".wh.e"), header(".wh.never")],
    )
    assert contents(made) == {"d": 0, "d/y": 4}


def test_whiteouts_hide_lower_layers_only() -> None:
    """OCI image specification: files of the same layer are not hidden, regardless of their order."""
    for layer in ([header("a"), header(".wh.a")], [header(".wh.a"), header("a")]):
        assert contents(tree([header("a")], layer))["a"] > 1
    made = tree([header("d/old")], [header("d/new"), header(".wh.d")])
    assert contents(made) == {"d": 0, "d/new": 2}


def test_opaque_directories() -> None:
    lower = [header("d/a"), header("d/s/b"), header("d/t/c"), header("e")]
    for upper in (
        [folder("d"), header("d/.wh..wh..opq"), header("d/new"), header("d/s/new")],
        [folder("d"), header("d/new"), header("d/s/new"), header("d/.wh..wh..opq")],
    ):
        assert set(contents(tree(lower, upper))) == {"d", "d/new", "d/s", "d/s/new", "e"}


def test_an_opaque_directory_that_is_new() -> None:
    assert contents(tree([header("d/.wh..wh..opq"), header("d/x")])) == {"d": 0, "d/x": 2}


def test_hiding_one_name_of_a_hard_link() -> None:
    made = tree([header("a"), hard("b", "a")], [header(".wh.a")])
    assert contents(made) == {"b": 1}
    assert made.find(b"b").names == 1


@pytest.mark.parametrize("name", [".wh.", ".wh..", ".wh...", "d/.wh.."])
def test_whiteouts_without_a_name_are_refused(name: str) -> None:
    with pytest.raises(InvalidArgumentError, match="invalid whiteout name"):
        tree([header(name)])


# --- looking up ---


def test_find_follows_links() -> None:
    made = tree([header("d/f"), link("l", "d"), link("m", "/l/f"), link("up", "../../d/f")])
    for path in (b"d/f", b"/l/f", b"m", b"up", b"l/../d/f"):
        assert made.find(path).content == 1
    assert made.find(b"m", follow=False).kind is Kind.SYMLINK
    assert made.find(b"l/f", follow=False).content == 1
    assert made.find(b"") is made.find(b"/") is made.root


@pytest.mark.parametrize("path", [b"x", b"d/x", b"d/f/x", b"dangling"])
def test_find_raises_for_missing_files(path: bytes) -> None:
    made = tree([header("d/f"), link("dangling", "nowhere")])
    with pytest.raises(NotFoundError, match="no such file or directory"):
        made.find(path)
