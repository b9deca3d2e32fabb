"""The exporter ``squash``: merges the layers above the base image, and has another type write the image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from exporter.errors import InvalidArgumentError
from exporter.exporters.attribute_help import ARCHIVE_ATTRIBUTES, IMAGE_ATTRIBUTES
from exporter.exporters.base import ArtifactKind, Attribute, ExportContext, Exporter, ExportResult
from exporter.exporters.images import image_attributes
from exporter.exporters.options import option
from exporter.exporters.registry import default_registry
from exporter.image import CompressionConfig
from exporter.images import Image
from exporter.source.types import Source

__all__ = ["SquashExporter", "SquashOptions"]


@dataclass(frozen=True)
class SquashOptions:
    """The attributes of ``squash`` itself."""

    to: Literal["oci", "docker", "image", "registry"] = option(
        default="oci", help="The type that writes the image; it gets all other attributes."
    )
    above: str = option(
        default="",
        help="The layers that stay: how many of the lowest, or the digest or diff ID of the highest of them. "
        "By default, those of the base image, if the build tells; else none.",
    )


class SquashExporter(Exporter[SquashOptions]):
    """An image with one layer on top of its base image (``type=squash``).

    Merges the layers above the base image, or above the layer ``above``, into one. The type ``to`` writes the
    result, and receives all other attributes.
    """

    type: ClassVar[str] = "squash"
    title: ClassVar[str] = "Image whose own layers are merged into one, written as another type"
    attributes: ClassVar[tuple[Attribute, ...]] = tuple(
        {item.name: item for item in (*IMAGE_ATTRIBUTES, *ARCHIVE_ATTRIBUTES)}.values()
    )
    artifact: ClassVar[ArtifactKind] = ArtifactKind.ARCHIVE

    def __init__(self, attrs: Mapping[str, str]) -> None:
        super().__init__(attrs)
        above = self.options.above
        if above and ":" not in above and not (above.isascii() and above.isdigit()):
            raise InvalidArgumentError(
                f"above={above} is neither a number of layers nor a digest", field="attrs[above]"
            )
        self._above: int | str = int(above) if above.isdigit() else above
        rest = {key: value for key, value in attrs.items() if key not in {"above", "to"}}
        self._target = default_registry().make(self.options.to, rest)

    @property
    def name(self) -> str:
        """See `Exporter.name`."""
        return f"{self._target.name}, squashed"

    @property
    def compression(self) -> CompressionConfig:
        """See `Exporter.compression`."""
        return self._target.compression

    @property
    def creates(self) -> ArtifactKind:
        """See `Exporter.creates`."""
        return self._target.creates

    @property
    def needs_store(self) -> bool:
        """See `Exporter.needs_store`."""
        return self._target.needs_store

    async def export(self, source: Source, context: ExportContext) -> ExportResult:
        """Squash the image of each platform, and write the result."""
        image = await context.image(source, image_attributes(self.attrs))
        with context.progress.status("squashing layers"):
            squashed = await image.map(self._squash)
        return await context.write(squashed, self._target)

    async def _squash(self, image: Image) -> Image:
        return await image.squash(above=image.base_layers if self._above == "" else self._above)
