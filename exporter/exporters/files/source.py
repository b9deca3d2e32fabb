"""A build result as files: the common part of the exporters ``tar`` and ``local``.

Rules and error texts are those of BuildKit's ``exporter/local`` and ``exporter/tar``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from exporter.content.concurrency import gather
from exporter.errors import FailedPreconditionError, InvalidArgumentError
from exporter.exporters.base import ExportContext
from exporter.exporters.destinations import Output
from exporter.exporters.files.entry import FileEntry, shown
from exporter.exporters.files.merge import merged
from exporter.exporters.files.opening import Entries, open_entries
from exporter.exporters.files.ref import adjusted, epoch_nanoseconds
from exporter.exporters.files.statements import statement_entries
from exporter.exporters.result_refs import check_mapping, find_ref
from exporter.image import FSOptions, ResultPlatform, export_epoch, parse_platforms
from exporter.image.options.attributes import ATTESTATION_PREFIX
from exporter.layer.tree import Kind
from exporter.progress.producer import now
from exporter.source.types import Ref, Source

__all__ = ["PlatformFiles", "open_files", "output_of"]

_SECOND = 10**9
_DIRECTORY_MODE = 0o755


@dataclass(frozen=True, slots=True)
class PlatformFiles:
    """The files of one platform of a build result.

    Attributes:
        id: The platform's ID.
        files: The ref's files; None if there is no ref.
        statements: The attestations' files, in order.
        epoch: Seconds since 1970 to set all modification times to; None for no epoch.
    """

    id: str
    files: Entries | None
    statements: Sequence[FileEntry]
    epoch: int | None

    def entries(self) -> Iterator[FileEntry]:
        """All files. The file of an attestation hides one with the same path."""
        hidden = frozenset(entry.path for entry in self.statements)
        return merged(_ref_entries(self.files, self.epoch, hidden), self.statements)

    def directory(self) -> FileEntry:
        """The directory of the platform, for outputs with a directory per platform."""
        path = self.id.replace("/", "_").encode("utf-8", "surrogateescape")
        mtime = epoch_nanoseconds(self.epoch)
        return FileEntry(path=path, kind=Kind.DIRECTORY, mode=_DIRECTORY_MODE, mtime=mtime)


@asynccontextmanager
async def open_files(
    source: Source, options: FSOptions, context: ExportContext
) -> AsyncIterator[list[PlatformFiles]]:
    """Open the files of all platforms (at least one), until the block ends.

    Raises:
        InvalidArgumentError: the parts of the source are inconsistent, or attestations are invalid; with
            BuildKit's text.
        ImageError: metadata or attestations cannot be read; with BuildKit's text.
        NotFoundError: a ref or a layer no longer exists.
        DataLossError: a layer does not match its descriptor.
    """
    export_epoch(options.epoch, source.metadata)  # reports an invalid epoch before anything else
    platforms = _platforms(source)
    refs = [find_ref(source, platform) for platform in platforms]
    time = now().unix * _SECOND
    async with AsyncExitStack() as stack:
        trees = await gather(_open(ref, context, stack) for ref in refs)
        yield [
            await _platform_files(source, platform, files, options, context, time)
            for platform, files in zip(platforms, trees, strict=True)
        ]


def _platforms(source: Source) -> Sequence[ResultPlatform]:
    check_mapping(source)
    platforms = parse_platforms(source.metadata)
    if not source.refs and len(platforms) > 1:
        raise InvalidArgumentError("unable to export multiple platforms without map", field="source.metadata")
    return platforms


async def _open(ref: Ref | None, context: ExportContext, stack: AsyncExitStack) -> Entries | None:
    if ref is None:
        return None
    files = open_entries(ref, context.scratch, context.max_content_bytes)
    return await stack.enter_async_context(files)


async def _platform_files(
    source: Source,
    platform: ResultPlatform,
    files: Entries | None,
    options: FSOptions,
    context: ExportContext,
    time: int,
) -> PlatformFiles:
    epoch = export_epoch(options.epoch, source.metadata, platform.id)
    is_keyed = bool(source.refs)
    shares_directory = is_keyed and not options.use_platform_split(is_keyed=is_keyed)
    statements = await statement_entries(
        source.attestations.get(platform.id, ()),
        _ref_entries(files, epoch),
        prefix=options.attestation_prefix,
        platform=platform.id if shares_directory else "",
        mtime=time if epoch is None else epoch_nanoseconds(epoch),
        scratch=context.scratch,
    )
    exported = PlatformFiles(platform.id, files, statements, epoch)
    _check_hidden(exported)
    return exported


def _ref_entries(
    files: Entries | None, epoch: int | None, hidden: frozenset[bytes] = frozenset()
) -> Iterator[FileEntry]:
    return iter(()) if files is None else adjusted(files(), epoch=epoch, hidden=hidden)


def _check_hidden(files: PlatformFiles) -> None:
    """Reject an attestation that would hide a directory, whose files would then have no parent."""
    names = {entry.path for entry in files.statements}
    if not names:
        return
    for entry in _ref_entries(files.files, files.epoch):
        folder = entry.path.rpartition(b"/")[0]
        if folder in names:
            raise InvalidArgumentError(
                f"attestation {shown(folder)} has the name of a directory: choose another prefix",
                field=f"attrs[{ATTESTATION_PREFIX}]",
            )


def output_of(context: ExportContext, exporter_type: str) -> Output:
    """The client's output, which is the only possible destination of files.

    Raises:
        FailedPreconditionError: the client accepts no files.
    """
    if context.output is None:
        raise FailedPreconditionError(
            f"the {exporter_type} exporter sends files to the client, but no client accepts them: "
            "specify a destination there"
        )
    return context.output
