"""ext4, made by ``mke2fs`` and filled by ``debugfs``, neither of which needs root or a mount.

``mke2fs -d`` copies a directory: owners and devices need root, and the result depends on the order of the
directory and on the times of its inodes. ``debugfs`` gets each file with its attributes as commands.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

from exporter.content.programs import find_program, run_program
from exporter.content.threads import run_in_thread
from exporter.errors import FailedPreconditionError, InvalidArgumentError
from exporter.exporters.filesystems.ext4_script import Script
from exporter.exporters.filesystems.ext4_size import Needs
from exporter.exporters.filesystems.plan import FileSystemPlan
from exporter.layer.entry import FileEntry

__all__ = ["MAX_EXT4_LABEL", "make_ext4"]

MAX_EXT4_LABEL = 16
"""Longest label in bytes."""

_PACKAGE = "e2fsprogs"
_EARLIEST, _LATEST = -(1 << 31), (1 << 34) - (1 << 31) - 1
_BATCH_BYTES = 64 << 20
"""How much content is copied out of the layers at once."""
_SCRIPT_BYTES = 8 << 20
"""How many bytes of commands are kept in memory: files without content need commands, too."""

_CONFIG = """\
[fs_types]
	ext4 = {
	}
	floppy = {
	}
	small = {
	}
	big = {
	}
	huge = {
	}
"""
"""Instead of the machine's ``mke2fs.conf``, so that the result does not depend on it."""

_FEATURES = (
    "none,has_journal,ext_attr,dir_index,filetype,extent,64bit,flex_bg,sparse_super,large_file,huge_file,"
    "dir_nlink,extra_isize,metadata_csum"
)


async def make_ext4(plan: FileSystemPlan, entries: Iterable[FileEntry], path: Path) -> None:
    """Write the file system.

    Args:
        plan: What to make.
        entries: The files; iterated twice.
        path: The path of the file system.

    Raises:
        FailedPreconditionError: a program is not installed, or fails.
        InvalidArgumentError: the files do not fit, or a name cannot be written.
    """
    mke2fs, debugfs = find_program("mke2fs", _PACKAGE), find_program("debugfs", _PACKAGE)
    needs = await run_in_thread(Needs.of, entries)
    size = plan.size or needs.comfortable_bytes
    if size < needs.least_bytes:
        raise InvalidArgumentError(
            f"size={plan.size} is too small for the files of the image: they need {needs.least_bytes} bytes",
            field="attrs[size]",
        )
    work = Path(await run_in_thread(tempfile.mkdtemp, prefix="ext4-", dir=plan.scratch))
    try:
        environment = await run_in_thread(_prepare, plan, work, path, size)
        options = f"hash_seed={plan.uuid},root_owner=0:0,lazy_itable_init=0,lazy_journal_init=0,nodiscard"
        command = [
            *(
                mke2fs,
                "-q",
                "-F",
                "-t",
                "ext4",
                "-b",
                "4096",
                "-I",
                "256",
                "-m",
                "0",
                "-N",
                str(needs.inodes),
            ),
            *("-U", str(plan.uuid), "-L", plan.label, "-J", f"size={needs.journal_mib}"),
            *("-O", _FEATURES, "-E", options, str(path)),
        ]
        result = await run_program(command, environment=environment)
        if result.status != 0:
            raise FailedPreconditionError(f"mke2fs cannot make the file system: {result.explanation}")
        batches = _batches(plan, entries, work)
        while await run_in_thread(next, batches, None) is not None:
            await _fill(debugfs, work, path, environment)
    finally:
        await run_in_thread(partial(shutil.rmtree, work, ignore_errors=True))


def _prepare(plan: FileSystemPlan, work: Path, path: Path, size: int) -> dict[str, str]:
    """Make the empty file; return the environment of the programs."""
    config = work / "mke2fs.conf"
    config.write_text(_CONFIG, encoding="utf-8")
    with path.open("xb") as file:
        file.truncate(size)
    # The programs take "now" from here, among others for the times of inodes.
    now = str(plan.time)
    times = {"E2FSPROGS_FAKE_TIME": now, "SOURCE_DATE_EPOCH": now}
    return {"LC_ALL": "C", "TZ": "UTC", "MKE2FS_CONFIG": str(config), **times}


def _batches(plan: FileSystemPlan, entries: Iterable[FileEntry], work: Path) -> Iterator[int]:
    """Write the commands for the next files, and their contents, until all are done."""
    script = Script(entries)
    for count, entry in enumerate(plan.entries(entries, _EARLIEST, _LATEST), 1):
        script.add(entry)
        for name, pieces in script.take_contents():
            _write(work / name, pieces)
        if script.content_bytes > _BATCH_BYTES or script.command_bytes > _SCRIPT_BYTES:
            (work / "script").write_bytes(script.take())
            yield count
    (work / "script").write_bytes(script.take())
    yield -1


def _write(path: Path, pieces: Iterable[bytes]) -> None:
    size = 0
    with path.open("wb") as file:
        for data in pieces:
            size += len(data)
            if data.count(0) == len(data):
                file.seek(size)  # leaves a hole, as debugfs does
            else:
                file.write(data)
        file.truncate(size)


async def _fill(debugfs: str, work: Path, path: Path, environment: dict[str, str]) -> None:
    """Run the commands of a batch, and remove its contents."""
    errors: list[str] = []
    command = [debugfs, "-w", "-f", "script", str(path)]
    # It exits with 0 even if a command fails, so its messages count. Standard output repeats the commands.
    shell = [find_program("sh"), "-c", 'exec "$@" >/dev/null', "sh", *command]
    result = await run_program(shell, environment=environment, directory=work, on_output=errors.append)
    said = [line for line in "".join(errors).splitlines() if line and not line.startswith("debugfs 1.")]
    if result.status != 0 or said:
        problem = said[0] if said else result.explanation
        raise FailedPreconditionError(f"debugfs cannot fill the file system: {problem}")
    await run_in_thread(_remove_contents, work)


def _remove_contents(work: Path) -> None:
    for entry in os.scandir(work):
        if entry.name != "mke2fs.conf":
            Path(entry.path).unlink()
