"""File systems of type `rootfs`: what their own tools and the kernel read in them is what `umoci` unpacks."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import io
import os
import shutil
import stat
import subprocess
import tarfile
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from exporter.errors import FailedPreconditionError, InvalidArgumentError
from exporter.exporters.output import LocalOutput
from exporter.exporters.registry import Registry
from exporter.exporters.rootfs import RootfsExporter
from exporter.image import digest_bytes
from exporter.image.keys import IMAGE_CONFIG
from exporter.source.saved.load import SavedSource
from exporter.source.saved.save import save_source
from exporter.source.types import BuildInfo, Source
from exporter.testing import MemoryLayer, Workbench, load_sample, source_of
from tests.builds import scenario
from tests.integration.ordinary_user import NOBODY, ordinary_environment
from tests.peers import require, require_root
from tests.unit.exporters.harness import FakeLayer, Workplace, make_ref

FORMATS = ("ext4", "squashfs", "erofs")
BUILDS = ("config-full", "from-base", "llb-diff-many", "llb-merge", "local", "many-copy", "run-chain")
CONFIG = b'{"architecture":"amd64","os":"linux","created":"2024-05-06T07:08:09Z"}'
CREATED = 1714979289
CAPABILITY = b"\x01\x00\x00\x02\x00\x04" + b"\x00" * 14


@pytest.fixture(scope="module", autouse=True)
def tools() -> None:
    for program, package in (
        ("mke2fs", "e2fsprogs"),
        ("mksquashfs", "squashfs-tools"),
        ("mkfs.erofs", "erofs-utils"),
        ("fakeroot", "fakeroot"),
    ):
        require(program, package)


# --- the files of an image that has all kinds of them ---


def _member(tar: tarfile.TarFile, name: str, kind: bytes = tarfile.REGTYPE, **fields: object) -> None:
    entry = tarfile.TarInfo(name)
    data, xattrs = fields.pop("data", b""), fields.pop("xattrs", {})
    assert isinstance(data, bytes)
    assert isinstance(xattrs, dict)
    entry.type, entry.size, entry.mtime = kind, len(data), CREATED
    entry.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
    for key, value in fields.items():
        setattr(entry, key, value)
    entry.pax_headers = {f"SCHILY.xattr.{key}": value.decode("latin-1") for key, value in xattrs.items()}
    entry.pax_headers["mtime"] = f"{entry.mtime}.123456789"
    tar.addfile(entry, io.BytesIO(data))


def rich_layer() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        _member(tar, "bin", tarfile.DIRTYPE, mode=0o1777, uid=70000, gid=4)
        xattrs = {"security.capability": CAPABILITY, "user.note": b"of two\x00parts"}
        _member(tar, "bin/set id", data=b"#!" * 5000, mode=0o4755, uid=100000, gid=70000, xattrs=xattrs)
        _member(tar, 'bin/"quoted" \\ <9>', data=b"1")
        _member(tar, "bin/-f", data=b"2", mode=0o600)
        _member(tar, "bin/\u00fc", data=b"3", mtime=2**31 + 5)
        _member(tar, "dev", tarfile.DIRTYPE)
        _member(tar, "dev/null", tarfile.CHRTYPE, mode=0o666, devmajor=1, devminor=3)
        _member(tar, "dev/disk", tarfile.BLKTYPE, mode=0o660, gid=6, devmajor=259, devminor=70000)
        _member(tar, "dev/pipe", tarfile.FIFOTYPE, mode=0o600, uid=1)
        _member(tar, "etc", tarfile.DIRTYPE, xattrs={"user.folder": b"yes"})
        _member(tar, "etc/short", tarfile.SYMTYPE, linkname="../bin/x y", uid=3, gid=4)
        _member(tar, "etc/long", tarfile.SYMTYPE, linkname="/".join(["a" * 200] * 5))
        _member(tar, "etc/empty")
        _member(tar, "etc/holes", data=b"a" + bytes(3 << 20) + b"b")
        _member(tar, "links", tarfile.DIRTYPE)
        _member(tar, "links/first", data=b"many names", mode=0o640)
        for number in range(100):
            _member(tar, f"links/{'x' * 200}{number}", tarfile.LNKTYPE, linkname="links/first", mode=0o640)
        _member(tar, "zone", tarfile.LNKTYPE, linkname="links/first", mode=0o640)
        _member(tar, "lost+found", tarfile.DIRTYPE, mode=0o700)
        _member(tar, "many", tarfile.DIRTYPE)
        for number in range(400):
            _member(tar, f"many/{'y' * 100}{number}", data=b"%d" % number)
        _member(tar, "closed", tarfile.DIRTYPE, mode=0)
    return out.getvalue()


def rich_source() -> Source:
    return Source(make_ref([FakeLayer(rich_layer())]), None, {IMAGE_CONFIG: CONFIG})


# --- reading ---


class File(NamedTuple):
    mode: int
    owner: tuple[int, int]
    mtime: int
    device: int
    names: int
    link: str
    sha256: str
    xattrs: dict[str, bytes]


def xattrs_of(path: Path) -> dict[str, bytes]:
    try:
        keys = os.listxattr(path, follow_symlinks=False)
    except OSError as error:
        if error.errno == errno.ENOTSUP:  # the file system has none at all
            return {}
        raise
    return {key: os.getxattr(path, key, follow_symlinks=False) for key in keys}


def described(root: Path, *, nanoseconds: bool = True) -> dict[str, File]:
    found = {}
    for path in sorted(root.rglob("*")):
        info = path.lstat()
        mode, is_device = info.st_mode, stat.S_ISCHR(info.st_mode) or stat.S_ISBLK(info.st_mode)
        found[path.relative_to(root).as_posix()] = File(
            mode,
            (info.st_uid, info.st_gid),
            info.st_mtime_ns if nanoseconds else info.st_mtime_ns // 10**9,
            info.st_rdev if is_device else 0,
            0 if stat.S_ISDIR(mode) else info.st_nlink,
            str(path.readlink()) if stat.S_ISLNK(mode) else "",
            hashlib.sha256(path.read_bytes()).hexdigest() if stat.S_ISREG(mode) else "",
            xattrs_of(path),
        )
    return found


def run(*command: str) -> str:
    result = subprocess.run(command, capture_output=True, check=False, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def check(kind: str, path: Path) -> None:
    """The own program of the file system finds nothing wrong."""
    match kind:
        case "ext4":
            run(require("e2fsck", "e2fsprogs"), "-f", "-n", str(path))
        case "squashfs":
            run(require("unsquashfs", "squashfs-tools"), "-lls", str(path))
        case "erofs":
            run(require("fsck.erofs", "erofs-utils"), str(path))


@contextmanager
def mounted(path: Path, directory: Path) -> Iterator[Path]:
    """The file system, read by the kernel."""
    require_root("mount")
    directory.mkdir()
    result = subprocess.run(
        ["mount", "-o", "loop,ro", str(path), str(directory)], capture_output=True, check=False, text=True
    )
    if result.returncode != 0:
        pytest.skip(f"file systems in files cannot be mounted here: {result.stderr.strip()}")
    try:
        yield directory
    finally:
        run("umount", str(directory))


def unpacked(layout: Path, directory: Path) -> Path:
    require_root("umoci")
    run(require("umoci", "umoci"), "unpack", "--image", f"{layout}:v1", str(directory))
    return directory / "rootfs"


async def export(
    source: Source, directory: Path, path: Path, attrs: Mapping[str, str], **more: object
) -> Path:
    await asyncio.to_thread(directory.mkdir)
    build = more.get("build")
    assert build is None or isinstance(build, BuildInfo)
    exporter = Registry().make(attrs.get("type", "rootfs"), attrs)
    await Workplace(directory).export(exporter, source, build=build, output=LocalOutput(str(path)))
    return path


async def layout_of(source: Source, directory: Path, **more: object) -> Path:
    attrs = {"type": "oci", "tar": "false", "name": "example.com/rootfs:v1"}
    return await export(source, directory / "oci-work", directory / "layout", attrs, **more)


# --- what is in them ---


def compare(kind: str, path: Path, expected: Path, directory: Path) -> None:
    with mounted(path, directory) as root:
        found = described(root, nanoseconds=kind != "squashfs")
    wanted = described(expected, nanoseconds=kind != "squashfs")
    if kind == "ext4" and "lost+found" not in wanted:
        del found["lost+found"]
    if kind == "erofs":
        wanted.pop("lost+found", None)  # mkfs.erofs always leaves it out
    assert found.keys() == wanted.keys()
    different = [(name, found[name], wanted[name]) for name in wanted if found[name] != wanted[name]]
    assert different == []


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("name", BUILDS)
async def test_recorded_builds(name: str, kind: str, tmp_path: Path) -> None:
    saved = await SavedSource.open(scenario(name))
    path = tmp_path / "rootfs"
    await export(saved.source, tmp_path / "work", path, {"format": kind}, build=saved.build)
    check(kind, path)
    layout = await layout_of(saved.source, tmp_path, build=saved.build)
    compare(kind, path, unpacked(layout, tmp_path / "bundle"), tmp_path / "mnt")


@pytest.mark.parametrize("kind", FORMATS)
async def test_all_kinds_of_files(kind: str, tmp_path: Path) -> None:
    path = await export(rich_source(), tmp_path / "work", tmp_path / "rootfs", {"format": kind})
    check(kind, path)
    layout = await layout_of(rich_source(), tmp_path)
    compare(kind, path, unpacked(layout, tmp_path / "bundle"), tmp_path / "mnt")


@pytest.mark.parametrize("kind", FORMATS)
async def test_nothing_depends_on_time_place_or_machine(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await export(rich_source(), tmp_path / "1", tmp_path / "1.img", {"format": kind})
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "77")
    monkeypatch.setenv("E2FSPROGS_FAKE_TIME", "99")
    monkeypatch.setenv("PYTHONHASHSEED", "5")
    other = await export(rich_source(), tmp_path / "another-place", tmp_path / "2.img", {"format": kind})
    assert await asyncio.to_thread(first.read_bytes) == await asyncio.to_thread(other.read_bytes)


@pytest.fixture
def shared() -> Iterator[Path]:
    """A directory that others can reach. Each run of pytest closes pytest's own to all but its user."""
    with tempfile.TemporaryDirectory(prefix="bke-", dir="/tmp") as name:
        directory = Path(name)
        directory.chmod(0o755)
        yield directory


