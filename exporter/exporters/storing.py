"""Copying images into stores, with labels for their layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from exporter.content.copy import copy_chain
from exporter.content.protocol import ContentStore
from exporter.exporters.writer import CommittedImage
from exporter.image import Descriptor
from exporter.image.keys import DIFF_ID, DISTRIBUTION_SOURCE_PREFIX

__all__ = ["distribution_sources", "store_image"]


async def store_image(store: ContentStore, image: CommittedImage) -> None:
    """Copy an image with everything that it references; see `copy_chain`.

    In stores with labels, layers get the same labels as in a daemon: their diff ID, and the repositories that
    have them, so that a later push can mount them.
    """
    labels = _annotations(
        image.layers, lambda key: key == DIFF_ID or key.startswith(DISTRIBUTION_SOURCE_PREFIX)
    )
    await copy_chain(store, image.provider, image.root, labels=labels)


def distribution_sources(layers: Sequence[Descriptor]) -> dict[str, dict[str, str]]:
    """The repositories that have the layers according to their annotations, by digest."""
    return _annotations(layers, lambda key: key.startswith(DISTRIBUTION_SOURCE_PREFIX))


def _annotations(layers: Sequence[Descriptor], wanted: Callable[[str], bool]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for layer in layers:
        some = {key: value for key, value in layer.annotations.items() if value and wanted(key)}
        if some:
            found.setdefault(layer.digest, {}).update(some)
    return found
