"""Patching an image config: the bytes that become the image's ID.

A config is read by a `ConfigReader`, of which there are two: `exporter.image.config.exact` knows every rule
of Go's ``encoding/json``; `exporter.image.config.ordinary` knows what Go itself writes, is many times faster,
and refuses all else. What is done with a config that has been read is the same, and is here.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec

from exporter.errors import ImageError
from exporter.image.go import json as gojson
from exporter.image.go.time import Time
from exporter.image.history import HistoryEntry, last_created
from exporter.image.keys import INLINE_CACHE
from exporter.image.platforms.platform import Platform

C = TypeVar("C")


_UNIX_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_WINDOWS_PATH = r"c:\Windows\System32;c:\Windows;C:\Windows\System32\WindowsPowerShell\v1.0"

_HISTORY_UNWRITABLE = "failed to marshal history: "
_CREATED_UNWRITABLE = "failed to marshal creation time: "
_TIME_UNWRITABLE = "json: error calling MarshalJSON for type *time.Time: "

_YEAR_1 = -62135596800  # Unix time of Go's zero time


@dataclass(slots=True)
class ConfigDocument(Generic[C]):
    """An image config that has been read.

    Attributes:
        members: The values by key, as they stand in the text. None if the config is JSON ``null``.
        history: The entries; None if there are none, which is not the same as an empty list.
        source: What the reader needs to check the types of the members.
    """

    members: dict[str, msgspec.Raw] | None
    history: list[HistoryEntry[C]] | None
    source: Any = None


@dataclass(frozen=True, slots=True)
class ConfigReader(Generic[C]):
    """A way to read configs, and to hold times: as `C`.

    The functions raise `ImageError` with Go's text, without a prefix.

    Attributes:
        read: Reads a config, and its history.
        read_base_history: Reads a base image's config, checks all of it, and keeps its history.
        check_image: Checks the types of all known members; returns operating system and architecture.
        stamp: Holds a time as entries do.
        read_created: Reads a time of creation whose type has been checked; None for ``null``.
        is_after: Whether a time is strictly after another one, which is in whole seconds.
        is_same: Whether two entries are equal in everything, kinds of time zones included.
        marshal_time: The text of a time.
        marshal_history: The entries with times as text.
    """

    read: Callable[[bytes], ConfigDocument[C]]
    read_base_history: Callable[[bytes], list[HistoryEntry[C]]]
    check_image: Callable[[ConfigDocument[C]], tuple[str, str]]
    stamp: Callable[[Time], C]
    read_created: Callable[[bytes], C | None]
    is_after: Callable[[C, C], bool]
    is_same: Callable[[HistoryEntry[C], HistoryEntry[C]], bool]
    marshal_time: Callable[[C], str]
    marshal_history: Callable[[list[HistoryEntry[C]]], list[HistoryEntry[str]]]


def default_config(platform: Platform, *, path_on_windows: bool) -> bytes:
    """The config of an image for which the build result has none.

    Args:
        platform: The daemon's; normalised.
        path_on_windows: Whether ``PATH`` is set on Windows, too: moby does it, BuildKit (#5445) does not.
    """
    config: dict[str, Any] = {"WorkingDir": "/"}
    if platform.os != "windows" or path_on_windows:
        config = {"Env": [f"PATH={_WINDOWS_PATH if platform.os == 'windows' else _UNIX_PATH}"], **config}
    image = {**platform.to_dict(), "config": config, "rootfs": _rootfs([])}
    return gojson.marshal(image)


def attestation_config(diff_ids: Sequence[str]) -> bytes:
    """The config of an attestation manifest: an image for no platform, whose layers are the statements."""
    return gojson.marshal(
        {"architecture": "unknown", "os": "unknown", "config": {}, "rootfs": _rootfs(diff_ids)}
    )


def patch_moby(
    reader: ConfigReader[C],
    document: ConfigDocument[C],
    diff_ids: Sequence[str],
    history: list[HistoryEntry[C]] | None,
    inline_cache: bytes | None,
) -> bytes:
    """Put layers, history and time of creation into a config as moby does, which checks only the history.

    Raises:
        ImageError: the config is ``null``, or a time of the history cannot be written; with Go's text.
    """
    if document.members is None:
        raise ImageError("null image config")
    return _write(reader, document.members, diff_ids, history, inline_cache)


def patch_buildkit(
    reader: ConfigReader[C],
    document: ConfigDocument[C],
    diff_ids: Sequence[str],
    history: list[HistoryEntry[C]] | None,
    inline_cache: bytes | None,
    *,
    epoch: int | None,
    base_history: list[HistoryEntry[C]],
) -> bytes:
    """Put layers, history and time of creation into a config as BuildKit does.

    Args:
        reader: What has read the config.
        document: The config.
        diff_ids: Digests of the uncompressed layers.
        history: Fitted to the layers; its times are clamped in place.
        inline_cache: Cache metadata to embed, if any.
        epoch: What times are clamped to (Unix seconds), if at all.
        base_history: Entries of the base image, whose times are left alone.

    Raises:
        ImageError: the config is malformed, or a time cannot be written; with Go's text.
    """
    try:
        os, architecture = reader.check_image(document)
    except ImageError as error:
        raise ImageError(f"invalid image config for export: {error}") from error
    members = document.members
    if members is None:
        raise ImageError("invalid null image config for export")
    for name, value in ("os", os), ("architecture", architecture):
        if not value:
            raise ImageError(f"invalid image config for export: missing {name}")
    clamped = None
    if epoch is not None:
        latest = reader.stamp(epoch_time(epoch))
        _clamp_history(reader, history or [], base_history, latest)
        if "created" in members and _is_created_after(reader, bytes(members["created"]), latest):
            clamped = latest
    return _write(reader, members, diff_ids, history, inline_cache, clamped)


def epoch_time(seconds: int) -> Time:
    """The time that Go makes of an epoch; the last 1969 years of what an int64 can name wrap around.

    Raises:
        ImageError: `seconds` is not an int64.
    """
    if not -(2**63) <= seconds < 2**63:
        raise ImageError(f"invalid source-date-epoch: {seconds} is outside of int64")
    # Go counts from year 1.
    internal = (seconds - _YEAR_1 + 2**63) % 2**64 - 2**63
    return Time.from_unix(internal + _YEAR_1)


def _clamp_history(
    reader: ConfigReader[C],
    history: list[HistoryEntry[C]],
    base_history: list[HistoryEntry[C]],
    epoch: C,
) -> None:
    kept = 0
    while kept < min(len(history), len(base_history)) and reader.is_same(history[kept], base_history[kept]):
        kept += 1
    for entry in history[kept:]:
        if entry.created is None or reader.is_after(entry.created, epoch):
            entry.created = epoch


def _is_created_after(reader: ConfigReader[C], raw: bytes, epoch: C) -> bool:
    created = reader.read_created(raw)
    # ``null`` leaves Go's variable at its zero value.
    return reader.is_after(reader.stamp(Time.from_unix(_YEAR_1)) if created is None else created, epoch)


def _write(
    reader: ConfigReader[C],
    members: dict[str, msgspec.Raw],
    diff_ids: Sequence[str],
    history: list[HistoryEntry[C]] | None,
    inline_cache: bytes | None,
    clamped: C | None = None,
) -> bytes:
    patched: dict[str, Any] = {"rootfs": _rootfs(diff_ids)}
    try:
        patched["history"] = None if history is None else reader.marshal_history(history)
    except ImageError as error:
        raise ImageError(f"{_HISTORY_UNWRITABLE}{_TIME_UNWRITABLE}{error}") from error
    if clamped is not None or "created" not in members:
        created = last_created(history) if clamped is None else clamped
        try:
            patched["created"] = None if created is None else reader.marshal_time(created)
        except ImageError as error:
            raise ImageError(f"{_CREATED_UNWRITABLE}{_TIME_UNWRITABLE}{error}") from error
    if inline_cache is not None:
        patched[INLINE_CACHE] = base64.b64encode(inline_cache).decode()
    for key, value in members.items():
        if key not in patched:
            patched[key] = gojson.Verbatim(gojson.strip_blanks(value))
    return gojson.marshal(gojson.sort_keys(patched))


def _rootfs(diff_ids: Sequence[str]) -> dict[str, Any]:
    return {"type": "layers", "diff_ids": list(diff_ids) or None}
