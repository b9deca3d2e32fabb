"""The exporter ``report``: a page about the image of a build."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

from exporter.errors import InvalidArgumentError
from exporter.exporters.base import ArtifactKind, ExportResult
from exporter.exporters.blocking import BlockingContext, BlockingExporter
from exporter.exporters.options import option
from exporter.exporters.report.contents import Contents
from exporter.exporters.report.page import ImageReport, Step, render
from exporter.exporters.report.statements import read_statements
from exporter.images import ImageLayer
from exporter.layer import Header, TarReader, drain
from exporter.source import Source

__all__ = ["ReportExporter", "ReportOptions"]


@dataclass(frozen=True)
class ReportOptions:
    """The attributes of ``report``."""

    title: str = option(default="", help="The page's title. The default is the image's name, or its digest.")
    name: str = option(default="", help="The name of the image, for the title.")
    top: int = option(default=20, help="How many files each list shows at most.")
    timings: bool = option(
        default=True,
        help="Show how long the steps of this export took. Without it, the same build gives the same page.",
    )

    def __post_init__(self) -> None:
        if self.top < 1:
            raise InvalidArgumentError("top must be at least 1", field="attrs[top]")


class ReportExporter(BlockingExporter[ReportOptions]):
    """One HTML file about an image (``type=report``).

    It shows the layers by size beside their history, the largest files, those that later layers hide, the
    configuration, and the attestations. It contains no script, and refers to no other file or host.
    """

    type: ClassVar[str] = "report"
    title: ClassVar[str] = "HTML page about the image: layers, files, hidden files, history, attestations"
    artifact: ClassVar[ArtifactKind] = ArtifactKind.ARCHIVE

    @property
    def name(self) -> str:
        """See `Exporter.name`."""
        return "exporting a report"

    def export(self, source: Source, context: BlockingContext) -> ExportResult:
        """Read all layers once, and write the page."""
        clock = _Clock()
        with clock.step("creating the image"):
            image = context.image(source)
        reports = []
        for platform_id, one in image.images.items():
            contents = Contents()
            for index, layer in enumerate(one.layers, 1):
                label = f"reading layer {index} of {len(one.layers)} {platform_id}".rstrip()
                with clock.step(label), context.progress.status(label):
                    _read(layer, contents, context)
            with clock.step(f"reading attestations {platform_id}".rstrip()):
                attestations = source.attestations.get(platform_id, ())
                statements = context.wait(read_statements(attestations, context.scratch))
            reports.append(ImageReport(str(one.platform), one, contents, statements))
        title = self.options.title or self.options.name or f"Image {_short(image.digest)}"
        hidden = sum(report.contents.hidden_size for report in reports)
        response = {
            "report.files.size": str(sum(report.contents.size for report in reports)),
            "report.hidden.size": str(hidden),
        }
        steps = clock.steps if self.options.timings else []
        with context.file(response) as file:
            for piece in render(title, reports, steps, top=self.options.top):
                file.write(piece)
        return ExportResult(response=response)


def _read(layer: ImageLayer, contents: Contents, context: BlockingContext) -> None:
    with context.open(layer.open(uncompressed=True)) as blob:
        contents.add_layer(_headers(TarReader(blob)))
        drain(blob)  # to the end, where it is verified


def _headers(reader: TarReader) -> Iterator[Header]:
    while (header := reader.next()) is not None:
        yield header


def _short(digest: str) -> str:
    return digest.partition(":")[2][:12]


class _Clock:
    """Measures steps one after the other."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self.steps: list[Step] = []

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        begin = time.monotonic()
        yield
        self.steps.append(Step(name, begin - self._start, time.monotonic() - begin))
