"""The simulated daemon's services."""

# ruff: noqa: N802 (methods are named as in the .proto)

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import grpc
import grpc.aio
from google.protobuf import any_pb2
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import status_pb2  # type: ignore[import-untyped]
from grpc_health.v1 import health, health_pb2_grpc
from grpc_status import rpc_status

from exporter.content.files import BlobDirectory
from exporter.content.overlay import MultiProvider
from exporter.daemon.services.content import ContentServicer
from exporter.errors import Code, ExporterError, FailedPreconditionError, InvalidArgumentError
from exporter.pb.moby.buildkit.v1 import control_pb2, control_pb2_grpc
from exporter.pb.moby.buildkit.v1.types import worker_pb2
from exporter.pb.moby.exporter.v1 import exporter_pb2, exporter_pb2_grpc
from exporter.pb.moby.filesync.v1 import filesync_pb2, filesync_pb2_grpc
from exporter.remotes.messages.layers import timestamp
from exporter.rpc.session.manager import Session, SessionManager
from exporter.rpc.status import StatusInterceptor, from_rpc_error
from tests.builds import read_json, scenario, scenario_names
from tests.integration.simulator import BEHAVIOUR, SCENARIO, WAITING, Behaviour
from tests.recordings import cache_records

VERSION = "v0.0.1-simulated"
SESSION_SECONDS = 5.0
PAUSE_SECONDS = 0.3
KNOWN_TYPES = {"docker", "image", "local", "oci", "tar"}
FIND_EXPORTERS = "/moby.exporter.v1.Exporter/FindExporters"
FINALIZE_EXPORT = "/moby.exporter.v1.Exporter/FinalizeExport"
DIFF_COPY = "/moby.filesync.v1.FileSend/DiffCopy"
OLD_ONES = {Behaviour.OLD, Behaviour.ANCIENT}
_CHUNK = 32 << 10


class UnknownError(ExporterError):
    """The status of Go's plain errors."""

    code = Code.UNKNOWN


class StepError(UnknownError):
    """A step has failed."""

    def __init__(self, text: str, vertex: str) -> None:
        super().__init__(text)
        data = base64.b64encode(b"FROM scratch\nRUN false\n").decode()
        place = {"start": {"line": 2}, "end": {"line": 2}}
        self.details = {
            "errdefs.Source": {
                "info": {"filename": "Dockerfile", "data": data, "language": "Dockerfile"},
                "ranges": [place],
            },
            "errdefs.Vertex": {"digest": vertex},
            "gatewayapi.ExitMessage": {"Code": 1},
        }

    def status(self) -> grpc.Status:
        """The status with its details, as ``typeurl`` names them."""
        details = [
            any_pb2.Any(type_url=f"github.com/moby/buildkit/{name}+json", value=json.dumps(value).encode())
            for name, value in self.details.items()
        ]
        status = status_pb2.Status(code=Code.UNKNOWN.value, message=self.message, details=details)
        return rpc_status.to_status(status)


class Progress:
    """The progress of a build for its watchers."""

    def __init__(self) -> None:
        self._messages: list[control_pb2.StatusResponse] = []
        self._changed = asyncio.Condition()
        self._is_over = False

    async def put(self, message: control_pb2.StatusResponse) -> None:
        async with self._changed:
            self._messages.append(message)
            self._changed.notify_all()

    async def end(self) -> None:
        async with self._changed:
            self._is_over = True
            self._changed.notify_all()

    async def watch(self) -> AsyncIterator[control_pb2.StatusResponse]:
        position = 0
        while True:
            async with self._changed:
                while not self._is_over and len(self._messages) <= position:
                    await self._changed.wait()
                fresh, is_over = self._messages[position:], self._is_over
            position += len(fresh)
            for message in fresh:
                yield message
            if is_over:
                return


