"""BuildKit's exporter ``tar``: the files of a build result as one tarball."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import aclosing
from typing import ClassVar

from exporter.content.threads import iterate_in_thread
from exporter.exporters.attribute_help import TAR_ATTRIBUTES
from exporter.exporters.base import ArtifactKind, Attribute, ExportContext, Exporter, ExportResult, Uses
from exporter.exporters.files.merge import in_directories
from exporter.exporters.files.source import open_files, output_of
from exporter.image import FSOptions
from exporter.layer.entry_tar import tar_pieces
from exporter.source.types import Source

__all__ = ["TarExporter"]


class TarExporter(Exporter):
    """The files of a build result as one tarball (``type=tar``).

    For a result that is keyed by platform, each platform has its own directory, regardless of
    ``platform-split``, as in BuildKit.
    """

    type: ClassVar[str] = "tar"
    title: ClassVar[str] = "Tarball of the result's files"
    attributes: ClassVar[tuple[Attribute, ...]] = TAR_ATTRIBUTES
    artifact: ClassVar[ArtifactKind] = ArtifactKind.ARCHIVE

    def __init__(self, attrs: Mapping[str, str]) -> None:
        super().__init__(attrs)
        self._options, _ = FSOptions.load(attrs)

    @property
    def name(self) -> str:
        """See `Exporter.name`."""
        return "exporting to client tarball"

    @property
    def uses(self) -> Uses:
        """See `Exporter.uses`."""
        return Uses.FILES

    async def export(self, source: Source, context: ExportContext) -> ExportResult:
        """Send the tarball to the client."""
        output = output_of(context, self.type)
        async with open_files(source, self._options, context) as platforms:
            entries = platforms[0].entries()
            if source.refs:
                entries = in_directories([(files.directory(), files.entries()) for files in platforms])
            async with output.file({}) as sink:
                with context.progress.status("sending tarball") as status:
                    async with aclosing(iterate_in_thread(tar_pieces(entries))) as pieces:
                        async for piece in pieces:
                            await sink.write(piece)
                            status.advance(len(piece))
                    await sink.commit()
        return ExportResult()
