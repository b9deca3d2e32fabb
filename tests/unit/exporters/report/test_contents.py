"""What layers add, and what later layers hide."""

from __future__ import annotations

from hypothesis import given, reject
from hypothesis import strategies as st

from exporter.errors import InvalidArgumentError
from exporter.exporters.report.contents import Contents
from exporter.layer import FileTree, Header, Kind, TypeFlag


def file(name: str, size: int = 0) -> Header:
    return Header(name=name.encode(), size=size)


def directory(name: str) -> Header:
    return Header(name=name.encode(), typeflag=TypeFlag.DIR)


def link(name: str, target: str) -> Header:
    return Header(name=name.encode(), typeflag=TypeFlag.LINK, linkname=target.encode())


def contents_of(*layers: list[Header]) -> Contents:
    contents = Contents()
    for layer in layers:
        contents.add_layer(layer)
    return contents


def hidden(contents: Contents) -> list[tuple[str, int, int]]:
    return [(one.file.path.decode(), one.file.layer, one.by) for one in contents.largest_hidden(10)]


def test_files_and_sizes_are_counted_by_layer() -> None:
    contents = contents_of([directory("d/"), file("d/a", 5), file("b", 7)], [file("./c", 1)])
    assert [(layer.files, layer.size) for layer in contents.layers] == [(2, 12), (1, 1)]
    assert (contents.size, contents.hidden_size) == (13, 0)
    assert [entry.path for entry in contents.largest(2)] == [b"b", b"d/a"]
    assert [entry.path for entry in contents.largest(9, 1)] == [b"c"]


def test_a_replaced_file_is_hidden() -> None:
    contents = contents_of([file("a", 5)], [file("a", 7)], [file("a", 6)])
    assert hidden(contents) == [("a", 1, 2), ("a", 0, 1)]
    assert [layer.hidden_size for layer in contents.layers] == [5, 7, 0]


def test_a_whiteout_hides_a_file_and_whatever_is_in_a_directory() -> None:
    contents = contents_of(
        [file("d/x", 3), file("d/e/y", 2), file("z", 1)], [file("d/e/.wh.y"), file(".wh.z")], [file(".wh.d")]
    )
    assert hidden(contents) == [("d/x", 0, 2), ("d/e/y", 0, 1), ("z", 0, 1)]
    assert [layer.removed for layer in contents.layers] == [0, 2, 1]
    assert contents.largest(9) == []


def test_an_opaque_directory_hides_lower_files_only() -> None:
    contents = contents_of(
        [file("d/old", 3), file("d/e/old", 2), file("x", 1)],
        [file("d/new", 9), file("d/.wh..wh..opq"), file("d/e/new", 8)],
    )
    assert hidden(contents) == [("d/old", 0, 1), ("d/e/old", 0, 1)]
    assert [entry.path for entry in contents.largest(9)] == [b"d/new", b"d/e/new", b"x"]


def test_a_hard_link_keeps_the_content_until_its_last_name_goes() -> None:
    contents = contents_of([file("a", 5), link("b", "a")], [file(".wh.a")])
    assert contents.hidden_size == 0
    contents.add_layer([file(".wh.b")])
    assert hidden(contents) == [("a", 0, 2)]


def test_a_file_replaces_a_directory_and_a_directory_a_file() -> None:
    contents = contents_of([file("d/x", 3), file("f", 2)], [file("d", 1), directory("f"), file("f/y", 4)])
    assert hidden(contents) == [("d/x", 0, 1), ("f", 0, 1)]
    assert {entry.path for entry in contents.largest(9)} == {b"d", b"f/y"}


def test_a_link_to_itself_and_one_to_nothing_are_files() -> None:
    contents = contents_of([file("a", 5), link("a", "a"), link("b", "nothing")])
    assert (contents.size, contents.hidden_size) == (5, 0)
    assert [entry.path for entry in contents.largest(1)] == [b"a"]


def test_names_cannot_leave_the_root() -> None:
    contents = contents_of([file("../../a", 1), file("/b/../c", 2), directory("./"), file("..")])
    assert {entry.path for entry in contents.largest(9)} == {b"a", b"c"}


NAMES = st.lists(st.sampled_from([b"a", b"b", b"c"]), min_size=1, max_size=3)


@st.composite
def layers(draw: st.DrawFn) -> list[list[Header]]:
    """Layers that are made of files, directories, and whiteouts of what lower layers have."""
    made = []
    for _ in range(draw(st.integers(1, 4))):
        headers = {}
        for parts in draw(st.lists(NAMES, max_size=6)):
            *folder, base = parts
            kind = draw(st.sampled_from(["file", "directory", "whiteout", "opaque"]))
            name = b"/".join(parts)
            match kind:
                case "file":
                    header = Header(name=name, size=draw(st.integers(0, 9)))
                case "directory":
                    header = Header(name=name, typeflag=TypeFlag.DIR)
                case "whiteout":
                    header = Header(name=b"/".join([*folder, b".wh." + base]))
                case _:
                    header = Header(name=name + b"/.wh..wh..opq")
            headers[header.name] = header
        made.append(list(headers.values()))
    return made


@given(layers())
def test_what_is_visible_is_what_the_merged_file_system_has(made: list[list[Header]]) -> None:
    tree = FileTree()
    for layer in made:
        tree.begin_layer()
        for header in layer:
            try:
                tree.apply(header)
            except InvalidArgumentError:
                reject()  # something in a file
    merged = {(path, inode.size) for path, inode in tree.walk() if inode.kind is Kind.FILE}
    contents = contents_of(*made)
    assert {(entry.path, entry.size) for entry in contents.largest(1000)} == merged
    assert contents.size - contents.hidden_size == sum(size for _, size in merged)
