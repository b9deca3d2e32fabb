"""File systems that a program makes from a directory: squashfs and erofs.

The directory has the owners and devices of the image. ``fakeroot`` pretends them, both to the process that
unpacks the files and to the program, so root is not needed. Both programs sort the names in a directory.
``sqfstar`` reads a tar instead of a directory, but it sometimes writes other bytes for the same tar.
"""

from __future__ import annotations

import os
import shutil
import struct
import sys
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import aclosing
from functools import partial
from itertools import chain
from pathlib import Path

from exporter.content.programs import find_program, run_program
from exporter.content.threads import iterate_in_thread, run_in_thread
from exporter.errors import FailedPreconditionError
from exporter.exporters.filesystems.plan import SECOND, FileSystemPlan
from exporter.layer.entry import FileEntry
from exporter.layer.entry_tar import tar_pieces
from exporter.layer.tree import Kind

__all__ = ["MAX_EROFS_LABEL", "make_erofs", "make_squashfs"]

MAX_EROFS_LABEL = 15
"""Longest label in bytes; the superblock has room for 16 with a final zero."""

_UNPACK = "exporter.exporters.filesystems.unpack"
_LATEST = (1 << 34) - (1 << 31) - 1
"""The latest time of files on ext4, where the files may be unpacked."""

_LATEST_OF_SQUASHFS = (1 << 32) - 1
_UNCOMPRESSED = ("-noI", "-noD", "-noF", "-noX")

_SUPERBLOCK = 1024
_MAGIC = 0xE0F5E1E2
_HAS_CHECKSUM = 1
_HEAD = struct.Struct("<IIIBBHQQI")
"""Magic, checksum, compatible features, block bits, extension slots, root, inodes, time, nanoseconds."""
_LABEL_OFFSET = 64


async def make_squashfs(plan: FileSystemPlan, entries: Iterable[FileEntry], path: Path) -> None:
    """Write a squashfs. Fractions of seconds are lost, because squashfs has none.

    Raises:
        FailedPreconditionError: ``mksquashfs`` or ``fakeroot`` is not installed, or fails.
    """
    compression: tuple[str, ...] = ()
    if plan.compression == "none":
        compression = _UNCOMPRESSED
    elif plan.compression:
        compression = ("-comp", plan.compression)
    time = str(min(plan.time, _LATEST_OF_SQUASHFS))
    flags = ("-quiet", "-no-progress", "-exit-on-error", "-noappend", "-reproducible", "-mkfs-time", time)
    make = [find_program("mksquashfs", "squashfs-tools"), "{tree}", str(path), *flags, *compression]
    await _make(make, plan, plan.entries(entries, 0, _LATEST_OF_SQUASHFS))


async def make_erofs(plan: FileSystemPlan, entries: Iterable[FileEntry], path: Path) -> None:
    """Write an erofs.

    Raises:
        FailedPreconditionError: ``mkfs.erofs`` or ``fakeroot`` is not installed, or fails.
    """
    # Short inodes have no time of their own, but that of the file system, which is set below.
    flags = ["-d0", "-U", str(plan.uuid), "-Eforce-inode-extended"]
    if plan.compression not in {"", "none"}:
        flags.append(f"-z{plan.compression}")
    make = [find_program("mkfs.erofs", "erofs-utils"), *flags, str(path), "{tree}"]
    await _make(make, plan, plan.entries(entries, 0, _LATEST))
    await run_in_thread(_finish_erofs, plan, path)


async def _make(make: Sequence[str], plan: FileSystemPlan, entries: Iterable[FileEntry]) -> None:
    """Unpack the files, and run a program with the directory in the place of ``{tree}``.

    Raises:
        FailedPreconditionError: it fails.
    """
    tree = Path(await run_in_thread(tempfile.mkdtemp, prefix="files-", dir=plan.scratch))
    words = [str(tree) if word == "{tree}" else word for word in make]
    # -P: modules in the working directory, which may belong to anyone, must not run.
    command = [*_privileges(), sys.executable, "-P", "-m", _UNPACK, str(tree), *words]
    root = FileEntry(path=b".", kind=Kind.DIRECTORY, mode=0o755, mtime=plan.time * SECOND)
    tar = tar_pieces(chain([root], entries), exact_times=True)
    try:
        async with aclosing(iterate_in_thread(tar)) as pieces:
            result = await run_program(command, stdin=pieces, environment=_environment())
    finally:
        await run_in_thread(partial(shutil.rmtree, tree, ignore_errors=True))
    if result.status != 0:
        name = Path(make[0]).name
        raise FailedPreconditionError(f"{name} cannot make the file system: {result.explanation}")


def _privileges() -> list[str]:
    """The command that runs another one with the owners and devices of the image.

    Raises:
        FailedPreconditionError: there is none.
    """
    if shutil.which("fakeroot") is not None:
        return [find_program("fakeroot"), "--"]
    if os.geteuid() == 0:
        return []
    raise FailedPreconditionError(
        "only root can make this file system with the owners of the image: install the package fakeroot, or "
        "use format=ext4"
    )


def _environment() -> dict[str, str]:
    """An environment without anything that changes the result, such as SOURCE_DATE_EPOCH."""
    path = os.environ.get("PATH", os.defpath)
    return {"PATH": path, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "LC_ALL": "C", "TZ": "UTC"}


def _finish_erofs(plan: FileSystemPlan, path: Path) -> None:
    """Write time and label into the superblock, because not every version has flags for them."""
    with path.open("r+b") as file:
        file.seek(_SUPERBLOCK)
        head = file.read(_HEAD.size)
        magic, _, features, block_bits, slots, root, inodes, _, _ = _HEAD.unpack(head)
        if magic != _MAGIC or block_bits < 12:
            raise FailedPreconditionError("mkfs.erofs has written a superblock that is not known here")
        file.seek(_SUPERBLOCK)
        block = bytearray(file.read((1 << block_bits) - _SUPERBLOCK))
        _HEAD.pack_into(block, 0, magic, 0, features, block_bits, slots, root, inodes, plan.time, 0)
        struct.pack_into("16s", block, _LABEL_OFFSET, plan.label.encode())
        if features & _HAS_CHECKSUM:
            struct.pack_into("<I", block, 4, _crc32c(block))
        file.seek(_SUPERBLOCK)
        file.write(block)


def _crc32c(data: bytes | bytearray) -> int:
    """The Castagnoli CRC without final inversion, as erofs has it; for a few KiB."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc
