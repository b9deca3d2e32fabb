"""The view of an image: its config, and its history matched to its layers. Does no I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from exporter.errors import InvalidArgumentError
from exporter.image import Descriptor, ImageError, Platform, Time
from exporter.image.config.go_types import BASE_IMAGE
from exporter.image.go import json as gojson


@dataclass(frozen=True, slots=True)
class LayerView:
    """A layer. Unknown values are empty or None.

    Attributes:
        digest: The digest of the blob.
        diff_id: The digest of the uncompressed tar.
        size: The size of the blob in bytes.
        media_type: The media type of the blob.
    """

    digest: str = ""
    diff_id: str = ""
    size: int | None = None
    media_type: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """An entry of the history, and the index of its layer; either may be missing."""

    created: Time | None = None
    created_by: str = ""
    author: str = ""
    comment: str = ""
    empty_layer: bool = False
    layer: int | None = None


@dataclass(frozen=True, slots=True)
class ImageView:
    """An image.

    Attributes:
        names: The names in the index, the archive or the frontend's result.
        manifest: The manifest's descriptor, if there is a manifest.
        config_digest: The digest of the config; for a saved source, of the config that the frontend returned.
        platform: The config's.
        created: The config's.
        author: The config's.
        runtime: The non-empty values of the config's ``config``.
        layers: The layers, base first.
        steps: The steps, in the order of the history.
        problems: Inconsistencies.
    """

    names: tuple[str, ...]
    manifest: Descriptor | None
    config_digest: str
    platform: Platform
    created: Time | None
    author: str
    runtime: Mapping[str, Any]
    layers: tuple[LayerView, ...]
    steps: tuple[Step, ...]
    problems: tuple[str, ...] = ()

    @property
    def size(self) -> int | None:
        """The size of all layers in bytes; None if a size is unknown."""
        sizes = [layer.size for layer in self.layers]
        return sum(size for size in sizes if size is not None) if None not in sizes else None


@dataclass(frozen=True, slots=True)
class ArtifactView:
    """A manifest that is not an image, such as the attestations of an image.

    Attributes:
        names: The names in the index.
        manifest: Its descriptor.
        subject: The digest of the manifest that it is about; empty if there is none.
        blobs: Its contents.
    """

    names: tuple[str, ...]
    manifest: Descriptor
    subject: str = ""
    blobs: tuple[Descriptor, ...] = ()


@dataclass(frozen=True, slots=True)
class Contents:
    """The contents of a directory or archive.

    Attributes:
        kind: What it is: ``OCI layout``, ``OCI archive``, ``Docker archive``, ``image store`` or
            ``saved source``.
        items: The images and artifacts, in the order in which they were found.
    """

    kind: str
    items: tuple[ImageView | ArtifactView, ...]


def view_image(
    names: Sequence[str],
    manifest: Descriptor | None,
    config_digest: str,
    config: bytes,
    layers: Sequence[LayerView],
) -> ImageView:
    """Build the view of an image.

    Args:
        names: Its names.
        manifest: Its manifest's descriptor, if there is one.
        config_digest: The config's digest.
        config: The config.
        layers: The layers, base first; empty diff IDs are taken from the config.

    Raises:
        InvalidArgumentError: the config is malformed.
    """
    try:
        image = gojson.decode(config, BASE_IMAGE, "Image")
    except ImageError as error:
        raise InvalidArgumentError(f"image config {config_digest}: {error}") from error
    diff_ids: list[str] = image["rootfs"]["diff_ids"] or []
    known = tuple(
        LayerView(layer.digest, layer.diff_id or _at(diff_ids, position, ""), layer.size, layer.media_type)
        for position, layer in enumerate(layers)
    )
    steps, problems = match_history(image["history"] or [], len(known))
    if diff_ids and len(diff_ids) != len(known):
        problems = (*problems, f"the config lists {len(diff_ids)} diff IDs for {len(known)} layers")
    return ImageView(
        names=tuple(names),
        manifest=manifest,
        config_digest=config_digest,
        platform=Platform.from_dict(image),
        created=image["created"],
        author=image["author"],
        runtime={
            key: value for key, value in image["config"].items() if value not in (None, "", False, {}, [])
        },
        layers=known,
        steps=steps,
        problems=problems,
    )


def match_history(
    history: Sequence[Mapping[str, Any]], layers: int
) -> tuple[tuple[Step, ...], tuple[str, ...]]:
    """Match the entries of a history that are not marked as empty to the layers, in order.

    Returns:
        The steps and the inconsistencies. Layers without an entry come last.
    """
    waiting = iter(range(layers))
    steps = [Step(**entry, layer=None if entry["empty_layer"] else next(waiting, None)) for entry in history]
    steps.extend(Step(layer=layer) for layer in waiting)
    filled = sum(not entry["empty_layer"] for entry in history)
    if history and filled != layers:
        return tuple(steps), (f"the history has {filled} entries with a layer for {layers} layers",)
    return tuple(steps), ()


def _at(items: Sequence[str], position: int, default: str) -> str:
    return items[position] if position < len(items) else default
