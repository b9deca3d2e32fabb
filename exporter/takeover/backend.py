"""Who runs exports: this process (`takeover.local`), or a plugin server elsewhere (`takeover.plugin_server`).

The proxy, builds of ours and the command ``export`` use one or the other in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from exporter.content.protocol import ContentStore
from exporter.exporters.base import ArtifactKind, Output
from exporter.image import CompressionConfig, Descriptor
from exporter.progress.model import StatusSink
from exporter.remotes.registry import CredentialSource
from exporter.source.types import BuildInfo, Source

if TYPE_CHECKING:
    from exporter.rpc.session.attach import Attachable


@dataclass(frozen=True, slots=True)
class Resolved:
    """An exporter that can be used in this way.

    Attributes:
        name: Of the export's vertex.
        compression: How layers are wanted.
        artifact: What it makes; None if that is not known.
        image_place: Where an image goes that it stores, for people to read; empty if it stores none.
    """

    name: str
    compression: CompressionConfig
    artifact: ArtifactKind | None = None
    image_place: str = ""


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export gave.

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
    """Where the files of an export go: the same place, for either kind of backend.

    Attributes:
        output: For an exporter in this process; None if there is no place for files.
        files: For a server elsewhere: session services that take the files.
        layout: For a server elsewhere: the store for an image that goes to the client's directory; None if
            there is none.
    """

    output: Output | None = None
    files: Sequence[Attachable] = ()
    layout: ContentStore | None = None


@dataclass(frozen=True, slots=True)
class RegistryAccess:
    """Whose credentials registries are shown in an export: the same, for either kind of backend.

    Attributes:
        credentials: For an exporter in this process.
        services: For a server elsewhere: session services that give them.
    """

    credentials: CredentialSource
    services: Sequence[Attachable] = ()


class Backend(Protocol):
    """Runs exports."""

    async def resolve(self, index: int, exporter_type: str, attrs: Mapping[str, str]) -> Resolved:
        """Ask whether an exporter can be used in this way; before the build, since that may take long.

        Raises:
            ImageError, InvalidArgumentError: an attribute cannot be used.
            NotFoundError: there is no such type.
            UnavailableError: the server is out of reach.
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
            index: Of the exporter among all of the build.
            exporter_type: Its type.
            attrs: Its attributes.
            source: The result.
            build: Facts about it; its session does not count.
            destination: Where files go.
            access: Whose credentials registries are shown, until what was exported is published or discarded.
            sink: Is shown the progress, under a vertex of whatever digest.

        Raises:
            ExporterError: the export failed.
        """
        ...

    async def finalize(self, token: str, sink: StatusSink) -> Mapping[str, str]:
        """Publish what an export has made; returns response keys to add.

        Raises:
            ExporterError: publishing failed; it can be tried again.
        """
        ...

    async def discard(self, token: str) -> None:
        """Give up what an export has made: it will not be published."""
        ...
