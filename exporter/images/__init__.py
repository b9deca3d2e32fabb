"""Images as values: what a build result becomes, read and changed without touching the original.

`Image` is immutable: a change gives another image with right digests, diff IDs and history. Bytes stay as
they are until something in them changes. Nothing here knows where an image goes, or what an exporter is.
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
