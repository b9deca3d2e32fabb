"""An image's config and manifest, as moby and BuildKit compute them from a build result."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec

from exporter.errors import ImageError
from exporter.image import media_types
from exporter.image.config.exact import EXACT
from exporter.image.config.go_types import BASE_IMAGE
from exporter.image.config.ordinary import ORDINARY, NotOrdinaryError
from exporter.image.config.patch import (
    ConfigDocument,
    ConfigReader,
    default_config,
    patch_buildkit,
    patch_moby,
)
from exporter.image.descriptor import Descriptor, DescriptorObject, descriptor_dict, read_descriptors
from exporter.image.digest import digest_bytes
from exporter.image.go import json as gojson
from exporter.image.go.time import Time
from exporter.image.history import History, HistoryEntry, LayerMetadata, fit_history
from exporter.image.keys import DIFF_ID
from exporter.image.manifest import manifest_bytes, published_annotations
from exporter.image.platforms.platform import Platform, host_platform

C = TypeVar("C")

READERS: tuple[ConfigReader[Any], ...] = (ORDINARY, EXACT)
"""The config readers, tried in this order. The last one can read every config."""


@dataclass(frozen=True, slots=True)
class BuildkitImage:
    """An image as BuildKit exports it.

    Attributes:
        config: The config's bytes.
        manifest: The manifest's bytes.
        config_digest: The config's digest, which is the image ID.
        manifest_digest: The manifest's digest, by which a registry identifies the image.
        oci_mediatypes: Whether the image has OCI's media types instead of Docker's.
    """

    config: bytes
    manifest: bytes
    config_digest: str
    manifest_digest: str
    oci_mediatypes: bool
    _layers: list[DescriptorObject] = field(repr=False)
    _annotations: list[dict[str, str]] = field(repr=False)

    @property
    def config_descriptor(self) -> Descriptor:
        """The descriptor of the config."""
        return Descriptor(_config_type(self.oci_mediatypes), self.config_digest, len(self.config))

    @property
    def manifest_descriptor(self) -> Descriptor:
        """The descriptor of the manifest, without annotations or platform."""
        media_type = media_types.OCI_MANIFEST if self.oci_mediatypes else media_types.DOCKER_MANIFEST
        return Descriptor(media_type, self.manifest_digest, len(self.manifest))

    @property
    def layers(self) -> list[dict[str, Any]]:
        """The layers' descriptors: media types are converted, annotations are all kept."""
        return [
            descriptor_dict(msgspec.structs.replace(layer, annotations=annotations))
            for layer, annotations in zip(self._layers, self._annotations, strict=True)
        ]


def _config_type(oci: bool) -> str:
    return media_types.OCI_CONFIG if oci else media_types.DOCKER_CONFIG


def moby_config(
    config_bytes: bytes,
    diff_ids: Sequence[str],
    chain: Sequence[LayerMetadata] | None,
    inline_cache: bytes | None = None,
    *,
    host: Platform | None = None,
) -> bytes:
    """Compute the image config that moby's exporter writes. Its digest is the image ID.

    Args:
        config_bytes: The config from the build result; empty if it has none.
        diff_ids: Digests of the uncompressed layers, base first.
        chain: Metadata of the layers, base first. None if the result has no ref.
        inline_cache: Cache metadata to embed.
        host: The platform of an image without a config; that of the running machine if None.

    Raises:
        ImageError: where moby returns an error; with its text.
        LayerChainError: where moby panics because the chain is too short for the layers.
    """
    data = config_bytes or default_config((host or host_platform()).normalized(), path_on_windows=True)

    def compute(reader: ConfigReader[C]) -> bytes:
        document = _read(reader, data)
        history = fit_history(document.history, len(diff_ids), chain, reader.stamp)
        return patch_moby(reader, document, diff_ids, history, inline_cache)

    return _with_first_capable_reader(compute)


