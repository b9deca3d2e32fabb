"""``buildkit.exporter.v1.ExporterService``."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import grpc.aio

from exporter.content.threads import run_in_thread
from exporter.engine.engine import Engine, ExportJob, Outcome
from exporter.engine.finalize import FinalizeStore
from exporter.engine.jobs import Jobs, delivering
from exporter.errors import InvalidArgumentError, UnavailableError
from exporter.exporters.base import Exporter
from exporter.exporters.registry import Registry
from exporter.pb.buildkit.exporter.v1 import exporter_pb2, exporter_pb2_grpc
from exporter.progress.model import StatusSink, StatusUpdate
from exporter.remotes.messages.layers import descriptor_message, document_message
from exporter.remotes.messages.progress import status_response
from exporter.server.metrics import Metrics
from exporter.server.observe import observed
from exporter.server.peers import Peers
from exporter.server.request import (
    build_info_of,
    exporter_info,
    registries_of,
    resolve_response,
    source_of,
)

logger = logging.getLogger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]


class ExporterService(exporter_pb2_grpc.ExporterServiceServicer):
    """Serves a daemon's calls. An interceptor converts exceptions from its methods to statuses.

    Export and Finalize write their messages themselves instead of being generators: when a call is cancelled,
    gRPC leaves a generator to the garbage collector.
    """

    def __init__(
        self,
        *,
        registry: Registry,
        engine: Engine,
        tokens: FinalizeStore,
        peers: Peers,
        jobs: Jobs,
        metrics: Metrics,
    ) -> None:
        self._registry = registry
        self._engine = engine
        self._tokens = tokens
        self._peers = peers
        self._jobs = jobs
        self._metrics = metrics
        self._draining = False

    def drain(self) -> None:
        """Reject new exports from now on. Existing ones can still be finalized."""
        self._draining = True

    async def ListExporters(  # noqa: N802
        self, request: exporter_pb2.ListExportersRequest, context: Context
    ) -> exporter_pb2.ListExportersResponse:
        """See the proto."""
        with observed(self._metrics, context, "ListExporters"):
            kinds = await run_in_thread(self._registry.all)
            for warning in self._registry.warnings:
                logger.warning("%s", warning)
            return exporter_pb2.ListExportersResponse(exporters=[exporter_info(kind) for kind in kinds])

    async def Resolve(  # noqa: N802
        self, request: exporter_pb2.ResolveRequest, context: Context
    ) -> exporter_pb2.ResolveResponse:
        """See the proto."""
        with observed(self._metrics, context, "Resolve", type=self._known(request.type)):
            exporter = await self._resolve(request.type, request.attrs)
            await self._engine.check(exporter)
            return resolve_response(exporter)

    async def Export(  # type: ignore[override]  # noqa: N802 - a coroutine that writes, see the class
        self, request: exporter_pb2.ExportRequest, context: Context
    ) -> None:
        """See the proto."""
        build = request.build
        facts = {"type": self._known(request.type), "build": build.ref, "session": build.session_id}
        with observed(self._metrics, context, "Export", **facts):
            outcome: Outcome | None = None

            async def work(sink: StatusSink) -> None:
                nonlocal outcome
                outcome = await self._export(request, sink)

            async def send(update: StatusUpdate) -> None:
                await context.write(exporter_pb2.ExportResponse(progress=status_response(update)))

            try:
                await self._jobs.run(work, send)
                assert outcome is not None
                message = exporter_pb2.ExportResponse(result=_result_message(outcome))
                with delivering():
                    await context.write(message)
            except BaseException:
                # The caller will never receive the token.
                if outcome is not None and outcome.token:
                    await self._tokens.drop(outcome.token)
                raise

    async def Finalize(  # type: ignore[override]  # noqa: N802 - a coroutine that writes, see the class
        self, request: exporter_pb2.FinalizeRequest, context: Context
    ) -> None:
        """See the proto."""
        token = request.finalize_token
        with observed(self._metrics, context, "Finalize", type=self._tokens.type_of(token)):

            async def work(sink: StatusSink) -> Mapping[str, str]:
                return await self._engine.finalize(token, sink)

            async def send(update: StatusUpdate) -> None:
                await context.write(exporter_pb2.FinalizeResponse(progress=status_response(update)))

            response = await self._jobs.run(work, send)
            result = exporter_pb2.FinalizeResult(response=response)
            with delivering():
                await context.write(exporter_pb2.FinalizeResponse(result=result))

    async def Release(  # noqa: N802
        self, request: exporter_pb2.ReleaseRequest, context: Context
    ) -> exporter_pb2.ReleaseResponse:
        """See the proto."""
        token = request.finalize_token
        with observed(self._metrics, context, "Release", type=self._tokens.type_of(token)):
            await self._tokens.discard(token)
            return exporter_pb2.ReleaseResponse()

    async def _export(self, request: exporter_pb2.ExportRequest, sink: StatusSink) -> Outcome:
        if self._draining:
            raise UnavailableError("the server is shutting down and does not accept new exports")
        if request.id < 0:
            raise InvalidArgumentError(f"{request.id} is not the index of an exporter", field="id")
        exporter = await self._resolve(request.type, request.attrs)
        build = build_info_of(request.build)
        if request.release_with_session and not build.session_id:
            raise InvalidArgumentError("there is no session to wait for", field="release_with_session")
        if request.takes_output and not build.session_id:
            raise InvalidArgumentError("there is no session that could take files", field="takes_output")
        async with AsyncExitStack() as resources:
            session = self._peers.session(build.session_id)
            refs = self._peers.refs(session, resources)
            bound = await session.session() if session is not None and request.release_with_session else None
            job = ExportJob(
                exporter=exporter,
                index=request.id,
                vertex_digest="",  # the caller fills it in
                source=source_of(request.source, refs.ref, refs.attestation),
                build=build,
                find_output=partial(self._peers.output, session, request, exporter.creates),
                credentials=self._peers.credentials(session),
                resources=resources,
                registries=self._peers.registries(registries_of(request.build)),
                keeps_documents=True,
            )
            outcome = await self._engine.export(job, sink)
        if outcome.token and bound is not None:
            self._tokens.discard_after(outcome.token, bound.wait_closed)
        return outcome

    async def _resolve(self, exporter_type: str, attrs: Mapping[str, str]) -> Exporter:
        return await run_in_thread(self._registry.make, exporter_type, attrs)  # may import a plugin

    def _known(self, exporter_type: str) -> str:
        """The type, or a placeholder for unknown ones: clients must not create arbitrary metrics labels."""
        return exporter_type if exporter_type in self._registry.types else "unknown"


def _result_message(outcome: Outcome) -> exporter_pb2.ExportResult:
    result = outcome.result
    return exporter_pb2.ExportResult(
        response=result.response,
        descriptor=descriptor_message(result.descriptor) if result.descriptor is not None else None,
        blobs=map(document_message, outcome.documents),
        finalize_token=outcome.token,
    )
