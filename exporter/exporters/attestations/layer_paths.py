"""Listing the files in a layer."""

from __future__ import annotations

import posixpath
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from exporter.content.protocol import Provider
from exporter.image import Descriptor
from exporter.layer.gotar import TarReader
from exporter.layer.pipe import discard, run_piped
from exporter.layer.streams import Readable, Writable, drain
from exporter.layer.verifying import verified

__all__ = ["clean_path", "layer_paths"]


async def layer_paths(provider: Provider, layer: Descriptor) -> list[str]:
    """The normalised paths in a layer, including whiteouts.

    Raises:
        DataLossError: the layer does not match its descriptor.
        InvalidArgumentError: it has an unknown type, or is malformed.
        NotFoundError: it no longer exists.
    """
    with ThreadPoolExecutor(1, "list") as executor:
        return await run_piped(partial(_list, layer), provider.read(layer.digest), discard, executor)


def clean_path(path: str) -> str:
    """An absolute path with ``.`` and ``..`` resolved; ``..`` does not lead above the root."""
    return posixpath.normpath("/" + path.lstrip("/"))


def _list(layer: Descriptor, source: Readable, _: Writable) -> list[str]:
    paths = []
    with verified(source, layer) as blob:
        from exporter.layer.compression.detect import open_layer  # all codecs; few images have SBOMs

        tar = open_layer(blob, layer.media_type)
        reader = TarReader(tar)
        while (header := reader.next()) is not None:
            paths.append(clean_path(header.name.decode("utf-8", "surrogateescape")))
        drain(tar)
    return paths
