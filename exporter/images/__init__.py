"""Images as values: made from a build result, to read and to change.

`Image` is immutable: a change returns a new image with correct digests, diff IDs and history. Config and
manifest keep their bytes until something in them changes. Nothing here depends on exporters or destinations.
"""

from __future__ import annotations

from exporter.images.files import ImageFiles
from exporter.images.image import Image, ImageRef
from exporter.images.index import ImageIndex
from exporter.images.layer import ImageLayer
from exporter.images.origin import ImageOrigin, Workshop
from exporter.images.reading import read_image
from exporter.images.writing import LayerContent, write_layer

__all__ = [
    "Image",
    "ImageFiles",
    "ImageIndex",
    "ImageLayer",
    "ImageOrigin",
    "ImageRef",
    "LayerContent",
    "Workshop",
    "read_image",
    "write_layer",
]
