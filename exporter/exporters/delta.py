"""The exporter ``delta``: an archive without the layers that a base image has already brought."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from exporter.errors import FailedPreconditionError, InvalidArgumentError
from exporter.exporters.attribute_help import ARCHIVE_ATTRIBUTES
from exporter.exporters.base import ArtifactKind, Attribute, ExportContext, Exporter, ExportResult
from exporter.exporters.images import image_attributes
from exporter.exporters.options import option
from exporter.exporters.registry import default_registry
from exporter.image import CompressionConfig
from exporter.images import Image, ImageIndex
from exporter.source.types import Source

__all__ = ["DeltaExporter", "DeltaOptions"]

_TAR = "tar"


@dataclass(frozen=True)
class DeltaOptions:
    """The attributes of ``delta`` itself."""

    base: str = option(help="The image that the receiver has: its name in a registry.")
    to: Literal["oci", "docker"] = option(
        default="oci", help="The type that writes the archive; it gets all other attributes."
    )
    base_insecure: bool = option(
        default=False, help="Allow plain HTTP and unverified TLS for the registry of the base."
    )


class DeltaExporter(Exporter[DeltaOptions]):
    """An image archive without the layers of a base image (``type=delta``).

    Manifest and config are those of the whole image, and so is its digest. For ``to=oci``, the archive leaves
    out the blobs that the base has. For ``to=docker``, it leaves out the lowest layers that are also the
    base's lowest, as Docker engines know layers by what is below them.
    """

    type: ClassVar[str] = "delta"
    title: ClassVar[str] = "Image archive without the layers of a base image"
    attributes: ClassVar[tuple[Attribute, ...]] = tuple(
        attribute for attribute in ARCHIVE_ATTRIBUTES if attribute.name != _TAR
    )
    artifact: ClassVar[ArtifactKind] = ArtifactKind.ARCHIVE

    def __init__(self, attrs: Mapping[str, str]) -> None:
        super().__init__(attrs)
        if attrs.get(_TAR, "true") != "true":
            raise InvalidArgumentError(
                "tar: delta writes an archive; type=oci,tar=false adds to a layout what it does not have",
                field="attrs[tar]",
            )
        own = {"base", "base-insecure", "to"}
        rest = {key: value for key, value in attrs.items() if key not in own}
        self._target = default_registry().make(self.options.to, rest)

    @property
    def name(self) -> str:
        """See `Exporter.name`."""
        return f"{self._target.name}, without the layers of {self.options.base}"

    @property
    def compression(self) -> CompressionConfig:
        """See `Exporter.compression`."""
        return self._target.compression

    async def export(self, source: Source, context: ExportContext) -> ExportResult:
        """Write the archive."""
        if context.output is None:
            raise InvalidArgumentError("delta writes a file: give it a dest", field="attrs[dest]")
        image = await context.image(source, image_attributes(self.attrs))
        name = self.options.base
        with context.progress.status(f"resolving {name}"):
            async with context.pull(name, insecure=self.options.base_insecure) as base:
                omitted = self._omitted(image, base)
                digest = base.digest
        layers = {layer.digest: layer.size for one in image.images.values() for layer in one.layers}
        count = len(omitted & layers.keys())
        size = sum(layers[key] for key in omitted & layers.keys())
        context.progress.log(f"{count} of {len(layers)} layers are in {name}: {size} bytes are left out\n")
        result = await context.delegate(self._target, source, omit=omitted)
        response = {"delta.base": f"{name}@{digest}", "delta.omitted.layers": str(count)}
        return ExportResult(
            response={**result.response, **response, "delta.omitted.bytes": str(size)},
            descriptor=result.descriptor,
            finalize=result.finalize,
        )

    def _omitted(self, image: Image | ImageIndex, base: Image | ImageIndex) -> frozenset[str]:
        """The digests of the layers that the receiver has."""
        if self.options.to == "oci":
            return frozenset(layer.digest for one in base.images.values() for layer in one.layers)
        omitted: set[str] = set()
        for one in image.images.values():
            same = [other for other in base.images.values() if other.platform == one.platform]
            if not same:
                raise FailedPreconditionError(
                    f"{self.options.base} has no image for {one.platform.format_all()}", field="attrs[base]"
                )
            for layer, lower in zip(one.layers, same[0].layers, strict=False):
                if layer.diff_id != lower.diff_id:
                    break
                omitted.add(layer.digest)
        return frozenset(omitted)
