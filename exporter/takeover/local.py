"""Exports in this process."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Protocol

from exporter.content.threads import run_in_thread
from exporter.engine.config import WorkplaceConfig
from exporter.engine.engine import Engine, ExportJob
from exporter.engine.finalize import FinalizeStore
from exporter.engine.hooks import uses_of
from exporter.engine.limits import Admission
from exporter.engine.workplace import open_workplace
from exporter.exporters.base import Exporter
from exporter.exporters.destinations import Output
from exporter.progress.model import StatusSink
from exporter.source.types import BuildInfo, Source
from exporter.takeover.backend import Destination, Exported, RegistryAccess, Resolved
from exporter.takeover.vertex import vertex_digest

_RUNNING, _WAITING = 32, 1024
"""The limits for running and queued exports, as on a server."""

_TOKEN_SECONDS = 24 * 3600.0
"""Practically unlimited: a build always publishes or discards its exports, however long others take."""


class Maker(Protocol):
    """Makes exporters."""

    def make(self, exporter_type: str, attrs: Mapping[str, str]) -> Exporter:
        """Make the exporter for a type and attributes; see `Registry.make`."""
        ...


class _Instance:
    """A `Maker` that has one exporter."""

    def __init__(self, exporter: Exporter) -> None:
        self._exporter = exporter

    def make(self, exporter_type: str, attrs: Mapping[str, str]) -> Exporter:
        return self._exporter


class LocalBackend:
    """See `Backend`. Created by `open`.

    Args:
        registry: Makes the exporters.
        workplace: What the engine works with.
        engine: Runs them.
        tokens: Where the engine puts what is left to publish.
    """

    def __init__(
        self, registry: Maker, workplace: WorkplaceConfig, engine: Engine, tokens: FinalizeStore
    ) -> None:
        self._registry = registry
        self._workplace = workplace
        self._engine = engine
        self._tokens = tokens

    @classmethod
    @asynccontextmanager
    async def open(cls, workplace: WorkplaceConfig, registry: Maker) -> AsyncIterator[LocalBackend]:
        """Open stores and scratch space. At the end, unpublished results are dropped.

        Raises:
            FailedPreconditionError, OSError: the root is not usable.
        """
        admission, tokens = Admission(_RUNNING, _WAITING), FinalizeStore(_TOKEN_SECONDS)
        async with open_workplace(workplace, admission=admission, tokens=tokens) as opened:
            yield cls(registry, workplace, opened.engine, tokens)

    def running(self, exporter: Exporter) -> LocalBackend:
        """The backend that runs this exporter, as it is, whatever the type and attributes."""
        return LocalBackend(_Instance(exporter), self._workplace, self._engine, self._tokens)

    async def resolve(self, index: int, exporter_type: str, attrs: Mapping[str, str]) -> Resolved:
        """See `Backend.resolve`."""
        exporter = await self._exporter(exporter_type, attrs)
        await self._engine.check(exporter)
        place = self._workplace.place_of(exporter_type, attrs)
        return Resolved(exporter.name, exporter.compression, exporter.creates, place, uses_of(exporter))

    async def export(
        self,
        index: int,
        exporter_type: str,
        attrs: Mapping[str, str],
        *,
        source: Source,
        build: BuildInfo,
        destination: Destination,
        access: RegistryAccess,
        sink: StatusSink,
    ) -> Exported:
        """See `Backend.export`."""
        session_id = uuid.uuid4().hex

        async def find_output() -> Output | None:
            return destination.output

        async with AsyncExitStack() as resources:
            job = ExportJob(
                exporter=await self._exporter(exporter_type, attrs),
                index=index,
                vertex_digest=vertex_digest(session_id, index),
                source=source,
                build=replace(build, session_id=session_id),
                find_output=find_output,
                credentials=access.credentials,
                resources=resources,
            )
            outcome = await self._engine.export(job, sink)
        return Exported(outcome.result.response, outcome.token, outcome.result.descriptor)

    async def finalize(self, token: str, sink: StatusSink) -> Mapping[str, str]:
        """See `Backend.finalize`."""
        return await self._engine.finalize(token, sink)

    async def discard(self, token: str) -> None:
        """See `Backend.discard`."""
        await self._tokens.discard(token)

    async def _exporter(self, exporter_type: str, attrs: Mapping[str, str]) -> Exporter:
        return await run_in_thread(self._registry.make, exporter_type, attrs)  # may import a plugin
