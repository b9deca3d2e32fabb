"""Which files are in a layer."""

from __future__ import annotations

import posixpath
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from exporter.content.protocol import Provider
from exporter.image import Descriptor
from exporter.layer.compression.detect import open_layer
from exporter.layer.gotar import TarReader
from exporter.layer.pipe import discard, run_piped
from exporter.layer.streams import Readable, Writable, drain
from exporter.layer.verifying import verified

__all__ = ["clean_path", "layer_paths"]


async def layer_paths(provider: Provider, layer: Descriptor) -> list[str]:
    """The paths in a layer, clean, whiteouts included.

    Raises:
        DataLossError: the layer is not what its descriptor says.
        InvalidArgumentError: it is of an unknown type, or malformed.
        NotFoundError: it is gone.
    """
    with ThreadPoolExecutor(1, "list") as executor:
        return await run_piped(partial(_list, layer), provider.read(layer.digest), discard, executor)


def clean_path(path: str) -> str:
    """A path from the root, without dots; one that leads above the root ends at it."""
    return posixpath.normpath("/" + path.lstrip("/"))


def _list(layer: Descriptor, source: Readable, _: Writable) -> list[str]:
    paths = []
    with verified(source, layer) as blob:
        tar = open_layer(blob, layer.media_type)
        reader = TarReader(tar)
        while (header := reader.next()) is not None:
            paths.append(clean_path(header.name.decode("utf-8", "surrogateescape")))
        drain(tar)
    return paths