def buildkit_image(
    config_bytes: bytes,
    descriptors: Sequence[Mapping[str, Any]],
    chain: Sequence[LayerMetadata] | None,
    oci_mediatypes: bool = True,
    epoch: int | None = None,
    base_config: bytes | None = None,
    inline_cache: bytes | None = None,
    manifest_annotations: Mapping[str, str] | None = None,
    *,
    host: Platform | None = None,
) -> BuildkitImage:
    """Compute the config and the manifest that BuildKit's exporter writes.

    Args:
        config_bytes: The config from the build result; empty if it has none.
        descriptors: The layers' OCI descriptors as JSON objects, base first. The annotation
            ``containerd.io/uncompressed`` is a layer's diff ID.
        chain: Metadata of the layers, base first. None if the result has no ref.
        oci_mediatypes: Whether to use OCI's media types instead of Docker's.
        epoch: Clamp times to this (Unix seconds); None leaves them alone.
        base_config: The base image's config. History entries that it shares with the image keep their times.
        inline_cache: Cache metadata to embed.
        manifest_annotations: Annotations for the manifest.
        host: The platform of an image without a config; that of the running machine if None.

    Raises:
        ImageError: where BuildKit returns an error; with its text. Also if a descriptor is malformed.
        LayerChainError: where BuildKit panics because the chain is too short for the layers.
    """
    data = config_bytes or default_config((host or host_platform()).normalized(), path_on_windows=False)
    layers = read_descriptors(descriptors)
    annotations = [layer.annotations for layer in layers]
    for layer in layers:
        layer.media_type = media_types.convert_layer_type(layer.media_type, oci=oci_mediatypes)
        layer.annotations = published_annotations(layer.annotations, oci=oci_mediatypes)
    diff_ids = [internal.get(DIFF_ID, "") for internal in annotations]

    def compute(reader: ConfigReader[C]) -> bytes:
        base_history = _read_base_history(reader, base_config)
        document = _read(reader, data)
        history = fit_history(document.history, len(layers), chain, reader.stamp)
        return patch_buildkit(
            reader, document, diff_ids, history, inline_cache, epoch=epoch, base_history=base_history
        )

    config = _with_first_capable_reader(compute)
    config_digest = digest_bytes(config)
    manifest = manifest_bytes(
        DescriptorObject(_config_type(oci_mediatypes), config_digest, len(config)),
        layers,
        oci=oci_mediatypes,
        annotations=manifest_annotations,
    )
    return BuildkitImage(
        config, manifest, config_digest, digest_bytes(manifest), oci_mediatypes, layers, annotations
    )


def parse_history(config_bytes: bytes) -> tuple[History, ...] | None:
    """Read the history of an image config.

    Returns:
        The entries, oldest first; None if the config has no history.

    Raises:
        ImageError: the config is not JSON, or its history is malformed; with BuildKit's text.
    """
    return _typed(_read(EXACT, config_bytes).history)


def diff_ids_of(config_bytes: bytes) -> tuple[str, ...]:
    """The diff IDs in a base image's config, read as BuildKit reads it.

    Raises:
        ImageError: Go cannot decode the config.
    """
    diff_ids: list[str] | None = gojson.decode(config_bytes, BASE_IMAGE, "DockerOCIImage")["rootfs"][
        "diff_ids"
    ]
    return tuple(diff_ids or ())


def fitted_history(
    config_bytes: bytes, layers: int, chain: Sequence[LayerMetadata] | None
) -> tuple[History, ...] | None:
    """The history that an image gets, before times are clamped.

    Args:
        config_bytes: The config from the build result; empty if it has none.
        layers: The number of layers.
        chain: Metadata of the layers, base first. None if the result has no ref.

    Raises:
        ImageError: as `parse_history` does.
        LayerChainError: the chain is too short for the layers.
    """
    history = _read(EXACT, config_bytes).history if config_bytes else None
    return _typed(fit_history(history, layers, chain, EXACT.stamp))


def _with_first_capable_reader(compute: Callable[[ConfigReader[Any]], bytes]) -> bytes:
    *others, last = READERS
    for reader in others:
        try:
            return compute(reader)
        except NotOrdinaryError:
            continue
    return compute(last)


def _read(reader: ConfigReader[C], data: bytes) -> ConfigDocument[C]:
    try:
        return reader.read(data)
    except ImageError as error:
        raise ImageError(f"failed to unmarshal history from config: {error}") from error


def _read_base_history(reader: ConfigReader[C], data: bytes | None) -> list[HistoryEntry[C]]:
    if not data:
        return []
    try:
        return reader.read_base_history(data)
    except ImageError as error:
        raise ImageError(f"failed to unmarshal base image config: {error}") from error


def _typed(history: list[HistoryEntry[Time]] | None) -> tuple[History, ...] | None:
    if history is None:
        return None
    return tuple(
        History(entry.created, entry.created_by, entry.author, entry.comment, entry.empty_layer)
        for entry in history
    )