class SimulatedBuild:
    """One build, replayed from a recording.

    Args:
        request: As it came.
        session: The client's.
        progress: The messages for its watchers.
    """

    def __init__(self, request: control_pb2.SolveRequest, session: Session, progress: Progress) -> None:
        self._request = request
        self._session = session
        self._progress = progress
        self._name = request.FrontendAttrs[SCENARIO]
        self.behaviour = Behaviour(request.FrontendAttrs.get(BEHAVIOUR, ""))
        self.records = [] if self.behaviour is Behaviour.FORGETFUL else usage_records(self._name)
        self._root = root_of(self._name)
        self.late: asyncio.Future[Any] | None = None

    async def run(self) -> dict[str, str]:
        """Do what ``Solver.Solve`` does, in its order."""
        for exporter in self._exporters():
            if exporter.Type not in KNOWN_TYPES:
                raise UnknownError(f'exporter "{exporter.Type}" could not be found')
        await self._vertex("[internal] nothing is built", "sha256:" + "0" * 64)
        if self.behaviour is Behaviour.EAGER:
            await self._progress.end()
        if self.behaviour is Behaviour.FAILING:
            await self._fail()
        await self._find_exporters()
        exports = [self._export(index, exporter) for index, exporter in enumerate(self._exporters())]
        if self.behaviour is Behaviour.LATE:
            self.late = asyncio.gather(*exports, return_exceptions=True)
            return {}
        responses = await asyncio.gather(*exports)
        response = {key: value for part in responses for key, value in part.items()}
        await self._finalize(response)
        return response

    def _exporters(self) -> Sequence[control_pb2.Exporter]:
        request = self._request
        if self.behaviour is not Behaviour.ANCIENT:
            return request.Exporters
        old = control_pb2.Exporter(Type=request.ExporterDeprecated, Attrs=request.ExporterAttrsDeprecated)
        return [old] if old.Type else []

    async def _find_exporters(self) -> None:
        if self.behaviour in OLD_ONES or not self._request.EnableSessionExporter:
            return
        await self._pause()
        source = read_json(self._name, "source.json")
        metadata = {key: base64.b64decode(value) for key, value in (source["metadata"] or {}).items()}
        if self.behaviour is Behaviour.DIFFERENT:
            config = json.loads(metadata["containerimage.config"])
            config["config"] = {**config["config"], "User": "somebody"}
            metadata["containerimage.config"] = json.dumps(config).encode()
        request = exporter_pb2.FindExportersRequest(metadata=metadata, refs=source["refs"])
        assert self._session.supports(FIND_EXPORTERS)
        response = await exporter_pb2_grpc.ExporterStub(self._session.channel).FindExporters(request)
        assert not response.exporters

    async def _export(self, index: int, exporter: control_pb2.Exporter) -> dict[str, str]:
        digest = f"sha256:{hashlib.sha256(f'{self._session.id}-export-{index}'.encode()).hexdigest()}"
        name = f"exporting to {exporter.Type} image format"
        started = _now()
        await self._tell(control_pb2.Vertex(digest=digest, name=name, started=started))
        error = ""
        try:
            await self._status(digest, "exporting layers", started)
            await self._pause()
            response = self._response()
            if exporter.Type in {"oci", "docker", "tar"} and exporter.Attrs.get("tar") != "false":
                await self._status(digest, "sending tarball", started)
                await self._send(index, response)
            return response
        except ExporterError as failure:
            error = str(failure)
            raise
        finally:
            await self._tell(
                control_pb2.Vertex(digest=digest, name=name, started=started, completed=_now(), error=error)
            )

    async def _send(self, index: int, response: dict[str, str]) -> None:
        """Send a tar as Go does: without reading, until the call turns out to have ended."""
        if not self._session.supports(DIFF_COPY):
            raise UnknownError(f"method {DIFF_COPY} not supported by the client")
        if self.behaviour is Behaviour.DYING:
            os._exit(1)
        headers = [("buildkit-attachable-exporter-id", str(index))]
        headers += [(f"exporter-md-{key}", value) for key, value in response.items()]
        call = filesync_pb2_grpc.FileSendStub(self._session.channel).DiffCopy(metadata=headers)
        try:
            with suppress(asyncio.InvalidStateError, grpc.aio.InternalError):
                await call.wait_for_connection()
                for _ in range(64):
                    await call.write(filesync_pb2.BytesMessage(data=bytes(_CHUNK)))
                await call.done_writing()
            code = await call.code()
            if code not in {grpc.StatusCode.OK, grpc.StatusCode.ALREADY_EXISTS}:
                raise UnknownError(
                    f"failed to copy to tar: rpc error: code = {code.name} desc = {await call.details()}"
                )
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.ALREADY_EXISTS:
                raise from_rpc_error(error, "failed to copy to tar") from error
        finally:
            call.cancel()

    async def _finalize(self, response: dict[str, str]) -> None:
        if self.behaviour in OLD_ONES or not self._session.supports(FINALIZE_EXPORT):
            return
        request = exporter_pb2.FinalizeExportRequest(exporter_response=response)
        await exporter_pb2_grpc.ExporterStub(self._session.channel).FinalizeExport(request)

    def _response(self) -> dict[str, str]:
        encoded = base64.b64encode(json.dumps(self._root).encode()).decode()
        return {"containerimage.digest": self._root["digest"], "containerimage.descriptor": encoded}

    async def _fail(self) -> None:
        digest, started = "sha256:" + "f" * 64, _now()
        step = control_pb2.Vertex(digest=digest, name="[2/2] RUN false", started=started)
        await self._tell(step)
        log = control_pb2.VertexLog(vertex=digest, timestamp=started, stream=1, msg=b"it goes wrong\n")
        await self._progress.put(control_pb2.StatusResponse(logs=[log]))
        text = 'process "/bin/sh -c false" did not complete successfully: exit code: 1'
        step.completed.CopyFrom(_now())
        step.error = text
        await self._tell(step)
        raise StepError(text, digest)

    async def _vertex(self, name: str, digest: str) -> None:
        now = _now()
        await self._tell(control_pb2.Vertex(digest=digest, name=name, started=now, completed=now))

    async def _tell(self, vertex: control_pb2.Vertex) -> None:
        await self._progress.put(control_pb2.StatusResponse(vertexes=[vertex]))

    async def _status(self, vertex: str, name: str, started: Timestamp) -> None:
        status = control_pb2.VertexStatus(
            ID=name, vertex=vertex, timestamp=started, started=started, completed=_now()
        )
        await self._progress.put(control_pb2.StatusResponse(statuses=[status]))

    async def _pause(self) -> None:
        if self.behaviour is Behaviour.SLOW:
            await asyncio.sleep(PAUSE_SECONDS)


