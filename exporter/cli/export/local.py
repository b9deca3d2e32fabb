"""Exporting in this process, into the embedded store."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

from exporter.cli.descriptions import ExporterDescription, describe
from exporter.cli.export.backend import Exported
from exporter.cli.export.delivery import Delivery
from exporter.cli.outputs import Output, attributes_of
from exporter.content.threads import run_in_thread
from exporter.engine.config import WorkplaceConfig
from exporter.engine.engine import Engine, ExportJob
from exporter.engine.finalize import FinalizeStore
from exporter.engine.limits import Admission
from exporter.engine.workplace import open_workplace
from exporter.exporters.base import Exporter
from exporter.exporters.registry import Registry
from exporter.progress.model import StatusSink
from exporter.source.saved.load import SavedSource

_TOKEN_SECONDS = 24 * 3600.0  # an artifact is published right after the last export, however long that takes


class LocalBackend:
    """See `Backend`. Made by `open`."""

    def __init__(self, saved: SavedSource, registry: Registry, engine: Engine) -> None:
        self._source = saved.source
        # The digests of the exports' vertices are made of it.
        self._build = replace(saved.build, session_id=uuid.uuid4().hex)
        self._registry = registry
        self._engine = engine
        self._jobs: list[tuple[Exporter, Output]] = []

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        saved: SavedSource,
        registry: Registry,
        workplace: WorkplaceConfig,
    ) -> AsyncIterator[LocalBackend]:
        """Open what exports work with; at the end, what has not been published is dropped.

        Args:
            saved: What is exported.
            registry: The types of outputs.
            workplace: What exports work with.

        Raises:
            FailedPreconditionError, OSError: the root cannot be used.
        """
        admission, tokens = Admission(running=1, waiting=0), FinalizeStore(_TOKEN_SECONDS)
        async with open_workplace(workplace, admission=admission, tokens=tokens) as opened:
            yield cls(saved, registry, opened.engine)

    async def describe(self, exporter_type: str) -> ExporterDescription:
        """See `Backend.describe`."""
        # This may import a plugin.
        return describe(await run_in_thread(self._registry.get, exporter_type))

    async def resolve(self, outputs: Sequence[Output]) -> None:
        """See `Backend.resolve`."""
        for output in outputs:
            with attributes_of(output):
                exporter = await run_in_thread(self._registry.make, output.type, output.attrs)
            self._jobs.append((exporter, output))
        for exporter, _ in self._jobs:
            await self._engine.check(exporter)

    async def export(self, index: int, sink: StatusSink) -> Exported:
        """See `Backend.export`."""
        exporter, output = self._jobs[index]
        delivery = Delivery(output.destination, sink) if output.destination is not None else None
        async with AsyncExitStack() as resources:
            job = ExportJob(
                exporter=exporter,
                index=index,
                source=self._source,
                build=self._build,
                output=delivery.output if delivery is not None else None,
                resources=resources,
            )
            outcome = await self._engine.export(job, sink)
        delivered = delivery.response if delivery is not None else {}
        return Exported({**outcome.result.response, **delivered}, outcome.token)

    async def finalize(self, index: int, token: str, sink: StatusSink) -> Mapping[str, str]:
        """See `Backend.finalize`."""
        return await self._engine.finalize(token, sink)
