"""Backends run exports: in this process (`takeover.local`), or on a plugin server (`takeover.plugin_server`).

The proxy, our own builds and the command ``export`` use both in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from exporter.content.protocol import ContentStore
from exporter.exporters.base import ArtifactKind, Uses
from exporter.exporters.destinations import Output
from exporter.image import CompressionConfig, Descriptor
from exporter.progress.model import StatusSink
from exporter.remotes.registry import CredentialSource
from exporter.source.types import BuildInfo, Source

if TYPE_CHECKING:
    from exporter.rpc.session.attach import Attachable


@dataclass(frozen=True, slots=True)
class Resolved:
    """An exporter whose attributes have been validated.

    Attributes:
        name: The name of the export's vertex.
        compression: The compression of layers.
        artifact: The kind of artifact that it creates; None if unknown.
        image_place: A description of where it stores images; empty if it does not store any.
        uses: What it uses of the build result.
    """

    name: str
    compression: CompressionConfig
    artifact: ArtifactKind | None = None
    image_place: str = ""
    uses: Uses = Uses.ALL


@dataclass(frozen=True, slots=True)
class Exported:
    """The result of an export.

    Attributes:
        response: BuildKit's response keys.
        token: For `Backend.finalize`; empty if there is nothing to publish.
        descriptor: The root of the artifact, if it is an image.
    """

    response: Mapping[str, str]
    token: str = ""
    descriptor: Descriptor | None = None


@dataclass(frozen=True, slots=True)
class Destination:
    """The destination of an export's files, in a form for each kind of backend.

    Attributes:
        output: For an exporter in this process; None if there is no destination for files.
        files: For a plugin server: session services that receive the files.
        layout: For a plugin server: the store for an image that goes to the client's directory, if any.
    """

    output: Output | None = None
    files: Sequence[Attachable] = ()
    layout: ContentStore | None = None


@dataclass(frozen=True, slots=True)
class RegistryAccess:
    """The credentials for registries in an export, in a form for each kind of backend.

    Attributes:
        credentials: For an exporter in this process.
        services: For a plugin server: session services that provide them.
    """

    credentials: CredentialSource
    services: Sequence[Attachable] = ()


class Backend(Protocol):
    """Runs exports."""

    async def resolve(self, index: int, exporter_type: str, attrs: Mapping[str, str]) -> Resolved:
        """Validate an exporter's type and attributes before the build, which may take long.

        Raises:
            ImageError, InvalidArgumentError: an attribute is invalid.
            NotFoundError: the type does not exist.
            UnavailableError: the server is not reachable.
        """
        ...

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
        """Export a build result.

        Args:
            index: The index of the exporter among all exporters of the build.
            exporter_type: Its type.
            attrs: Its attributes.
            source: The result.
            build: Facts about the build; its session is ignored.
            destination: The destination for files.
            access: The credentials for registries, used until the results are published or discarded.
            sink: Receives the progress. The digest of the vertex is arbitrary.

        Raises:
            ExporterError: the export failed.
        """
        ...

    async def finalize(self, token: str, sink: StatusSink) -> Mapping[str, str]:
        """Publish an export's results, and return additional response keys.

        Raises:
            ExporterError: publishing failed. It can be retried.
        """
        ...

    async def discard(self, token: str) -> None:
        """Discard an export's results, which will not be published."""
        ...
