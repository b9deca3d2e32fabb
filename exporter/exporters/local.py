"""BuildKit's exporter ``local``: the files of a build result in a directory of the client."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import ClassVar

from exporter.errors import InvalidArgumentError
from exporter.exporters.attribute_help import LOCAL_ATTRIBUTES
from exporter.exporters.base import ArtifactKind, Attribute, ExportContext, Exporter, ExportResult, Uses
from exporter.exporters.files.entry import FileEntry, shown
from exporter.exporters.files.merge import check_overlaps, in_directories, merged
from exporter.exporters.files.source import PlatformFiles, open_files, output_of
from exporter.image import FSOptions, LocalExporterMode
from exporter.image.options.attributes import ATTESTATION_PREFIX
from exporter.layer.tree import Kind
from exporter.progress.producer import VertexProgress
from exporter.source.types import Source

__all__ = ["LocalExporter"]

_REPORT_SECONDS = 0.1


class LocalExporter(Exporter):
    """The files of a build result in a directory (``type=local``).

    Everything is checked before the first file is sent.
    """

    type: ClassVar[str] = "local"
    title: ClassVar[str] = "Directory with the result's files"
    attributes: ClassVar[tuple[Attribute, ...]] = LOCAL_ATTRIBUTES
    artifact: ClassVar[ArtifactKind] = ArtifactKind.FILES

    def __init__(self, attrs: Mapping[str, str]) -> None:
        super().__init__(attrs)
        self._options, _ = FSOptions.load(attrs)

    @property
    def name(self) -> str:
        """See `Exporter.name`."""
        return "exporting to client directory"

    @property
    def uses(self) -> Uses:
        """See `Exporter.uses`."""
        return Uses.FILES

    async def export(self, source: Source, context: ExportContext) -> ExportResult:
        """Send the files to the client."""
        output = output_of(context, self.type)
        split = self._options.use_platform_split(is_keyed=bool(source.refs))
        async with open_files(source, self._options, context) as platforms:
            for files in platforms:
                _check_folders(files)
            if not split:
                check_overlaps({files.id: files.entries() for files in platforms})
            if self._options.mode is LocalExporterMode.DELETE:
                # In a single transfer, because it deletes everything else.
                with _transferring(context.progress, "copying files") as on_sent:
                    await output.directory(_joined(platforms, split=split), delete=True, on_sent=on_sent)
                return ExportResult()
            for files in platforms:
                label = f"copying files {files.id}" if split else "copying files"
                with _transferring(context.progress, label) as on_sent:
                    await output.directory(_joined([files], split=split), on_sent=on_sent)
        return ExportResult()


def _joined(platforms: Sequence[PlatformFiles], *, split: bool) -> Iterator[FileEntry]:
    if split:
        return in_directories([(files.directory(), files.entries()) for files in platforms])
    return merged(*(files.entries() for files in platforms))


def _check_folders(files: PlatformFiles) -> None:
    """Reject a prefix that puts attestations into missing directories, which only a tarball allows."""
    wanted = {entry.path.rpartition(b"/")[0] for entry in files.statements} - {b""}
    if not wanted:
        return
    missing = wanted - {entry.path for entry in files.entries() if entry.kind is Kind.DIRECTORY}
    if missing:
        raise InvalidArgumentError(
            f"the build result has no directory {shown(min(missing))} for its attestations",
            field=f"attrs[{ATTESTATION_PREFIX}]",
        )


@contextmanager
def _transferring(progress: VertexProgress, label: str) -> Iterator[Callable[[int], None]]:
    """Report a transfer, at most ten times per second."""
    pending = 0
    reported = time.monotonic()

    with progress.status(label, name="transferring") as status:

        def on_sent(size: int) -> None:
            nonlocal pending, reported
            pending += size
            if time.monotonic() - reported >= _REPORT_SECONDS:
                status.advance(pending)
                pending, reported = 0, time.monotonic()

        try:
            yield on_sent
        finally:
            status.advance(pending)
