"""The config reader that follows every rule of Go's ``encoding/json`` and accepts any config Go accepts."""

from __future__ import annotations

from typing import Any

import msgspec

from exporter.image.config.go_types import BASE_IMAGE, HISTORY_OF_CONFIG, IMAGE
from exporter.image.config.patch import ConfigDocument, ConfigReader
from exporter.image.go import json as gojson
from exporter.image.go.time import Time
from exporter.image.history import HistoryEntry


def _read(data: bytes) -> ConfigDocument[Time]:
    root = gojson.parse(data)
    history = gojson.decode_node(data, root, HISTORY_OF_CONFIG)["History"]
    members = None
    if root.kind == "object":
        # Of duplicate keys, the last value wins.
        members = {
            key: msgspec.Raw(data[node.start : node.end])
            for key, node in zip(root.keys, root.items, strict=True)
        }
    return ConfigDocument(members, None if history is None else _entries(history), (data, root))


def _read_base_history(data: bytes) -> list[HistoryEntry[Time]]:
    return _entries(gojson.decode(data, BASE_IMAGE, "DockerOCIImage")["history"] or [])


def _check_image(document: ConfigDocument[Time]) -> tuple[str, str]:
    data, root = document.source
    image = gojson.decode_node(data, root, IMAGE, "Image")
    return image["os"], image["architecture"]


def _entries(history: list[dict[str, Any]]) -> list[HistoryEntry[Time]]:
    return [HistoryEntry(**entry) for entry in history]


def _read_created(raw: bytes) -> Time | None:
    return gojson.decode(raw, gojson.Timestamp())


def _is_same(entry: HistoryEntry[Time], base: HistoryEntry[Time]) -> bool:
    if entry.created is None or base.created is None:
        return entry == base
    return entry == base and entry.created.identical(base.created)


def _marshal_history(history: list[HistoryEntry[Time]]) -> list[HistoryEntry[str]]:
    return [
        HistoryEntry(
            created=None if entry.created is None else entry.created.marshal(),
            created_by=entry.created_by,
            author=entry.author,
            comment=entry.comment,
            empty_layer=entry.empty_layer,
        )
        for entry in history
    ]


EXACT = ConfigReader(
    read=_read,
    read_base_history=_read_base_history,
    check_image=_check_image,
    stamp=lambda time: time,
    read_created=_read_created,
    is_after=lambda created, epoch: created > epoch,
    is_same=_is_same,
    marshal_time=Time.marshal,
    marshal_history=_marshal_history,
)
