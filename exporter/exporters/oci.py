"""BuildKit's exporters ``oci`` and ``docker``: an image as an archive, or as an OCI layout directory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

from exporter.content.copy import copy_chain
from exporter.errors import InvalidArgumentError
from exporter.exporters.archive import plan_archive
from exporter.exporters.attribute_help import ARCHIVE_ATTRIBUTES
from exporter.exporters.base import ArtifactKind, Attribute, ExportContext, Exporter, ExportResult
from exporter.exporters.destinations import Output
from exporter.exporters.response import image_response
from exporter.exporters.sanitize import Sanitizer
from exporter.exporters.storing import store_image
from exporter.exporters.writer import CommittedImage, ImageWriter
from exporter.image import (
    ArchiveExporterOptions,
    CommitOptions,
    CompressionConfig,
    Descriptor,
    Time,
    export_epoch,
)
from exporter.image.keys import CREATED, IMAGE_NAME
from exporter.image.names import FROM_FRONTEND, normalized_names, resolve_image_name
from exporter.progress.producer import now
from exporter.source.types import Source

__all__ = ["DockerExporter", "OCIExporter"]


class OCIExporter(Exporter):
    """An image as an OCI archive or layout (``type=oci``)."""

    type: ClassVar[str] = "oci"
    title: ClassVar[str] = "OCI image archive or layout directory"
    attributes: ClassVar[tuple[Attribute, ...]] = ARCHIVE_ATTRIBUTES
    artifact: ClassVar[ArtifactKind] = ArtifactKind.ARCHIVE

    _oci_types_default: ClassVar[bool | None] = True
    _docker_manifest: ClassVar[bool] = False

    def __init__(self, attrs: Mapping[str, str]) -> None:
        super().__init__(attrs)
        self._sanitizer, rest = Sanitizer.take(attrs)
        self._options = ArchiveExporterOptions.resolve(rest)
        if self._options.commit.image_name != FROM_FRONTEND:
            normalized_names(self._options.commit.image_name)  # reject invalid names before the build

    @property
    def name(self) -> str:
        """See `Exporter.name`."""
        return f"exporting to {self.type} image format"

    @property
    def compression(self) -> CompressionConfig:
        """See `Exporter.compression`."""
        return self._options.commit.compression

    async def export(self, source: Source, context: ExportContext) -> ExportResult:
        """Write the image, and send it to the client or, without an output, put it into the image store."""
        source = source.with_metadata(self._options.meta)
        source = await self._sanitizer.apply(source, context, self.attrs)
        options = self._options.commit.for_export(
            source.metadata,
            has_attestations=bool(source.attestations),
            compatibility_version=context.build.compatibility_version,
            oci_types_default=self._oci_types_default,
        )
        image = await ImageWriter(self.type, options, context).commit(source)
        root = _with_creation_time(image.root, options, source)
        names = normalized_names(resolve_image_name(options.image_name, source.metadata))
        response = image_response(root, image.config_digest)
        if names:
            response[IMAGE_NAME] = ",".join(names)
        await context.before_publish(root, image.provider, names)
        await self._deliver(replace(image, root=root), names, response, context)
        return ExportResult(response=response, descriptor=root, provider=image.provider)

    async def _deliver(
        self, image: CommittedImage, names: Sequence[str], response: Mapping[str, str], context: ExportContext
    ) -> None:
        output = context.output
        if output is None:
            await store_image(context.store, image)
            await context.store.publish(image.root, names)
        elif self._options.tar:
            await self._send_archive(image, names, response, output, context)
        else:
            async with output.layout() as layout:
                await copy_chain(layout.store, image.provider, image.root)
                await layout.publish(image.root, tuple(names))

    async def _send_archive(
        self,
        image: CommittedImage,
        names: Sequence[str],
        response: Mapping[str, str],
        output: Output,
        context: ExportContext,
    ) -> None:
        archive = await plan_archive(
            image.provider, image.root, names, docker_manifest=self._docker_manifest, omit=context.omit
        )
        async with output.file(response) as sink:
            with context.progress.status("sending tarball", total=archive.size) as status:
                await archive.write(sink, status.advance)
                await sink.commit()


class DockerExporter(OCIExporter):
    """An image as an archive for ``docker load`` (``type=docker``)."""

    type: ClassVar[str] = "docker"
    title: ClassVar[str] = "Docker image archive, for docker load"

    _oci_types_default: ClassVar[bool | None] = None
    _docker_manifest: ClassVar[bool] = True

    async def export(self, source: Source, context: ExportContext) -> ExportResult:
        """See `OCIExporter.export`. A result that is keyed by platform is rejected."""
        if source.refs:
            raise InvalidArgumentError(
                "docker exporter does not currently support exporting manifest lists", field="source.refs"
            )
        return await super().export(source, context)


def _with_creation_time(root: Descriptor, options: CommitOptions, source: Source) -> Descriptor:
    """Add the creation time: the epoch for the whole result, if there is one, else the current time."""
    if CREATED in root.annotations:
        return root
    epoch = export_epoch(options.epoch, source.metadata)
    created = Time.from_unix(now().unix if epoch is None else epoch)
    return replace(root, annotations={**root.annotations, CREATED: str(created)})
