"""The commands for debugfs: nothing from an image may become a command."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.errors import InvalidArgumentError
from exporter.exporters.filesystems.ext4_script import Script
from exporter.layer.entry import FileEntry
from exporter.layer.tree import Kind

COMMANDS = {
    b"cd",
    b"write",
    b"mkdir",
    b"symlink",
    b"mknod",
    b"ln",
    b"set_inode_field",
    b"ea_set",
    b"expand_dir",
}
FILE = FileEntry.of("a", b"x")
ATTACK = b"\nwrite /etc/shadow leaked\n"


def script_of(entry: FileEntry) -> bytes:
    script = Script([entry])
    script.add(entry)
    return script.take()


@pytest.mark.parametrize(
    "entry",
    [
        replace(FILE, path=b"a" + ATTACK),
        replace(FILE, path=b"a\0b"),
        replace(FILE, kind=Kind.SYMLINK, link=b"b" + ATTACK, size=0),
        replace(FILE, xattrs={b"user.x" + ATTACK: b"1"}),
        replace(FILE, link=b"b" + ATTACK),
        replace(FILE, path=b"/".join([b"x" * 200] * 60)),
        replace(FILE, path=b"/".join([b'"' * 200] * 21)),
        replace(FILE, kind=Kind.SYMLINK, link=b'"' * 4095, size=0),
        replace(FILE, xattrs={b"user." + b"x" * 9000: b"1"}),
    ],
    ids=[
        "name",
        "zero",
        "symbolic-link",
        "attribute",
        "hard-link",
        "long",
        "quotes",
        "long-link",
        "long-attribute",
    ],
)
def test_what_could_be_read_as_a_command_is_refused(entry: FileEntry) -> None:
    with pytest.raises(InvalidArgumentError, match="use format=squashfs or format=erofs"):
        script_of(entry)


@given(
    path=st.binary(min_size=1, max_size=9000),
    link=st.binary(max_size=9000),
    key=st.binary(min_size=1, max_size=9000),
    kind=st.sampled_from([Kind.FILE, Kind.SYMLINK, Kind.DIRECTORY]),
)
def test_every_line_is_a_command_of_ours(path: bytes, link: bytes, key: bytes, kind: Kind) -> None:
    entry = replace(
        FILE, path=path, kind=kind, link=link if kind is Kind.SYMLINK else b"", xattrs={key: b"1"}
    )
    try:
        script = script_of(entry)
    except InvalidArgumentError:
        return
    for line in script.splitlines(keepends=True):
        assert len(line) < 8192
    for line in script.rstrip(b"\n").split(b"\n"):
        assert line.split(b" ")[0].strip(b'"') in COMMANDS
        assert line.count(b'"') % 2 == 0
