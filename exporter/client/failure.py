"""Why a build failed: `BuildError`, with the daemon's structured details.

BuildKit puts typed values into the details of the call's status (its ``util/grpcerrors``): JSON, with type
names from containerd's ``typeurl``. The step's name and output come from the progress.
"""

from __future__ import annotations

import ast
import re
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import cast

import grpc
import grpc.aio
import msgspec
from google.protobuf import message
from google.rpc import status_pb2  # type: ignore[import-untyped]
from grpc_status import rpc_status

from exporter.client.sources import BuildSource
from exporter.errors import Code, ExporterError, UnavailableError
from exporter.progress.model import StatusUpdate
from exporter.rpc.status import from_rpc_error, rpc_errors

FAILED_TO_SOLVE = "failed to solve"
"""The prefix of a build failure's message, as in BuildKit's own clients."""

KEPT_LOG_BYTES = 64 << 10
"""The maximum size of a step's output in a failure."""

KEPT_LOG_LINES = 100
"""The maximum number of lines."""

_PREFIX = "github.com/moby/buildkit/"
_SOURCE = _PREFIX + "errdefs.Source+json"
_VERTEX = _PREFIX + "errdefs.Vertex+json"
_EXIT = _PREFIX + "gatewayapi.ExitMessage+json"

_COMMAND = re.compile(r'process ("(?:[^"\\]|\\.)*") did not complete successfully')
_OLD_COMMAND = re.compile(r"executor failed running \[(.*)\]: exit code: \d+")
"""The text of daemons before v0.9, as in Docker 20.10."""
_EXIT_CODE = re.compile(r"(?:did not complete successfully|executor failed running \[.*\]): exit code: (\d+)")


class BuildError(ExporterError):
    """A build failed in the daemon, rather than the connection to it.

    Its text is that of buildctl (``failed to solve: …``); `report` adds the source and the step's output.

    Attributes:
        vertex: The digest of the failed step; empty if there is none, as for a malformed Dockerfile.
        vertex_name: The name of the step in the progress; empty if unknown.
        exit_code: The exit code of the step's process; None if the failure was not that of a process.
        sources: The failed step's locations in the user's files, the innermost first.
        logs: The last lines of the step's output, without line breaks.
        status: The daemon's complete status (``google.rpc.Status``), with all details.
        ref: The build's ID; empty if unknown.
    """

    def __init__(
        self,
        message: str,
        *,
        field: str | None = None,
        vertex: str = "",
        vertex_name: str = "",
        exit_code: int | None = None,
        sources: Sequence[BuildSource] = (),
        logs: Sequence[bytes] = (),
        status: status_pb2.Status | None = None,
        ref: str = "",
    ) -> None:
        super().__init__(message, field=field)
        self.vertex = vertex
        self.vertex_name = vertex_name
        self.exit_code = exit_code
        self.sources = tuple(sources)
        self.logs = tuple(logs)
        self.status = status
        self.ref = ref

    @property
    def command(self) -> str:
        """The command that failed, as one string; empty if the failure was not that of a process."""
        match = _COMMAND.search(self.message)
        if match is None:
            old = _OLD_COMMAND.search(self.message)
            return old[1] if old is not None else ""
        try:
            return str(ast.literal_eval(match[1]))  # Go's escapes are Python's
        except (ValueError, SyntaxError):
            return match[1][1:-1]

    @property
    def log(self) -> str:
        """The last lines of the step's output as one text."""
        return b"\n".join(self.logs).decode("utf-8", "replace")

    def report(self) -> str:
        """Format the failure for people: the step with its output, the source, and the message."""
        parts = []
        if self.logs:
            rule = "------"
            name = self.vertex_name or self.vertex
            parts.append(f"{rule}\n > {name}:\n{self.log}\n{rule}\n")
        parts += [source.excerpt() for source in self.sources]
        return f"{''.join(parts)}error: {self.message}"

    @classmethod
    def of(cls, error: ExporterError, status: status_pb2.Status) -> BuildError:
        """Convert a status.

        Args:
            error: The error for the status, with message, code and field.
            status: The status.
        """
        vertex, sources, exit_code = "", [], None
        for detail in status.details:
            try:
                match detail.type_url:
                    case str(url) if url == _SOURCE:
                        sources.append(msgspec.json.decode(detail.value, type=BuildSource))
                    case str(url) if url == _VERTEX:  # the outermost one wins
                        vertex = msgspec.json.decode(detail.value, type=_Vertex).digest
                    case str(url) if url == _EXIT:
                        exit_code = msgspec.json.decode(detail.value, type=_ExitMessage).code
            except msgspec.MsgspecError:
                continue  # a malformed detail must not hide the others
        if exit_code is None and (match := _EXIT_CODE.search(status.message)) is not None:
            exit_code = int(match[1])  # daemons before v0.9 only have it in the message
        failure = cls(
            error.message,
            field=error.field,
            vertex=vertex,
            exit_code=exit_code,
            sources=sources,
            status=status,
        )
        failure.code = error.code
        return failure


