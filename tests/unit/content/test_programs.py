"""Running other programs."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from exporter.content import find_program, run_program
from exporter.errors import DataLossError, DeadlineError, FailedPreconditionError

SH = "/bin/sh"


async def pieces(*data: bytes) -> AsyncIterator[bytes]:
    for piece in data:
        yield piece


def has_ended(pid: int) -> bool:
    """Whether a process is gone or a zombie."""
    try:
        state = (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state == "Z"


async def is_gone(pid: int) -> bool:
    """Whether a process has ended, or ends within a few seconds."""
    for _ in range(500):
        if has_ended(pid):
            return True
        await asyncio.sleep(0.01)
    return False


def pid_so_far(path: Path) -> str:
    return path.read_text() if path.exists() else ""


async def pid_in(path: Path) -> int:
    for _ in range(1000):
        if (text := pid_so_far(path)).endswith("\n"):
            return int(text)
        await asyncio.sleep(0.01)
    raise AssertionError(f"nothing wrote {path}")


async def test_output_and_status() -> None:
    seen: list[str] = []
    result = await run_program([SH, "-c", "echo out; echo err >&2; exit 3"], on_output=seen.append)
    assert result.status == 3
    assert "".join(seen) == result.output == "out\nerr\n"
    assert result.explanation == "exit status 3: out\nerr"


async def test_a_signal_is_named() -> None:
    result = await run_program([SH, "-c", "kill -9 $$"])
    assert result.explanation == "ended by SIGKILL"


async def test_input_environment_and_directory(tmp_path: Path) -> None:
    result = await run_program(
        [SH, "-c", 'cat; echo "$A $PWD"'],
        stdin=pieces(b"a" * 200_000, b"\n"),
        environment={"A": "b", "PATH": os.defpath},
        directory=tmp_path,
    )
    assert result.status == 0
    assert result.output.endswith(f"a\nb {tmp_path}\n")


async def test_a_program_need_not_read_its_input() -> None:
    result = await run_program([SH, "-c", "exit 4"], stdin=pieces(*[b"a" * 100_000] * 50))
    assert result.status == 4


async def test_a_failing_input_ends_the_program() -> None:
    async def failing() -> AsyncIterator[bytes]:
        yield b"1"
        raise DataLossError("damaged")

    with pytest.raises(DataLossError, match="damaged"):
        await run_program([SH, "-c", "sleep 1000"], stdin=failing())


async def test_the_timeout_ends_children_as_well(tmp_path: Path) -> None:
    script = f"sleep 1000 & echo $! > {tmp_path}/pid; echo busy; wait"
    with pytest.raises(DeadlineError, match=r"^sh has not ended within 0\.5 s: busy$"):
        await run_program([SH, "-c", script], timeout=0.5)
    assert await is_gone(await pid_in(tmp_path / "pid"))


async def test_cancellation_ends_children_as_well(tmp_path: Path) -> None:
    script = f"trap '' TERM; sleep 1000 & echo $! > {tmp_path}/pid; wait; wait"
    task = asyncio.create_task(run_program([SH, "-c", script]))
    child = await pid_in(tmp_path / "pid")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await is_gone(child)


async def test_cancellation_while_it_starts(tmp_path: Path) -> None:
    for turns in range(20):
        path = tmp_path / str(turns)
        task = asyncio.create_task(run_program([SH, "-c", f"echo $$ > {path}; sleep 1000 & wait"]))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        if (text := pid_so_far(path)).endswith("\n"):
            assert await is_gone(int(text))


async def test_children_do_not_outlive_the_program(tmp_path: Path) -> None:
    result = await run_program([SH, "-c", f"sleep 1000 & echo $! > {tmp_path}/pid"])
    assert result.status == 0
    assert await is_gone(await pid_in(tmp_path / "pid"))


async def test_a_program_that_is_not_installed() -> None:
    with pytest.raises(
        FailedPreconditionError,
        match="the program mkfs.none is not installed: install the package none-utils",
    ):
        find_program("mkfs.none", "none-utils")
    with pytest.raises(FailedPreconditionError, match="cannot run /nothing/x: No such file or directory"):
        await run_program(["/nothing/x"])
