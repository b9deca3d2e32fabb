"""Unpacks a tar from standard input into a directory, then runs a command.

A separate program, because ``fakeroot`` pretends owners and devices to processes that it starts. The tar is
our own: its names are below the directory, and the parents of a file come before it.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Sequence
from pathlib import Path

from exporter.layer.gotar import Header, TarReader, TypeFlag
from exporter.layer.gotar.pax import XATTR_PREFIX
from exporter.layer.streams import PIECE_SIZE, drain

__all__ = ["unpack"]

_NANOSECONDS = 10**9
_DEVICES = {TypeFlag.CHAR: stat.S_IFCHR, TypeFlag.BLOCK: stat.S_IFBLK, TypeFlag.FIFO: stat.S_IFIFO}


def unpack(directory: Path) -> None:
    """Unpack standard input.

    Raises:
        OSError: a file cannot be made as it is in the tar.
    """
    tar = TarReader(sys.stdin.buffer)
    times: list[tuple[Path, int]] = []
    while (header := tar.next()) is not None:
        path = directory / os.fsdecode(header.name)
        _make(path, header, tar, directory)
        if header.typeflag == TypeFlag.LINK:
            continue
        os.chown(path, header.uid, header.gid, follow_symlinks=False)
        if header.typeflag != TypeFlag.SYMLINK:
            path.chmod(header.mode)
        for key, value in header.pax_records.items():
            if key.startswith(XATTR_PREFIX):
                os.setxattr(path, key.removeprefix(XATTR_PREFIX), value, follow_symlinks=False)
        time = header.mod_time.seconds * _NANOSECONDS + header.mod_time.nanoseconds
        if header.typeflag == TypeFlag.DIR:
            times.append((path, time))  # files in it change its time
        else:
            os.utime(path, ns=(time, time), follow_symlinks=False)
    for path, time in reversed(times):
        os.utime(path, ns=(time, time))
    drain(sys.stdin.buffer)


def _make(path: Path, header: Header, tar: TarReader, directory: Path) -> None:
    match header.typeflag:
        case TypeFlag.DIR:
            path.mkdir(exist_ok=True)
        case TypeFlag.SYMLINK:
            path.symlink_to(os.fsdecode(header.linkname))
        case TypeFlag.LINK:
            os.link(directory / os.fsdecode(header.linkname), path, follow_symlinks=False)
        case TypeFlag.REG:
            _write(path, tar)
        case _:
            device = os.makedev(header.devmajor, header.devminor)
            os.mknod(path, _DEVICES[header.typeflag] | 0o600, device)


def _write(path: Path, tar: TarReader) -> None:
    with path.open("xb") as file:
        size = 0
        while data := tar.read(PIECE_SIZE):
            size += len(data)
            if data.count(0) == len(data):
                file.seek(size)  # leaves a hole
            else:
                file.write(data)
        file.truncate(size)


def main(arguments: Sequence[str]) -> None:
    """Run the program.

    Args:
        arguments: The directory, and the command with its arguments.
    """
    directory, *command = arguments
    try:
        unpack(Path(directory))
    except OSError as error:
        sys.exit(f"{error.filename or directory}: {error.strerror}")
    os.execv(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
