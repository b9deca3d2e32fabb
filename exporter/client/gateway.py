"""A client's own frontend, which runs other frontends, reads their results, and returns the result to export.

Upstream: ``client.Build`` with a ``gateway.BuildFunc``. The daemon accepts calls on ``LLBBridge`` with the
build's ID, until ``Return`` delivers the result.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import grpc.aio
from google.rpc import status_pb2  # type: ignore[import-untyped]

from exporter.client.failure import SolveError, solve_errors
from exporter.errors import failure_of
from exporter.pb.fsutil.types import stat_pb2
from exporter.pb.moby.buildkit.v1 import control_pb2
from exporter.pb.moby.buildkit.v1.frontend import gateway_pb2, gateway_pb2_grpc
from exporter.pb.pb import ops_pb2
from exporter.rpc.status import rpc_errors

BUILD_ID = "buildkit-controlapi-buildid"
"""The metadata key for the ID of the build."""

PING_SECONDS = 15.0
"""The timeout until the daemon knows the build."""

_EVALUATE = "gateway.evaluate"


class Gateway:
    """A frontend's access to the daemon.

    Args:
        channel: The channel to the daemon.
        build_ref: The build's ID.
        cache_imports: The cache imports, in the daemon's form.
    """

    def __init__(
        self,
        channel: grpc.aio.Channel,
        build_ref: str,
        cache_imports: Iterable[control_pb2.CacheOptionsEntry] = (),
    ) -> None:
        self._cache_imports = tuple(cache_imports)
        self._stub = gateway_pb2_grpc.LLBBridgeStub(channel)
        self._metadata = ((BUILD_ID, build_ref),)
        self._capabilities: frozenset[str] = frozenset()

    async def ping(self) -> None:
        """Wait until the daemon knows the build, and read its capabilities.

        Raises:
            ExporterError: the daemon does not know the build.
        """
        with rpc_errors("cannot reach the build"):
            pong = await self._stub.Ping(
                gateway_pb2.PingRequest(), metadata=self._metadata, timeout=PING_SECONDS
            )
        self._capabilities = frozenset(cap.ID for cap in pong.FrontendAPICaps if cap.Enabled)

    async def solve(
        self,
        *,
        frontend: str = "",
        frontend_attrs: Mapping[str, str] | None = None,
        frontend_inputs: Mapping[str, ops_pb2.Definition] | None = None,
        definition: ops_pb2.Definition | None = None,
        evaluate: bool = False,
    ) -> gateway_pb2.Result:
        """Run a frontend, or solve a definition.

        Args:
            frontend: The frontend.
            frontend_attrs: Its attributes.
            frontend_inputs: Its named inputs.
            definition: What to solve, if there is no frontend.
            evaluate: Build immediately rather than when the result is exported.

        Raises:
            SolveError: the build failed.
            ExporterError: the daemon is not reachable.
        """
        request = gateway_pb2.SolveRequest(
            Definition=definition,
            Frontend=frontend,
            FrontendOpt=frontend_attrs,
            FrontendInputs=frontend_inputs,
            CacheImports=[
                gateway_pb2.CacheOptionsEntry(Type=place.Type, Attrs=place.Attrs)
                for place in self._cache_imports
            ],
            allowResultReturn=True,
            allowResultArrayRef=True,
        )
        with solve_errors():
            response = await self._stub.Solve(request, metadata=self._metadata)
        if evaluate:  # some daemons honour the request's own flag only for definitions
            for ref in refs_of(response.result):
                await self.evaluate(ref)
        return response.result

    async def evaluate(self, ref_id: str) -> None:
        """Make sure that a ref is built.

        Raises:
            SolveError: the build failed.
            ExporterError: the daemon is not reachable.
        """
        if _EVALUATE not in self._capabilities:
            await self.stat_file(ref_id, ".")
            return
        with solve_errors():
            await self._stub.Evaluate(gateway_pb2.EvaluateRequest(Ref=ref_id), metadata=self._metadata)

    async def stat_file(self, ref_id: str, path: str) -> gateway_pb2.StatFileResponse:
        """Describe a file of a ref.

        Raises:
            NotFoundError: the file does not exist.
        """
        with rpc_errors():
            request = gateway_pb2.StatFileRequest(Ref=ref_id, Path=path)
            return await self._stub.StatFile(request, metadata=self._metadata)

    async def read_file(self, ref_id: str, path: str, offset: int = 0, length: int = 0) -> bytes:
        """Read a file of a ref, or a part of it.

        Args:
            ref_id: The ref.
            path: The file.
            offset: Where the part begins.
            length: Its length; 0 for the rest of the file.

        Raises:
            NotFoundError: the file does not exist.
        """
        part = gateway_pb2.FileRange(Offset=offset, Length=length) if offset or length else None
        with rpc_errors():
            request = gateway_pb2.ReadFileRequest(Ref=ref_id, FilePath=path, Range=part)
            return (await self._stub.ReadFile(request, metadata=self._metadata)).Data

    async def read_dir(self, ref_id: str, path: str, pattern: str = "") -> list[stat_pb2.Stat]:
        """List a directory of a ref.

        Args:
            ref_id: The ref.
            path: The directory.
            pattern: A pattern that names must match; all if empty.

        Raises:
            NotFoundError: the directory does not exist.
        """
        with rpc_errors():
            request = gateway_pb2.ReadDirRequest(Ref=ref_id, DirPath=path, IncludePattern=pattern)
            return list((await self._stub.ReadDir(request, metadata=self._metadata)).entries)

    @asynccontextmanager
    async def container(self, request: gateway_pb2.NewContainerRequest) -> AsyncIterator[None]:
        """Create a container, and remove it at the end.

        Raises:
            ExporterError: the daemon cannot create it.
        """
        with rpc_errors("cannot create a container"):
            await self._stub.NewContainer(request, metadata=self._metadata)
        try:
            yield
        finally:
            release = gateway_pb2.ReleaseContainerRequest(ContainerID=request.ContainerID)
            with suppress(grpc.aio.AioRpcError):  # the build has ended, and its containers with it
                await self._stub.ReleaseContainer(release, metadata=self._metadata)

    def exec_process(self) -> grpc.aio.StreamStreamCall[Any, Any]:
        """Open the stream for processes in containers."""
        return self._stub.ExecProcess(metadata=self._metadata)

    async def finish(self, result: gateway_pb2.Result | BaseException) -> None:
        """Return the frontend's result or failure.

        Raises:
            ExporterError: the daemon rejects it.
        """
        if isinstance(result, SolveError) and result.status is not None:
            request = gateway_pb2.ReturnRequest(error=result.status.SerializeToString())
        elif isinstance(result, BaseException):
            failure = failure_of(result)
            status = status_pb2.Status(code=failure.code.value, message=failure.message)
            request = gateway_pb2.ReturnRequest(error=status.SerializeToString())
        else:
            request = gateway_pb2.ReturnRequest(result=result)
        with rpc_errors():
            await self._stub.Return(request, metadata=self._metadata)


BuildFunction = Callable[[Gateway], Awaitable[gateway_pb2.Result]]
"""A frontend of the client: it returns the result to export (upstream: ``gateway.BuildFunc``)."""


async def run_gateway(gateway: Gateway, build: BuildFunction) -> None:
    """Run a client's frontend, and return its outcome to the daemon.

    Raises:
        Exception: any exception of the frontend.
    """
    try:
        await gateway.ping()
        result = await build(gateway)
    except asyncio.CancelledError:
        raise  # cancelling the Solve call tells the daemon
    except Exception as error:
        await gateway.finish(error)
        raise
    await gateway.finish(result)


def refs_of(result: gateway_pb2.Result) -> list[str]:
    """The IDs of a result's refs, without empty ones. They are only valid within its build."""
    match result.WhichOneof("result"):
        case "ref":
            refs = [result.ref.id]
        case "refs":
            refs = [ref.id for ref in result.refs.refs.values()]
        case "refDeprecated":
            refs = [result.refDeprecated]
        case "refsDeprecated":
            refs = list(result.refsDeprecated.refs.values())
        case _:
            refs = []
    return [ref for ref in refs if ref]