@pytest.mark.parametrize("kind", FORMATS)
async def test_an_ordinary_user_makes_the_same_bytes(kind: str, shared: Path) -> None:
    require_root("the comparison with an ordinary user")
    await save_source(rich_source(), BuildInfo(), shared / "source")
    own = await export(rich_source(), shared / "work", shared / "own.img", {"format": kind})
    await asyncio.to_thread(_as_nobody, shared, kind)
    assert await asyncio.to_thread(_same, own, shared / "theirs" / "rootfs.img")


def _as_nobody(directory: Path, kind: str) -> None:
    theirs = directory / "theirs"
    theirs.mkdir()
    os.chown(theirs, NOBODY, NOBODY)
    run("chmod", "-R", "a+rX", str(directory / "source"))
    with ordinary_environment(directory / "python") as variables:
        result = subprocess.run(
            [
                *("buildkit-exporter", "export", "--source", "../source", "--root", "root", "--output"),
                f"type=rootfs,format={kind},dest=rootfs.img",
            ],
            user=NOBODY,
            group=NOBODY,
            extra_groups=[],
            cwd=theirs,
            env={"HOME": str(theirs), "PATH": os.environ["PATH"], **variables},
            capture_output=True,
            check=False,
            text=True,
        )
    assert result.returncode == 0, result.stderr