class BuildCancelledError(BuildError):
    """A build was cancelled by its ID, rather than by cancelling the task that waits for it."""

    code = Code.CANCELLED


SolveError = BuildError
"""The former name of `BuildError`."""


class _Vertex(msgspec.Struct):
    digest: str = ""


class _ExitMessage(msgspec.Struct):
    code: int = msgspec.field(name="Code", default=0)


@contextmanager
def solve_errors(doing: str = FAILED_TO_SOLVE) -> Iterator[None]:
    """Convert build failures to `BuildError`, and connection failures as `rpc_errors` does.

    Args:
        doing: A prefix for the daemon's message.
    """
    with rpc_errors(doing):
        try:
            yield
        except grpc.aio.AioRpcError as error:
            plain = from_rpc_error(error, doing)
            status = _status_of(error)
            is_buildkit_s = any(detail.type_url.startswith(_PREFIX) for detail in status.details)
            if isinstance(plain, UnavailableError) and not is_buildkit_s:
                raise
            raise BuildError.of(plain, status) from error


def _status_of(error: grpc.aio.AioRpcError) -> status_pb2.Status:
    try:
        status = rpc_status.from_call(cast(grpc.Call, error))
    except (ValueError, message.DecodeError):  # its details are damaged, or belong to a different status
        status = None
    return status or status_pb2.Status(code=error.code().value[0], message=error.details() or "")


class StepRecorder:
    """Records the names of steps, and the last output of those that have not succeeded (yet)."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._output: dict[str, _Tail] = {}

    def record(self, update: StatusUpdate) -> None:
        """Record a progress update."""
        for vertex in update.vertexes:
            self._names[vertex.digest] = vertex.name
            if vertex.completed is not None and not vertex.error:
                self._output.pop(vertex.digest, None)
        for log in update.logs:
            self._output.setdefault(log.vertex, _Tail()).add(log.data)

    def complete(self, error: BuildError) -> None:
        """Add the step's name and output to a failure."""
        error.vertex_name = error.vertex_name or self._names.get(error.vertex, "")
        if not error.logs and (tail := self._output.get(error.vertex)) is not None:
            error.logs = tail.lines()


class _Tail:
    """The end of a step's output."""

    def __init__(self) -> None:
        self._pieces: deque[bytes] = deque()
        self._size = 0

    def add(self, data: bytes) -> None:
        self._pieces.append(data)
        self._size += len(data)
        while self._size - len(self._pieces[0]) >= KEPT_LOG_BYTES:
            self._size -= len(self._pieces.popleft())

    def lines(self) -> tuple[bytes, ...]:
        data = b"".join(self._pieces)[-KEPT_LOG_BYTES:]
        return tuple(data.splitlines()[-KEPT_LOG_LINES:])
