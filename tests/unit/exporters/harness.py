"""Running exporters in tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from exporter.content.images import ImageStore
from exporter.content.layout import OCILayout
from exporter.content.memory import MemoryStore
from exporter.content.protocol import Provider
from exporter.exporters.base import ExportContext, Exporter, ExportResult
from exporter.exporters.blocking import run_export
from exporter.exporters.destinations import Output
from exporter.image import Descriptor, Time, digest_bytes
from exporter.image.keys import DIFF_ID
from exporter.progress.model import StatusUpdate
from exporter.progress.producer import VertexProgress
from exporter.source.inline import InlineRef
from exporter.source.types import BuildInfo, Layer, Ref, Source
from exporter.testing import ProgressLog

VERTEX = "sha256:" + "e" * 64


@dataclass
class Workplace:
    """The environment of an export: its stores, and the reported progress.

    Attributes:
        root: An empty directory.
        log: Takes the progress.
    """

    root: Path
    log: ProgressLog = field(default_factory=ProgressLog)

    @property
    def updates(self) -> list[StatusUpdate]:
        """Progress messages, in order."""
        return self.log.updates

    async def context(self, *, build: BuildInfo | None = None, output: Output | None = None) -> ExportContext:
        store = await OCILayout.open(self.root / "store")
        scratch = self.root / "scratch"
        scratch.mkdir(exist_ok=True)
        return ExportContext(
            build=build or BuildInfo(),
            progress=VertexProgress(self.log, VERTEX),
            store=store,
            images=ImageStore(self.root / "images", store),
            scratch=scratch,
            output=output,
        )

    async def export(
        self,
        exporter: Exporter,
        source: Source,
        *,
        build: BuildInfo | None = None,
        output: Output | None = None,
    ) -> ExportResult:
        return await run_export(exporter, source, await self.context(build=build, output=output))

    def status_ids(self) -> list[str]:
        """The pieces of work that were reported, in the order in which they began."""
        return self.log.statuses

    def unfinished(self) -> set[str]:
        """The pieces of work whose end was not reported."""
        return self.log.unfinished

    def leftovers(self) -> list[Path]:
        """Temporary files that were left behind."""
        return [path for path in self.root.rglob("*") if "ingest" in path.parts or "partial" in path.name]


@dataclass(frozen=True)
class FakeLayer:
    """A layer of a ref in tests."""

    data: bytes
    media_type: str = "application/vnd.oci.image.layer.v1.tar"
    description: str = "RUN something"
    created_at: Time | None = field(default_factory=lambda: Time.parse("2024-05-06T07:08:09.123456789Z"))
    urls: tuple[str, ...] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)

    def descriptor(self) -> Descriptor:
        # Uncompressed unless said otherwise: the diff ID is the digest.
        annotations = {DIFF_ID: digest_bytes(self.data), **self.annotations}
        return Descriptor(
            self.media_type, digest_bytes(self.data), len(self.data), self.urls, annotations=annotations
        )


def make_ref(layers: Sequence[FakeLayer], *, ref_id: str = "ref", provider: Provider | None = None) -> Ref:
    """A ref with layers in memory."""
    store = MemoryStore(*(layer.data for layer in layers))
    chain = [Layer(f"{ref_id}-{i}", layer.description, layer.created_at) for i, layer in enumerate(layers)]
    return InlineRef(ref_id, chain, [layer.descriptor() for layer in layers], provider or store)