def _same(first: Path, second: Path) -> bool:
    return digest_bytes(first.read_bytes()) == digest_bytes(second.read_bytes())


# --- options ---


async def test_label_uuid_and_size_of_ext4(tmp_path: Path) -> None:
    wanted = str(uuid.uuid4())
    attrs = {"label": "root", "uuid": wanted, "size": "64M"}
    path = await export(rich_source(), tmp_path / "work", tmp_path / "rootfs", attrs)
    assert (await asyncio.to_thread(path.stat)).st_size == 64 << 20
    header = run(require("dumpe2fs", "e2fsprogs"), "-h", str(path))
    assert "Filesystem volume name:   root\n" in header
    assert f"Filesystem UUID:          {wanted}\n" in header
    assert f"Directory Hash Seed:      {wanted}\n" in header
    assert "Mon May  6 07:08:09 2024" in run("env", "TZ=UTC", require("dumpe2fs", ""), "-h", str(path))


async def test_label_and_uuid_of_erofs(tmp_path: Path) -> None:
    wanted = str(uuid.uuid4())
    attrs = {"format": "erofs", "label": "root", "uuid": wanted}
    path = await export(rich_source(), tmp_path / "work", tmp_path / "rootfs", attrs)
    assert wanted in run(require("dump.erofs", "erofs-utils"), str(path))
    told = run(require("blkid", "util-linux"), "--probe", "--output", "full", str(path))
    assert f'UUID="{wanted}"' in told
    assert 'LABEL="root"' in told


@pytest.mark.parametrize(
    ("kind", "compression"),
    [
        *(("squashfs", name) for name in ("none", "gzip", "lz4", "xz", "zstd")),
        *(("erofs", name) for name in ("none", "lz4", "lz4hc")),
    ],
)
async def test_compressions(kind: str, compression: str, tmp_path: Path) -> None:
    attrs = {"format": kind, "compression": compression}
    path = await export(rich_source(), tmp_path / "work", tmp_path / "rootfs", attrs)
    check(kind, path)
    if kind == "squashfs":
        said = run(require("unsquashfs", "squashfs-tools"), "-stat", str(path))
        assert ("Data is uncompressed" if compression == "none" else f"Compression {compression}") in said
    layout = await layout_of(rich_source(), tmp_path)
    compare(kind, path, unpacked(layout, tmp_path / "bundle"), tmp_path / "mnt")


