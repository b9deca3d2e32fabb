"""An image as it is shown: its config, and its history beside its layers. Pure."""

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
    """A layer. What nobody knows is empty, or None.

    Attributes:
        digest: Of the blob.
        diff_id: Of the uncompressed tar.
        size: Bytes of the blob.
        media_type: Of the blob.
    """

    digest: str = ""
    diff_id: str = ""
    size: int | None = None
    media_type: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """An entry of the history, and the index of the layer that it made; one of the two may be missing."""

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
        names: As the index, the archive or the frontend has them.
        manifest: None if there is none (yet).
        config_digest: Of the config; of a saved source that of the config as the frontend gave it.
        platform: The config's.
        created: The config's.
        author: The config's.
        runtime: The config's ``config``, as far as it says something.
        layers: Base first.
        steps: In the order of the history.
        problems: What does not fit together.
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
        """Bytes of all layers; None if a size is not known."""
        sizes = [layer.size for layer in self.layers]
        return sum(size for size in sizes if size is not None) if None not in sizes else None


@dataclass(frozen=True, slots=True)
class ArtifactView:
    """A manifest that is no image, such as the attestations of one.

    Attributes:
        names: As the index has them.
        manifest: Its descriptor.
        subject: Digest of the manifest that it is about; empty if it is about none.
        blobs: Its contents.
    """

    names: tuple[str, ...]
    manifest: Descriptor
    subject: str = ""
    blobs: tuple[Descriptor, ...] = ()


@dataclass(frozen=True, slots=True)
class Contents:
    """What was found in a place.

    Attributes:
        kind: What the place is: ``OCI layout``, ``OCI archive``, ``Docker archive``, ``image store`` or
            ``saved source``.
        items: In the order in which they were found.
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
    """Make an image's view out of its parts.

    Args:
        names: Its names.
        manifest: Its manifest's descriptor, if there is one.
        config_digest: The config's digest.
        config: The config.
        layers: Base first; where the diff ID is empty, the config's is taken.

    Raises:
        InvalidArgumentError: the config is none.
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
    """Find the entries of a history that made the layers: those not marked as empty, in order.

    Returns:
        The steps, and what does not fit. Layers without an entry come last.
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
