"""The references in manifests and indexes, read as containerd reads them."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from exporter.content.verify import split_digest
from exporter.errors import InvalidArgumentError
from exporter.image import Descriptor, ImageError
from exporter.image.go import json as gojson
from exporter.image.media_types import INDEX_TYPES, MANIFEST_TYPES
from exporter.image.platforms.platform import PLATFORM_TYPE

_DESCRIPTOR = gojson.Struct(
    "v1.Descriptor",
    {
        "mediaType": gojson.String(),
        "digest": gojson.String("digest.Digest"),
        "size": gojson.Int64("int64"),
        "urls": gojson.Slice(gojson.String()),
        "annotations": gojson.Map(gojson.String()),
        "data": gojson.String(),
        "platform": gojson.Pointer(PLATFORM_TYPE),
        "artifactType": gojson.String(),
    },
)
_DOCUMENT = gojson.Struct(
    "v1.Manifest",
    {
        "mediaType": gojson.String(),
        "config": gojson.Pointer(_DESCRIPTOR),
        "layers": gojson.Slice(_DESCRIPTOR),
        "manifests": gojson.Slice(_DESCRIPTOR),
        "fsLayers": gojson.Raw(),
    },
)

# An export parses its manifest when it writes, stores and publishes it.
_REMEMBERED, _REMEMBERED_BYTES = 128, 64 << 10

# containerd's rule, which is wider than the list of known types.
_NONDISTRIBUTABLE_PREFIXES = (
    "application/vnd.oci.image.layer.nondistributable.",
    "application/vnd.docker.image.rootfs.foreign.",
)


def is_parent(descriptor: Descriptor) -> bool:
    """Whether the blob references others: a manifest or an index, of OCI or Docker."""
    return descriptor.media_type in MANIFEST_TYPES or descriptor.media_type in INDEX_TYPES


def must_not_be_distributed(descriptor: Descriptor) -> bool:
    """Whether a layer has to be fetched from its own URLs. Pushes skip it, and stores may lack it."""
    return descriptor.media_type.startswith(_NONDISTRIBUTABLE_PREFIXES)


def decode_descriptor(data: bytes) -> Descriptor:
    """Read the JSON text of a descriptor.

    Raises:
        ImageError: it is not a descriptor.
    """
    value = gojson.decode(data, _DESCRIPTOR, "Descriptor")
    return Descriptor.from_dict(value)


def children(descriptor: Descriptor, data: bytes) -> tuple[Descriptor, ...]:
    """The references of a blob: the config and the layers of a manifest, the manifests of an index.

    Any other blob has no children. A ``subject`` is not followed, as in containerd.

    Args:
        descriptor: The blob's descriptor.
        data: The blob, already verified.

    Raises:
        InvalidArgumentError: the blob does not match its media type, or a descriptor in it is malformed.
    """
    try:
        is_small = len(data) <= _REMEMBERED_BYTES
        if descriptor.media_type in MANIFEST_TYPES:
            return (_manifest_children if is_small else _manifest_children.__wrapped__)(data)
        if descriptor.media_type in INDEX_TYPES:
            return (_index_children if is_small else _index_children.__wrapped__)(data)
    except (ImageError, InvalidArgumentError) as error:
        raise InvalidArgumentError(f"{descriptor.media_type} {descriptor.digest}: {error}") from error
    return ()


def gc_labels(references: Iterable[Descriptor]) -> dict[str, str]:
    """The labels that protect a blob's children from containerd's garbage collector.

    The collector follows every label with the prefix ``containerd.io/gc.ref.content.``. The suffix is neither
    a bare number, as in BuildKit, nor ``l.`` and a number, as in containerd, because ``ctr content prune
    references`` removes such labels: it assumes that layers can be pulled again, which is not true of a
    build's layers. With bare numbers, it would even remove those of an index's manifests.
    """
    return {
        f"containerd.io/gc.ref.content.part.{index}": descriptor.digest
        for index, descriptor in enumerate(references)
    }


@lru_cache(_REMEMBERED)
def _manifest_children(data: bytes) -> tuple[Descriptor, ...]:
    document = gojson.decode(data, _DOCUMENT, "Manifest")
    _check_schema(document)
    # Reject ambiguous documents: a tool that checks one as a manifest must not be fooled about the index.
    if document["manifests"] is not None or document["mediaType"] in INDEX_TYPES:
        raise ImageError("expected a manifest but found an index")
    if document["config"] is None:
        raise ImageError("config is missing")
    layers = document["layers"] or []
    return (
        _child("config", document["config"]),
        *(_child(f"layers[{index}]", layer) for index, layer in enumerate(layers)),
    )


@lru_cache(_REMEMBERED)
def _index_children(data: bytes) -> tuple[Descriptor, ...]:
    document = gojson.decode(data, _DOCUMENT, "Index")
    _check_schema(document)
    is_manifest = document["config"] is not None or document["layers"] is not None
    if is_manifest or document["mediaType"] in MANIFEST_TYPES:
        raise ImageError("expected an index but found a manifest")
    manifests = document["manifests"] or []
    return tuple(_child(f"manifests[{index}]", manifest) for index, manifest in enumerate(manifests))


def _check_schema(document: dict[str, Any]) -> None:
    if document["fsLayers"]:
        raise ImageError("schema 1 is not supported")


def _child(where: str, value: dict[str, Any]) -> Descriptor:
    try:
        child = Descriptor.from_dict(value)
        split_digest(child.digest)
    except (ImageError, InvalidArgumentError) as error:
        raise ImageError(f"{where}: {error}") from error
    return child