async def test_the_default_uuid_is_that_of_the_image() -> None:
    async with Workbench.open() as bench:
        exporter = RootfsExporter({"format": "erofs"})
        layer = MemoryLayer({"a": b"1"})
        runs = [
            await bench.export(exporter, source_of(layer, config=config))
            for config in (CONFIG, CONFIG, CONFIG.replace(b"amd64", b"arm64"))
        ]
        first, again, other = (run.response["rootfs.uuid"] for run in runs)
        assert first == again != other
        assert runs[0].response["rootfs.digest"] == digest_bytes(runs[0].output.file_content)


async def test_one_platform_of_several() -> None:
    async with Workbench.open() as bench:
        saved = await load_sample("multi-platform")
        with pytest.raises(
            InvalidArgumentError, match=r"several platforms: choose one with platform= \(linux/"
        ):
            await bench.export(RootfsExporter({"format": "squashfs"}), saved)
        with pytest.raises(InvalidArgumentError, match="has no platform linux/s390x"):
            await bench.export(RootfsExporter({"platform": "linux/s390x"}), saved)
        run = await bench.export(RootfsExporter({"format": "squashfs", "platform": "linux/arm64"}), saved)
        assert run.output.file_content.startswith(b"hsqs")


# --- errors ---


@pytest.mark.parametrize(
    ("attrs", "text"),
    [
        ({"format": "btrfs"}, '"btrfs" is not one of ext4, squashfs, erofs'),
        ({"size": "10X"}, "size=10X is not a size such as 512M or 2G"),
        ({"size": "1G", "format": "erofs"}, "size is for ext4 only: erofs is as large as its files"),
        ({"label": "a" * 17}, "is too long: ext4 has room for 16 bytes"),
        ({"label": "a", "format": "squashfs"}, "squashfs has no label"),
        ({"uuid": "1"}, "uuid=1 is not a UUID such as"),
        ({"uuid": "1", "format": "squashfs"}, "squashfs has no UUID"),
        ({"compression": "gzip"}, "ext4 is not compressed"),
        ({"compression": "gzip", "format": "erofs"}, "erofs can be compressed with none, lz4, lz4hc"),
    ],
)
def test_wrong_attributes(attrs: Mapping[str, str], text: str) -> None:
    with pytest.raises(InvalidArgumentError, match=text):
        RootfsExporter(attrs)


async def test_a_size_that_is_too_small() -> None:
    async with Workbench.open() as bench:
        with pytest.raises(
            InvalidArgumentError, match="size=1048576 is too small for the files of the image"
        ):
            await bench.export(RootfsExporter({"size": "1M"}), rich_source())


async def test_a_name_with_a_line_break() -> None:
    async with Workbench.open() as bench:
        source = source_of(MemoryLayer({"a\nb": b"1"}), config=CONFIG)
        with pytest.raises(InvalidArgumentError, match="line break: use format=squashfs or format=erofs"):
            await bench.export(RootfsExporter({}), source)
        for kind in ("squashfs", "erofs"):
            await bench.export(RootfsExporter({"format": kind}), source)


@pytest.mark.parametrize(
    ("kind", "program", "package"),
    [
        ("ext4", "mke2fs", "e2fsprogs"),
        ("ext4", "debugfs", "e2fsprogs"),
        ("squashfs", "mksquashfs", "squashfs-tools"),
        ("erofs", "mkfs.erofs", "erofs-utils"),
    ],
)
async def test_a_tool_that_is_not_installed(
    kind: str, program: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    which = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name, **kw: None if name == program else which(name, **kw))
    async with Workbench.open() as bench:
        text = f"the program {program} is not installed: install the package {package}"
        with pytest.raises(FailedPreconditionError, match=text):
            await bench.export(
                RootfsExporter({"format": kind}), source_of(MemoryLayer({"a": b"1"}), config=CONFIG)
            )


async def test_no_fakeroot_for_an_ordinary_user(monkeypatch: pytest.MonkeyPatch) -> None:
    which = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name, **kw: None if name == "fakeroot" else which(name, **kw))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    async with Workbench.open() as bench:
        with pytest.raises(FailedPreconditionError, match="install the package fakeroot"):
            source = source_of(MemoryLayer({"a": b"1"}), config=CONFIG)
            await bench.export(RootfsExporter({"format": "erofs"}), source)
