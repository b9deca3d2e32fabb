"""Layers of differences, of random trees."""

from __future__ import annotations

import io
from typing import cast

from hypothesis import given
from hypothesis import strategies as st

from exporter.errors import InvalidArgumentError
from exporter.images.difference import difference
from exporter.layer.entry import BytesContent
from exporter.layer.entry_tar import tar_pieces
from exporter.layer.files import LayerFiles
from exporter.layer.gotar import Header, TarReader, TarTime, TypeFlag
from exporter.layer.streams import PIECE_SIZE
from exporter.layer.tree import FileTree, Inode, Kind

NAMES = st.sampled_from(["a", "b", "a/a", "a/b", "b/a", "a/b/c", "c"])
KINDS = st.sampled_from([TypeFlag.REG, TypeFlag.DIR, TypeFlag.SYMLINK, TypeFlag.LINK, TypeFlag.FIFO])


class NumberedFiles:
    """Instead of unpacked layers: the content of a file is its number."""

    def __init__(self, tree: FileTree, lower: FileTree | None) -> None:
        self.tree = tree
        self.lower = lower

    def content(self, inode: Inode) -> BytesContent:
        return BytesContent(b"%04d" % inode.content if inode.kind is Kind.FILE else b"")


@st.composite
def headers(draw: st.DrawFn) -> Header:
    name = draw(NAMES)
    what = draw(st.sampled_from(["entry", "entry", "entry", "whiteout", "opaque"]))
    folder, slash, base = name.rpartition("/")
    if what != "entry":
        base = ".wh." + base if what == "whiteout" else ".wh..wh..opq"
        return Header(name=f"{folder}{slash}{base}".encode())
    kind = draw(KINDS)
    return Header(
        name=name.encode(),
        typeflag=kind,
        linkname=draw(NAMES).encode() if kind in {TypeFlag.LINK, TypeFlag.SYMLINK} else b"",
        size=4 if kind == TypeFlag.REG else 0,
        mode=draw(st.sampled_from([0o644, 0o755])),
        uid=draw(st.sampled_from([0, 1])),
        mod_time=TarTime(draw(st.sampled_from([1, 2])), draw(st.sampled_from([0, 5]))),
        pax_records=draw(st.sampled_from([{}, {b"SCHILY.xattr.user.x": b"1"}])),
    )


def apply(tree: FileTree, layer: list[Header], start: int) -> None:
    tree.begin_layer()
    for number, header in enumerate(layer, start):
        try:
            tree.apply(header, number)
        except InvalidArgumentError:
            continue  # no layer has it


def described(tree: FileTree) -> dict[bytes, tuple[object, ...]]:
    found: dict[bytes, tuple[object, ...]] = {}
    first: dict[Inode, bytes] = {}
    for path, inode in tree.walk():
        is_linked = inode.kind not in {Kind.DIRECTORY, Kind.SYMLINK}
        found[path] = (
            *(inode.kind, inode.mode, inode.uid, inode.size, inode.target, dict(inode.xattrs)),
            (0, 0) if inode.mod_time.is_zero else tuple(inode.mod_time),
            inode.content if inode.kind is Kind.FILE else 0,
            first.setdefault(inode, path) if is_linked else b"",
        )
    return found


def apply_tar(tree: FileTree, data: bytes) -> None:
    tree.begin_layer()
    reader = TarReader(io.BytesIO(data))
    while (header := reader.next()) is not None:
        content = b""
        while piece := reader.read(PIECE_SIZE):
            content += piece
        tree.apply(header, int(content or b"0"))


@given(st.lists(st.lists(headers(), max_size=8), min_size=1, max_size=4), st.integers(0, 4))
def test_a_difference_leads_from_one_tree_to_the_other(layers: list[list[Header]], keep: int) -> None:
    tree, lower = FileTree(), None
    for position, layer in enumerate(layers):
        if position == min(keep, len(layers) - 1):
            lower = tree.copy()
        apply(tree, layer, 1 + 100 * position)
    assert lower is not None
    before = described(lower)
    files = cast("LayerFiles", NumberedFiles(tree, lower))
    data = b"".join(tar_pieces(difference(files), exact_times=True))
    assert described(lower) == before
    apply_tar(FileTree(), data)  # on its own: no link leads out of it
    apply_tar(lower, data)
    assert described(lower) == described(tree)


@given(st.lists(headers(), max_size=8))
def test_equal_trees_have_an_empty_difference(layer: list[Header]) -> None:
    tree = FileTree()
    apply(tree, layer, 1)
    files = cast("LayerFiles", NumberedFiles(tree, tree.copy()))
    assert list(difference(files)) == []
