"""Processes in a daemon's containers (BuildKit: gateway exec)."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from google.rpc import status_pb2  # type: ignore[import-untyped]

from exporter.client.gateway import Gateway
from exporter.errors import ExporterError, FailedPreconditionError, UnavailableError
from exporter.pb.moby.buildkit.v1.frontend import gateway_pb2
from exporter.pb.pb import ops_pb2
from exporter.rpc.calls import StreamCall
from exporter.rpc.status import rpc_errors

_PIECE_BYTES = 32 << 10
_UNKNOWN_EXIT = 255
_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class ProcessError(ExporterError):
    """A process ended with an exit code other than 0.

    Attributes:
        completed: The process.
    """

    def __init__(self, completed: Completed) -> None:
        command = " ".join(completed.args)
        said = completed.stderr.decode("utf-8", "replace").strip()
        super().__init__(
            f"`{command}` has ended with exit code {completed.exit_code}{': ' + said if said else ''}"
        )
        self.completed = completed


@dataclass(frozen=True, slots=True)
class Completed:
    """A process that has ended.

    Attributes:
        args: The program and its arguments.
        exit_code: Its exit code.
        stdout: Its standard output.
        stderr: Its standard error.
    """

    args: tuple[str, ...]
    exit_code: int
    stdout: bytes = field(default=b"", repr=False)
    stderr: bytes = field(default=b"", repr=False)

    def check(self) -> None:
        """Raise an error unless the exit code is 0.

        Raises:
            ProcessError: it is not.
        """
        if self.exit_code != 0:
            raise ProcessError(self)


@dataclass(frozen=True, slots=True)
class Process:
    """A process to run.

    Attributes:
        args: The program and its arguments.
        env: Environment variables.
        cwd: The working directory.
        user: The user.
        input: Its standard input.
        on_output: Receives output as it comes, with the number of the stream.
    """

    args: Sequence[str]
    env: Mapping[str, str]
    cwd: str = "/"
    user: str = ""
    input: bytes = b""
    on_output: Callable[[int, bytes], object] | None = None

    def message(self, container_id: str) -> gateway_pb2.InitMessage:
        """The message that starts it."""
        env = {"PATH": _DEFAULT_PATH, **self.env}
        return gateway_pb2.InitMessage(
            ContainerID=container_id,
            Meta=ops_pb2.Meta(
                args=self.args,
                env=[f"{key}={value}" for key, value in env.items()],
                cwd=self.cwd,
                user=self.user,
            ),
            Fds=[0, 1, 2],
        )


async def run_process(gateway: Gateway, container_id: str, process: Process) -> Completed:
    """Run a process in a container until it ends. Cancelling this ends it.

    Raises:
        ExporterError: it cannot be started, or the daemon went away.
    """
    call = StreamCall(gateway.exec_process())
    process_id = f"{container_id}:{uuid.uuid4().hex}"
    try:
        with rpc_errors(f"cannot run {process.args[0] if process.args else 'a process'}"):
            await _send(
                call, gateway_pb2.ExecMessage(ProcessID=process_id, Init=process.message(container_id))
            )
            return await _Running(call, process_id, process).run()
    finally:
        call.cancel()


class _Running:
    def __init__(self, call: StreamCall, process_id: str, process: Process) -> None:
        self._call = call
        self._id = process_id
        self._process = process
        self._output: dict[int, list[bytes]] = {1: [], 2: []}
        self._exit: gateway_pb2.ExitMessage | None = None

    async def run(self) -> Completed:
        sending = asyncio.create_task(self._send_input(), name="input of a process")
        try:
            while isinstance(message := await self._call.read(), gateway_pb2.ExecMessage):
                if self._is_last(message):
                    return self._completed()
        finally:
            sending.cancel()
            await asyncio.wait((sending,))
            if not sending.cancelled():
                sending.exception()  # retrieved: the process has ended first
        raise UnavailableError("the daemon has ended the call before the process ended")

    def _is_last(self, message: gateway_pb2.ExecMessage) -> bool:
        match message.WhichOneof("Input"):
            case "File":
                data = message.File.Data
                self._output.setdefault(message.File.Fd, []).append(data)
                if data and self._process.on_output is not None:
                    self._process.on_output(message.File.Fd, data)
            case "Exit":
                self._exit = message.Exit
            case "Done":
                return True
        return False

    def _completed(self) -> Completed:
        ended = self._exit or gateway_pb2.ExitMessage()
        if ended.Code == _UNKNOWN_EXIT and ended.Error:  # it has not run
            raise FailedPreconditionError(status_pb2.Status.FromString(ended.Error).message)
        return Completed(
            tuple(self._process.args), ended.Code, b"".join(self._output[1]), b"".join(self._output[2])
        )

    async def _send_input(self) -> None:
        data = self._process.input
        for start in range(0, len(data), _PIECE_BYTES):
            await self._send_file(gateway_pb2.FdMessage(Data=data[start : start + _PIECE_BYTES]))
        await self._send_file(gateway_pb2.FdMessage(EOF=True))

    async def _send_file(self, file: gateway_pb2.FdMessage) -> None:
        await self._call.send(gateway_pb2.ExecMessage(ProcessID=self._id, File=file))


async def _send(call: StreamCall, message: gateway_pb2.ExecMessage) -> None:
    if not await call.send(message):
        raise await call.ended_with() or UnavailableError("the daemon has ended the call")
