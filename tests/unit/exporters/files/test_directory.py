from __future__ import annotations

import os
import stat
import tempfile
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.errors import DataLossError, FailedPreconditionError, InvalidArgumentError
from exporter.exporters.files.directory import DirectoryWriter, write_directory
from exporter.exporters.files.entry import BytesContent, FileEntry
from exporter.layer.tree import Kind

MTIME = 1_600_000_000_123_456_789
NOBODY = 65534


def directory(path: str, **values: Any) -> FileEntry:
    return FileEntry(path=path.encode(), kind=Kind.DIRECTORY, **{"mode": 0o755, "mtime": MTIME, **values})


def file(path: str, data: bytes = b"data", **values: Any) -> FileEntry:
    values = {"mtime": MTIME, "size": len(data), "content": BytesContent(data), **values}
    return FileEntry(path=path.encode(), **values)


def symlink(path: str, target: str) -> FileEntry:
    return FileEntry(path=path.encode(), kind=Kind.SYMLINK, mode=0o777, mtime=MTIME, link=target.encode())


def hardlink(path: str, target: str, **values: Any) -> FileEntry:
    return file(path, link=target.encode(), **values)


def write(path: Path, *entries: FileEntry, delete: bool = False) -> int:
    return sum(write_directory(path, entries, delete=delete))


def contents(path: Path) -> dict[str, bytes | str | None]:
    found: dict[str, bytes | str | None] = {}
    for each in sorted(path.rglob("*")):
        name = str(each.relative_to(path))
        if each.is_symlink():
            found[name] = f"-> {each.readlink()}"
        else:
            found[name] = None if each.is_dir() else each.read_bytes()
    return found


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_all_kinds(tmp_path: Path) -> None:
    out = tmp_path / "some" / "out"
    written = write(
        out,
        directory("d", mode=0o1750),
        file("d/x", b"hello", mode=0o4755),
        directory("d/y", mode=0o500),
        file("d/y/z", b""),
        FileEntry(path=b"fifo", kind=Kind.FIFO, mode=0o622, mtime=MTIME),
        hardlink("hard", "d/x", mode=0o4755),
        symlink("soft", "/nowhere"),
    )
    assert written == 5
    assert mode(out) == 0o700
    (out / "fifo").rename(tmp_path / "fifo")
    assert contents(out) == {
        "d": None,
        "d/x": b"hello",
        "d/y": None,
        "d/y/z": b"",
        "hard": b"hello",
        "soft": "-> /nowhere",
    }
    assert stat.S_ISFIFO((tmp_path / "fifo").stat().st_mode)
    assert mode(tmp_path / "fifo") == 0o622
    assert [mode(out / name) for name in ("d", "d/x", "d/y", "hard")] == [0o1750, 0o4755, 0o500, 0o4755]
    assert (out / "hard").samefile(out / "d/x")
    paths = [out / "d", out / "d/x", out / "d/y", out / "d/y/z", out / "soft", tmp_path / "fifo"]
    assert {path.lstat().st_mtime_ns for path in paths} == {MTIME}
    assert {(path.lstat().st_uid, path.lstat().st_gid) for path in paths} == {(os.getuid(), os.getgid())}


def test_names_need_not_be_text(tmp_path: Path) -> None:
    name = b"\xff\xfe"
    write(tmp_path, FileEntry(path=name, kind=Kind.DIRECTORY, mode=0o755), FileEntry(path=name + b"/\x01"))
    assert os.listdir(os.fsencode(tmp_path)) == [name]  # noqa: PTH208
    assert os.listdir(os.fsencode(tmp_path) + b"/" + name) == [b"\x01"]  # noqa: PTH208


def test_extended_attributes_where_they_are_possible(tmp_path: Path) -> None:
    xattrs = {b"user.note": b"v\x00w", b"unknown.namespace": b"x"}
    try:
        os.setxattr(tmp_path, "user.probe", b"")
    except OSError:
        pytest.skip("the file system has no extended attributes")
    write(tmp_path / "out", directory("d", xattrs=xattrs), file("f", xattrs=xattrs))
    for name in ("d", "f"):
        assert os.listxattr(tmp_path / "out" / name) == ["user.note"]
        assert os.getxattr(tmp_path / "out" / name, "user.note") == b"v\x00w"


