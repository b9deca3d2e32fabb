"""The built-in types that store or push an image, as far as their attributes tell before the build."""

from __future__ import annotations

from collections.abc import Mapping

from exporter.image import ImageExporterOptions
from exporter.image.options.attributes import PUSH

__all__ = ["pushes_image", "stores_image"]


def stores_image(exporter_type: str, attrs: Mapping[str, str]) -> bool:
    """Whether an export with one of the built-in types puts an image into a store.

    Raises:
        AttributeValueError: an attribute is invalid.
    """
    match exporter_type:
        case "squash":
            return stores_image(attrs.get("to", ""), attrs)
        case "image" | "registry":
            return ImageExporterOptions.resolve(attrs).store
        case "moby":
            return True
        case _:
            return False


def pushes_image(exporter_type: str, attrs: Mapping[str, str]) -> bool:
    """Whether an export of one of the built-in types pushes an image that has a name.

    Raises:
        AttributeValueError: an attribute cannot be used.
    """
    match exporter_type:
        case "squash":
            return pushes_image(attrs.get("to", ""), attrs)
        case "image":
            return ImageExporterOptions.resolve(attrs).push
        case "registry":
            return ImageExporterOptions.resolve({PUSH: "true", **attrs}).push
        case _:
            return False
