"""The exporter ``squash``: an image whose own layers are merged into one, written by another type."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from exporter.errors import InvalidArgumentError
from exporter.exporters.attribute_help import ARCHIVE_ATTRIBUTES, IMAGE_ATTRIBUTES
from exporter.exporters.base import ArtifactKind, Attribute, ExportContext, Exporter, ExportResult
from exporter.exporters.registry import default_registry
from exporter.image import CompressionConfig
from exporter.image.options.attributes import COMPRESSION, COMPRESSION_LEVEL, SOURCE_DATE_EPOCH
from exporter.images import Image
from exporter.source.types import Source

__all__ = ["SquashExporter"]

_TARGETS = ("oci", "docker", "image", "registry")
_HANDED_ON = frozenset({COMPRESSION, COMPRESSION_LEVEL, SOURCE_DATE_EPOCH})


class SquashExporter(Exporter):
    """An image with one layer on top of its base image (``type=squash``).

    The layers above the base image, or above the layer that ``above`` names, become one. The type ``to``
    writes the result, with all other attributes.
    """

    type: ClassVar[str] = "squash"
    title: ClassVar[str] = "Image whose own layers are merged into one, written as another type"
    attributes: ClassVar[tuple[Attribute, ...]] = (
        Attribute("to", "enum:" + "|".join(_TARGETS), "oci", "The type that writes the image."),
        Attribute(
            "above",
            "string",
            "",
            "The layers that stay: how many of the lowest, or the digest or diff ID of the highest of them. "
            "By default, those of the base image, if the build tells; else none.",
        ),
        *{item.name: item for item in (*IMAGE_ATTRIBUTES, *ARCHIVE_ATTRIBUTES)}.values(),
    )
    artifact: ClassVar[ArtifactKind] = ArtifactKind.ARCHIVE

    def __init__(self, attrs: Mapping[str, str]) -> None:
        super().__init__(attrs)
        rest = dict(attrs)
        above, target = rest.pop("above", ""), rest.pop("to", "") or "oci"
        if target not in _TARGETS:
            raise InvalidArgumentError(f"to={target} is not one of {', '.join(_TARGETS)}", field="attrs[to]")
        if above and ":" not in above and not (above.isascii() and above.isdigit()):
            raise InvalidArgumentError(
                f"above={above} is neither a number of layers nor a digest", field="attrs[above]"
            )
        self._above = int(above) if above.isdigit() else above
        self._target = default_registry().make(target, rest)

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
        """Squash the image of each platform, and write them."""
        attrs = {key: value for key, value in self.attrs.items() if key in _HANDED_ON}
        image = await context.image(source, attrs)
        with context.progress.status("squashing layers"):
            squashed = await image.map(self._squash)
        return await context.delegate(self._target, squashed.source())

    async def _squash(self, image: Image) -> Image:
        return await image.squash(above=image.base_layers if self._above == "" else self._above)
