"""Running other programs: their input and output as streams, and no process left behind."""

from __future__ import annotations

import asyncio
import codecs
import os
import shutil
import signal
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from exporter.content.concurrency import gather
from exporter.errors import DeadlineError, FailedPreconditionError, os_error_text

__all__ = ["ProgramResult", "find_program", "run_program"]

_READ_BYTES = 1 << 16
_TAIL_CHARACTERS = 4096
"""How much of the output is kept for error messages."""

_KILL_SECONDS = 5.0
"""How long a process group may take to end after SIGTERM."""

_DRAIN_SECONDS = 2.0
"""How long to wait for the rest of the output of a program that has ended. Its children may have it open."""

_POLL_SECONDS = 0.05

_SYSTEM_PATHS = ("/usr/sbin", "/sbin", "/usr/local/sbin")
"""Places of programs that ordinary users often do not have in their PATH."""


@dataclass(frozen=True, slots=True)
class ProgramResult:
    """The end of a program.

    Attributes:
        status: The exit status; negative if a signal ended it.
        output: The end of what it wrote to standard output and standard error.
    """

    status: int
    output: str

    @property
    def explanation(self) -> str:
        """How it ended, with its output: ``exit status 1: no space``."""
        if self.status >= 0:
            ended = f"exit status {self.status}"
        elif -self.status in set(signal.Signals):
            ended = f"ended by {signal.Signals(-self.status).name}"
        else:  # most real-time signals have no name
            ended = f"ended by signal {-self.status}"
        text = self.output.strip()
        return f"{ended}: {text}" if text else ended


def find_program(name: str, package: str = "") -> str:
    """Find a program in PATH and in the directories of system programs.

    Args:
        name: Its name.
        package: The package that has it, for the message.

    Returns:
        Its path.

    Raises:
        FailedPreconditionError: it is not installed.
    """
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), *_SYSTEM_PATHS))
    found = shutil.which(name, path=path)
    if found is None:
        hint = f": install the package {package}" if package else ""
        raise FailedPreconditionError(f"the program {name} is not installed{hint}")
    return found


async def run_program(
    command: Sequence[str],
    *,
    stdin: AsyncIterator[bytes] | None = None,
    environment: Mapping[str, str] | None = None,
    directory: Path | None = None,
    on_output: Callable[[str], None] | None = None,
    timeout: float | None = None,
) -> ProgramResult:
    """Run a program in a process group of its own, and wait until it has ended.

    Cancellation, a failure of `stdin` and the timeout end the whole group: by SIGTERM, and seconds later by
    SIGKILL. Children that are still running after the program has ended are killed.

    Args:
        command: The program's path and its arguments.
        stdin: Its standard input; None for none. The rest is not read if the program closes it.
        environment: Its environment; None for ours.
        directory: Its working directory.
        on_output: Receives what it writes to standard output and standard error.
        timeout: Seconds.

    Raises:
        DeadlineError: it has not ended in time.
        FailedPreconditionError: it cannot be started.
    """
    start = asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL if stdin is None else asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=environment,
        cwd=directory,
        start_new_session=True,
    )
    try:
        process = await _started(asyncio.ensure_future(start))
    except OSError as error:
        raise FailedPreconditionError(f"cannot run {os_error_text(error)}") from error
    output = _Output(on_output)
    try:
        async with asyncio.timeout(timeout):
            await gather([_feed(process, stdin), _attend(process, output)])
    except TimeoutError as error:
        if timeout is None:
            raise
        said = output.tail.strip()
        raise DeadlineError(
            f"{Path(command[0]).name} has not ended within {timeout:g} s{': ' + said if said else ''}"
        ) from error
    finally:
        await _end(process)
    assert process.returncode is not None
    return ProgramResult(process.returncode, output.tail)


async def _started(starting: asyncio.Future[asyncio.subprocess.Process]) -> asyncio.subprocess.Process:
    """Wait until a program has started, even when cancelled: asyncio would not end its children."""
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        while not starting.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([starting])
        if starting.exception() is None:
            await _end(starting.result())
        raise


class _Output:
    """Passes on the output, and keeps its end."""

    def __init__(self, on_output: Callable[[str], None] | None) -> None:
        self._on_output = on_output
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.tail = ""

    def add(self, data: bytes, *, is_end: bool = False) -> None:
        text = self._decoder.decode(data, is_end)
        self.tail = (self.tail + text)[-_TAIL_CHARACTERS:]
        if text and self._on_output is not None:
            self._on_output(text)


async def _feed(process: asyncio.subprocess.Process, stdin: AsyncIterator[bytes] | None) -> None:
    if stdin is None or process.stdin is None:
        return
    # A program that does not want its input closes it. Its exit status tells whether that is an error.
    with suppress(BrokenPipeError, ConnectionResetError):
        async for data in stdin:
            process.stdin.write(data)
            await process.stdin.drain()
        process.stdin.close()
        await process.stdin.wait_closed()


async def _attend(process: asyncio.subprocess.Process, output: _Output) -> None:
    reading = asyncio.create_task(_read(process, output))
    try:
        await _exited(process)
        await asyncio.wait([reading], timeout=_DRAIN_SECONDS)
    finally:
        reading.cancel()
        await asyncio.wait([reading])
    output.add(b"", is_end=True)
    if not reading.cancelled():
        reading.result()


async def _read(process: asyncio.subprocess.Process, output: _Output) -> None:
    assert process.stdout is not None
    while data := await process.stdout.read(_READ_BYTES):
        output.add(data)


async def _exited(process: asyncio.subprocess.Process) -> None:
    """Wait until a program has ended. `Process.wait` also waits for children that have its output open."""
    waiting = asyncio.ensure_future(process.wait())
    try:
        while process.returncode is None:
            await asyncio.wait([waiting], timeout=_POLL_SECONDS)
    finally:
        waiting.cancel()


async def _end(process: asyncio.subprocess.Process) -> None:
    """End the group. Its ID stays reserved as long as a member of it is alive."""
    if process.returncode is None:
        _signal(process.pid, signal.SIGTERM)
        with suppress(TimeoutError, asyncio.CancelledError):
            async with asyncio.timeout(_KILL_SECONDS):
                await _exited(process)
        _signal(process.pid, signal.SIGKILL)
        await _exited(process)
    _signal(process.pid, signal.SIGKILL)
    with suppress(TimeoutError):  # the pipe closes when nobody has it open any more
        async with asyncio.timeout(_DRAIN_SECONDS):
            while process.stdout is not None and await process.stdout.read(_READ_BYTES):
                pass


def _signal(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
