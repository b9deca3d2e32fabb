"""Changing configs and manifests. Unknown keys, the order of keys and the text of unchanged values stay."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from exporter.errors import FailedPreconditionError, ImageError
from exporter.image import Descriptor, media_types
from exporter.image.go import json as gojson
from exporter.image.go.time import Time
from exporter.image.keys import INLINE_CACHE
from exporter.image.manifest import published_annotations

Fields = dict[str, Any]
"""A JSON object. Unchanged values are JSON text (`msgspec.Raw`); new ones are plain values."""

_COMMENT = "buildkit-exporter"


def fields_of(data: bytes | msgspec.Raw, what: str) -> Fields:
    """The keys of a JSON object in their original order, with JSON text as values; empty for ``null``.

    Raises:
        ImageError: it is not a JSON object.
    """
    try:
        found = msgspec.json.decode(data, type=dict[str, msgspec.Raw] | None)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ImageError(f"failed to read {what}: {error}") from error
    return dict(found or {})


def _items(data: bytes | msgspec.Raw, what: str) -> list[msgspec.Raw]:
    try:
        return msgspec.json.decode(data, type=list[msgspec.Raw] | None) or []
    except (msgspec.DecodeError, RecursionError) as error:
        raise ImageError(f"failed to read {what}: {error}") from error


def _written(value: Any) -> Any:
    """Prepare a value for `gojson.marshal`: JSON text without whitespace."""
    if isinstance(value, msgspec.Raw):
        return gojson.Verbatim(gojson.strip_blanks(value))
    if isinstance(value, Mapping):
        return {key: _written(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_written(item) for item in value]
    return value


def changed(fields: Fields, changes: Mapping[str, Any]) -> Fields:
    """Set keys; None removes one."""
    result = {**fields, **changes}
    return {key: value for key, value in result.items() if value is not None}


def edit_config(config: bytes, changes: Mapping[str, Any]) -> bytes:
    """Set keys of an image config; None removes one.

    Raises:
        ImageError: the config is not a JSON object.
    """
    return gojson.marshal(_written(changed(fields_of(config, "the config"), changes)))


def edit_runtime(config: bytes, changes: Mapping[str, Any]) -> bytes:
    """Set keys of the object ``config`` in an image config, such as ``User``; None removes one.

    Raises:
        ImageError: the config is not a JSON object.
    """
    fields = fields_of(config, "the config")
    runtime = fields_of(fields.get("config", msgspec.Raw(b"{}")), "config")
    return edit_config(config, {"config": changed(runtime, changes)})


def set_layers(config: bytes, diff_ids: Sequence[str]) -> bytes:
    """Set the diff IDs. Inline cache data is dropped, because it describes the old layers."""
    fields = fields_of(config, "the config")
    rootfs = {"type": "layers", **fields_of(fields.get("rootfs", msgspec.Raw(b"{}")), "rootfs")}
    return edit_config(config, {"rootfs": {**rootfs, "diff_ids": list(diff_ids)}, INLINE_CACHE: None})


def set_created(config: bytes, created: Time) -> bytes:
    """Set the creation time, and clamp the times in the history to it."""
    entries = [
        entry
        if (time := _time(entry)) is None or time <= created
        else {**entry, "created": created.marshal()}
        for entry in history_of(config)
    ]
    return edit_config(
        config,
        {"created": created.marshal(), **({"history": entries} if entries else {})},
    )


def history_of(config: bytes) -> list[Fields]:
    """The entries of the history, oldest first; empty if the config has no history."""
    history = fields_of(config, "the config").get("history")
    return [] if history is None else [fields_of(entry, "history") for entry in _items(history, "history")]


def split_history(entries: Sequence[Fields], layers: int, total: int) -> tuple[list[Fields], list[Fields]]:
    """Split a history after the entry of a layer.

    Args:
        entries: The entries.
        layers: The number of layers before the split.
        total: The number of all layers.

    Raises:
        FailedPreconditionError: the history has entries for more or fewer layers than there are.
    """
    filled = [index for index, entry in enumerate(entries) if not is_empty(entry)]
    if len(filled) != total:
        raise FailedPreconditionError(
            f"the history has entries for {len(filled)} layers, but the image has {total}: "
            "remove the history first"
        )
    end = 0 if layers == 0 else filled[layers - 1] + 1
    if layers and layers == total:
        end = len(entries)
    return list(entries[:end]), list(entries[end:])


def squashed_history(entries: Sequence[Fields], layers: int, total: int, created_by: str) -> list[Fields]:
    """Replace the entries of all layers above the lowest `layers` with one, at the place of the last of them.

    Entries without a layer are kept.

    Raises:
        FailedPreconditionError: see `split_history`.
    """
    kept, rest = split_history(entries, layers, total)
    last = max(index for index, entry in enumerate(rest) if not is_empty(entry))
    entry: Fields = {"created_by": created_by, "comment": _COMMENT}
    if "created" in rest[last]:
        entry = {"created": rest[last]["created"], **entry}
    return [
        *kept,
        *(old for old in rest[:last] if is_empty(old)),
        entry,
        *rest[last + 1 :],
    ]


def new_history_entry(created_by: str, created: Time | None) -> Fields:
    """Make an entry for a new layer."""
    entry: Fields = {} if created is None else {"created": created.marshal()}
    return {**entry, "created_by": created_by, "comment": _COMMENT}


def is_empty(entry: Fields) -> bool:
    """Whether a history entry has no layer."""
    value = entry.get("empty_layer", False)
    return value is True or (isinstance(value, msgspec.Raw) and bytes(value) == b"true")


def _time(entry: Fields) -> Time | None:
    value = entry.get("created")
    if not isinstance(value, msgspec.Raw) or bytes(value) == b"null":
        return None
    return Time.parse(msgspec.json.decode(value, type=str))


def annotations_of(manifest: bytes) -> dict[str, str]:
    """The annotations of a manifest."""
    found = fields_of(manifest, "the manifest").get("annotations", msgspec.Raw(b"null"))
    return msgspec.json.decode(found, type=dict[str, str] | None) or {}


def is_oci(manifest: bytes) -> bool:
    """Whether a manifest uses OCI's media types, not Docker's."""
    media_type = fields_of(manifest, "the manifest").get("mediaType", msgspec.Raw(b"null"))
    return bool(msgspec.json.decode(media_type, type=str | None) != media_types.DOCKER_MANIFEST)


def edit_manifest(
    manifest: bytes,
    *,
    config: bytes,
    config_digest: str,
    layers: Sequence[Descriptor],
    annotations: Mapping[str, str],
    oci: bool,
) -> bytes:
    """Rewrite a manifest. Layers that it already has keep their descriptors, except for media types.

    Args:
        manifest: The old manifest.
        config: The config's bytes.
        config_digest: The config's digest.
        layers: The layers, base first.
        annotations: The manifest's annotations.
        oci: Whether to use OCI's media types instead of Docker's.
    """
    fields = fields_of(manifest, "the manifest")
    old = {
        msgspec.json.decode(found["digest"], type=str): found
        for layer in _items(fields.get("layers", msgspec.Raw(b"null")), "layers")
        if "digest" in (found := fields_of(layer, "layers"))
    }
    return gojson.marshal_indent(
        _written(
            changed(
                fields,
                {
                    "mediaType": media_types.OCI_MANIFEST if oci else media_types.DOCKER_MANIFEST,
                    "config": {
                        **fields_of(fields.get("config", msgspec.Raw(b"{}")), "the manifest"),
                        "mediaType": media_types.OCI_CONFIG if oci else media_types.DOCKER_CONFIG,
                        "digest": config_digest,
                        "size": len(config),
                    },
                    "layers": [_layer(layer, old.get(layer.digest), oci=oci) for layer in layers],
                    "annotations": gojson.sort_keys(annotations) or None,
                },
            )
        )
    )


def _layer(layer: Descriptor, old: Fields | None, *, oci: bool) -> Fields:
    media_type = media_types.convert_layer_type(layer.media_type, oci=oci)
    if old is not None:
        return changed({**old, "mediaType": media_type}, {} if oci else {"annotations": None})
    published = published_annotations(layer.annotations, oci=oci)
    return Descriptor(media_type, layer.digest, layer.size, layer.urls, annotations=published).to_dict()


def map_history(config: bytes, change: Callable[[list[Fields]], list[Fields]]) -> bytes:
    """Change the history, if the config has one."""
    entries = history_of(config)
    return edit_config(config, {"history": change(entries)}) if entries else config