class SimulatedDaemon(control_pb2_grpc.ControlServicer):
    """``moby.buildkit.v1.Control``, as far as builds need it."""

    def __init__(self) -> None:
        self._sessions = SessionManager()
        self._progress: dict[str, Progress] = {}
        self._builds: list[SimulatedBuild] = []
        self._late: list[asyncio.Future[Any]] = []

    async def Session(self, request_iterator: Any, context: Any) -> None:  # type: ignore[override]
        await context.send_initial_metadata(())
        await self._sessions.serve(tuple(context.invocation_metadata()), context)

    async def Solve(self, request: control_pb2.SolveRequest, context: Any) -> control_pb2.SolveResponse:
        if SCENARIO not in request.FrontendAttrs:
            raise InvalidArgumentError(f"say which build: {SCENARIO}")
        progress = self._progress.setdefault(request.Ref, Progress())
        if self._sessions.get(request.Session) is None:
            await progress.put(control_pb2.StatusResponse(vertexes=[control_pb2.Vertex(name=WAITING)]))
        is_impatient = request.FrontendAttrs.get(BEHAVIOUR) == Behaviour.IMPATIENT
        session = await self._sessions.wait(request.Session, 0 if is_impatient else SESSION_SECONDS)
        build = SimulatedBuild(request, session, progress)
        with self._using(build):
            try:
                return control_pb2.SolveResponse(ExporterResponse=await build.run())
            except StepError as error:
                status = error.status()
                await context.abort(status.code, status.details, tuple(status.trailing_metadata))
                raise
            finally:
                if build.late is not None:
                    self._late.append(build.late)
                await progress.end()

    @contextmanager
    def _using(self, build: SimulatedBuild) -> Any:
        self._builds.append(build)
        try:
            yield
        finally:
            self._builds.remove(build)

    async def Status(
        self, request: control_pb2.StatusRequest, context: Any
    ) -> AsyncIterator[control_pb2.StatusResponse]:
        await context.send_initial_metadata((("buildkit-current-timestamp", "2024-01-02T03:04:05Z"),))
        async for message in self._progress.setdefault(request.Ref, Progress()).watch():
            yield message

    async def DiskUsage(
        self, request: control_pb2.DiskUsageRequest, context: Any
    ) -> control_pb2.DiskUsageResponse:
        if list(request.filter) not in ([], ["inuse"]):
            raise FailedPreconditionError(f"filters that are not simulated: {request.filter}")
        return control_pb2.DiskUsageResponse(record=[r for build in self._builds for r in build.records])

    async def ListenBuildHistory(self, request: Any, context: Any) -> None:  # type: ignore[override]
        raise NotImplementedError

    async def UpdateBuildHistory(self, request: Any, context: Any) -> Any:
        raise NotImplementedError

    async def Prune(self, request: Any, context: Any) -> None:  # type: ignore[override]
        raise NotImplementedError

    async def Info(self, request: Any, context: Any) -> control_pb2.InfoResponse:
        return control_pb2.InfoResponse(buildkitVersion=worker_pb2.BuildkitVersion(version=VERSION))

    async def ListWorkers(self, request: Any, context: Any) -> control_pb2.ListWorkersResponse:
        return control_pb2.ListWorkersResponse()


def usage_records(name: str) -> list[control_pb2.UsageRecord]:
    """A recorded build's cache records."""
    return [
        control_pb2.UsageRecord(
            ID=record.id,
            InUse=True,
            Parents=record.parents,
            CreatedAt=timestamp(record.created_at),
            Description=record.description,
        )
        for record in cache_records(name).values()
    ]


def root_of(name: str) -> Any:
    """The descriptor of the image that the daemon made of a recorded build."""
    return read_json(name, "oci/index.json")["manifests"][
        0
    ]  # an image with several names has several entries


def _now() -> Timestamp:
    seconds, nanos = divmod(time.time_ns(), 1_000_000_000)
    return Timestamp(seconds=seconds, nanos=nanos)


def recorded_content() -> MultiProvider:
    """The blobs of all recorded builds."""
    provider = MultiProvider(BlobDirectory(scenario("scratch-copy") / "oci" / "blobs"))
    for name in scenario_names(daemon="buildkit"):
        for place in ("oci/blobs", "layers"):
            blobs = BlobDirectory(scenario(name) / place)
            for info in blobs.list():
                provider.add(info.digest, blobs)
    return provider


async def serve(socket: str) -> None:
    """Run the daemon until it is killed."""
    server = grpc.aio.server(
        interceptors=[StatusInterceptor()], options=(("grpc.max_receive_message_length", -1),)
    )
    control_pb2_grpc.add_ControlServicer_to_server(SimulatedDaemon(), server)
    ContentServicer(recorded_content()).register(server)
    health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), server)
    server.add_insecure_port(f"unix:{socket}")
    await server.start()
    await server.wait_for_termination()
