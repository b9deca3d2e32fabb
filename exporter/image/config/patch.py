"""Patching an image config. The digest of the result is the image ID.

There are two implementations of `ConfigReader`: `exporter.image.config.exact` follows every rule of Go's
``encoding/json``; `exporter.image.config.ordinary` is many times faster, but rejects whatever Go itself would
not have written. This module holds what is common to both: patching a config once it has been read.
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
        members: The undecoded values by key. None if the config is JSON ``null``.
        history: The history's entries; None if the config has no history, which is not the same as an empty
            one.
        source: Whatever the reader needs to check the types of the members.
    """

    members: dict[str, msgspec.Raw] | None
    history: list[HistoryEntry[C]] | None
    source: Any = None


@dataclass(frozen=True, slots=True)
class ConfigReader(Generic[C]):
    """A way to read configs, which represents times as `C`.

    The functions raise `ImageError` with Go's text, without a prefix.

    Attributes:
        read: Reads a config and its history.
        read_base_history: Checks all of a base image's config and returns its history.
        check_image: Checks the types of all known members; returns operating system and architecture.
        stamp: Converts a `Time` to `C`.
        read_created: Reads a creation time whose type has been checked; None for ``null``.
        is_after: Whether a time is strictly after another one, which is in whole seconds.
        is_same: Whether two entries are equal in everything, including the kind of time zone.
        marshal_time: Formats a time.
        marshal_history: Returns the entries with formatted times.
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
        platform: The daemon's platform, normalised.
        path_on_windows: Whether to set ``PATH`` on Windows as well. moby does; BuildKit (#5445) does not.
    """
    config: dict[str, Any] = {"WorkingDir": "/"}
    if platform.os != "windows" or path_on_windows:
        config = {"Env": [f"PATH={_WINDOWS_PATH if platform.os == 'windows' else _UNIX_PATH}"], **config}
    image = {**platform.to_dict(), "config": config, "rootfs": _rootfs([])}
    return gojson.marshal(image)


def attestation_config(diff_ids: Sequence[str]) -> bytes:
    """The config of an attestation manifest: an image for an unknown platform with statements as layers."""
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
    """Put layers, history and creation time into a config as moby does, which checks only the history.

    Raises:
        ImageError: the config is ``null``, or a time of the history cannot be marshalled; with Go's text.
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
    """Put layers, history and creation time into a config as BuildKit does.

    Args:
        reader: The reader of `document`.
        document: The config.
        diff_ids: Digests of the uncompressed layers.
        history: The history, already fitted to the layers; its times are clamped in place.
        inline_cache: Cache metadata to embed, if any.
        epoch: Clamp times to this (Unix seconds); None leaves them alone.
        base_history: The base image's entries. Entries shared with it keep their times.

    Raises:
        ImageError: the config is malformed, or a time cannot be marshalled; with Go's text.
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
    """The time that Go computes for an epoch. The last 1969 years of the int64 range overflow, as in Go.

    Raises:
        ImageError: `seconds` is not an int64.
    """
    if not -(2**63) <= seconds < 2**63:
        raise ImageError(f"invalid source-date-epoch: {seconds} is outside of int64")
    # Go counts seconds from year 1.
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
    # ``null`` leaves the variable at its zero value in Go.
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