def test_file_capabilities_survive(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    capability = bytes.fromhex("0100000200200000000000000000000000000000")
    write(tmp_path / "out", file("f", xattrs={b"security.capability": capability}))
    assert os.getxattr(tmp_path / "out/f", "security.capability") == capability


def test_existing_files(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    out = tmp_path / "out"
    out.mkdir(mode=0o751)
    (out / "other").write_text("other")
    (out / "d").mkdir(mode=0o700)
    (out / "d/other").write_text("other")
    (out / "link").symlink_to(outside)
    (out / "file").symlink_to(outside / "kept")
    (out / "tree").mkdir()
    (out / "tree/old").write_text("old")
    (out / "was-file").write_text("old")
    old = out / "d/x"
    old.write_text("old")
    holder = old.open()
    write(
        out,
        directory("d"),
        file("d/x", b"new"),
        file("file", b"new"),
        directory("link"),
        file("link/kept", b"new"),
        symlink("tree", "d"),
        directory("was-file"),
    )
    assert contents(out) == {
        "d": None,
        "d/other": b"other",
        "d/x": b"new",
        "file": b"new",
        "link": None,
        "link/kept": b"new",
        "other": b"other",
        "tree": "-> d",
        "was-file": None,
    }
    assert contents(outside) == {"kept": b"kept"}
    assert mode(out) == 0o751
    assert mode(out / "d") == 0o755
    assert (out / "d").stat().st_mtime_ns == MTIME
    # Whoever has a file open keeps what he had.
    with holder:
        assert holder.read() == "old"


def test_the_directory_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "out").symlink_to("real")
    write(tmp_path / "out", file("x"))
    assert contents(tmp_path / "real") == {"x": b"data"}


def test_hard_links_take_the_place_of_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b/x").write_text("old")
    (tmp_path / "c").write_text("old")
    for _ in range(2):
        write(tmp_path, file("a"), hardlink("b", "a"), hardlink("c", "a"))
        assert contents(tmp_path) == {"a": b"data", "b": b"data", "c": b"data"}
        assert (tmp_path / "a").stat().st_nlink == 3


def test_other_files_are_deleted_after_all_have_been_written(tmp_path: Path) -> None:
    (tmp_path / "old/deep").mkdir(parents=True)
    (tmp_path / "old/deep/x").write_text("x")
    (tmp_path / "d/e").mkdir(parents=True)
    (tmp_path / "d/e/old").write_text("x")
    (tmp_path / "d/old").symlink_to("/etc")
    (tmp_path / "z").write_text("x")
    entries = [directory("d"), file("d/a"), directory("d/e"), hardlink("d/f", "d/a"), file("y")]
    steps = write_directory(tmp_path, entries, delete=True)
    with DirectoryWriter.open(tmp_path, delete=True) as writer:
        for entry in entries:
            if writer.add(entry):
                with writer.new_file(entry) as new:
                    new.write(b"data")
                    new.commit()
        assert {"old", "z"} <= set(contents(tmp_path))
    for _ in steps:
        pass
    assert contents(tmp_path) == {
        "d": None,
        "d/a": b"data",
        "d/e": None,
        "d/f": b"data",
        "y": b"data",
    }


def test_nothing_is_deleted_when_it_fails(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("x")

    def entries() -> Iterable[FileEntry]:
        yield file("a")
        raise ConnectionError("gone")

    with pytest.raises(ConnectionError):
        sum(write_directory(tmp_path, entries(), delete=True))
    assert contents(tmp_path) == {"a": b"data", "old": b"x"}


@pytest.mark.parametrize("data", [b"dat", b"data!"])
def test_a_file_with_the_wrong_size(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "f").write_text("old")
    with pytest.raises(DataLossError, match=rf"f: received {len(data)} bytes instead of 4"):
        write(tmp_path, FileEntry(path=b"f", size=4, content=BytesContent(data)))
    assert contents(tmp_path) == {"f": b"old"}


def test_an_abandoned_export_leaves_no_partial_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exporter.content.threads._STEP_SECONDS", 0)
    steps = write_directory(tmp_path, [file("a"), file("b", b"x" * (5 << 20)), file("c")], delete=True)
    assert [next(steps), next(steps)] == [4, 0]
    assert next(steps) == 5 << 20
    assert ".tmp." in "".join(contents(tmp_path))
    steps.close()
    assert contents(tmp_path) == {"a": b"data"}


def test_a_file_instead_of_the_directory(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    for path in (tmp_path / "f", tmp_path / "f/sub"):
        with pytest.raises(FailedPreconditionError, match="destination directory is a file"):
            write(path, file("x"))


def test_links_that_appear_meanwhile_are_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    out = tmp_path / "out"
    entry = file("d/x")
    with DirectoryWriter.open(out) as writer:
        writer.add(directory("d"))
        writer.add(entry)
        (out / "d").rmdir()
        (out / "d").symlink_to(outside)
        with pytest.raises(OSError, match="failed to create d/x"):
            writer.new_file(entry)
    assert not contents(outside)


def test_entries_must_be_in_order(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="changes out of order"):
        write(tmp_path, file("b"), file("a"))
    with pytest.raises(InvalidArgumentError, match="unclean path"):
        write(tmp_path, file("../x"))
    assert contents(tmp_path) == {"b": b"data"}


def test_file_descriptors_are_closed(tmp_path: Path) -> None:
    deep = [directory("/".join("d" * depth)) for depth in range(1, 60)]
    before = set(os.listdir("/proc/self/fd"))  # noqa: PTH208
    write(tmp_path / "out", *deep, file("e"), hardlink("f", "e"), delete=True)
    with pytest.raises(DataLossError):
        write(tmp_path / "out", *deep, file(deep[-1].path.decode() + "/x", size=1))
    assert set(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def unprivileged(work: Callable[[], None]) -> None:
    """Run a function as nobody if we are root, in a separate process, because this is irreversible."""
    if os.geteuid() != 0:
        work()
        return
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            work()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert status == 0


@pytest.fixture
def common_path() -> Iterator[Path]:
    """A directory that the user nobody can access; only root can access pytest's."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name)
        path.chmod(0o777)
        yield path


def test_without_privileges_there_are_no_devices(common_path: Path) -> None:
    def work() -> None:
        null = FileEntry(path=b"null", kind=Kind.CHARACTER_DEVICE, devmajor=1, devminor=3)
        with pytest.raises(PermissionError, match="failed to create device null: Operation not permitted"):
            write(common_path, null)

    unprivileged(work)
    assert not contents(common_path)


def test_without_privileges_read_only_files_can_be_replaced(common_path: Path) -> None:
    out = common_path / "out"

    def work() -> None:
        for _ in range(2):
            write(
                out,
                directory("d", mode=0o555),
                file("d/r", mode=0o400),
                file("d/s", mode=0o6755, uid=0, gid=0),
                hardlink("d/t", "d/r", mode=0o400),
                delete=True,
            )

    unprivileged(work)
    assert [mode(out / name) for name in ("d", "d/s", "d/r")] == [0o555, 0o6755, 0o400]
    assert (out / "d/s").stat().st_uid == (NOBODY if os.geteuid() == 0 else os.geteuid())
    assert contents(out) == {"d": None, "d/r": b"data", "d/s": b"data", "d/t": b"data"}
    (out / "d").chmod(0o755)


names = st.text("ab", min_size=1, max_size=2)
trees = st.recursive(
    st.one_of(st.binary(max_size=3), st.just("link")),
    lambda children: st.dictionaries(names, children, max_size=3),
    max_leaves=6,
)
roots = st.dictionaries(names, trees, max_size=3)


def entries_of(tree: dict[str, Any], prefix: str = "") -> Iterable[FileEntry]:
    for name in sorted(tree):
        match tree[name]:
            case dict() as children:
                yield directory(prefix + name)
                yield from entries_of(children, f"{prefix}{name}/")
            case bytes() as data:
                yield file(prefix + name, data)
            case _:
                yield symlink(prefix + name, "/")


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, bytes | str | None]:
    found: dict[str, bytes | str | None] = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            found |= {prefix + name: None} | flat(value, f"{prefix}{name}/")
        else:
            found[prefix + name] = "-> /" if isinstance(value, str) else value
    return found


@given(roots, roots)
def test_any_tree_replaces_any_other(tmp_path_factory: Any, first: Any, second: Any) -> None:
    path = tmp_path_factory.mktemp("trees")
    write(path, *entries_of(first))
    assert contents(path) == flat(first)
    write(path, *entries_of(second), delete=True)
    assert contents(path) == flat(second)
