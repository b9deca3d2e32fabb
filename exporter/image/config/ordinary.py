"""The fast config reader: it handles configs that look as if Go had written them, as nearly all do.

What this reader accepts, it reads exactly as Go does. It rejects everything that it is not sure about, and
the caller falls back to `exporter.image.config.exact`. The parser is msgspec, written in C. Its rules for
syntax, keys, ``null`` and types are stricter than Go's, with two gaps that this module closes: it accepts
duplicate keys, and it does not know that Go matches keys case-insensitively.

Times are kept as text in Go's canonical form. Only times in UTC are accepted, so that texts compare and sort
like the times themselves.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import msgspec

from exporter.errors import ImageError
from exporter.image.config.patch import ConfigDocument, ConfigReader
from exporter.image.go import json as gojson
from exporter.image.go.time import VALID_UTC, Time, trim_fraction
from exporter.image.history import HistoryEntry


class NotOrdinaryError(Exception):
    """This module is not sure to read the config, or a time in it, as Go would."""


_Strings = list[str | None] | None
_Set = dict[str, dict[str, msgspec.Raw] | None] | None
_Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)] | None
_Unchecked = msgspec.Raw


class _RootFS(msgspec.Struct, forbid_unknown_fields=True):
    type: str | None = None
    diff_ids: _Strings = None


class _Healthcheck(msgspec.Struct, forbid_unknown_fields=True, rename="pascal"):
    test: _Strings = None
    interval: _Int64 = None
    timeout: _Int64 = None
    start_period: _Int64 = None
    start_interval: _Int64 = None
    retries: _Int64 = None


class _CommonConfig(msgspec.Struct, forbid_unknown_fields=True, rename="pascal"):
    user: str | None = None
    exposed_ports: _Set = None
    env: _Strings = None
    entrypoint: _Strings = None
    cmd: _Strings = None
    volumes: _Set = None
    working_dir: str | None = None
    labels: dict[str, str | None] | None = None
    stop_signal: str | None = None
    args_escaped: bool | None = None
    # Docker also writes these; BuildKit ignores them.
    attach_stderr: _Unchecked = _Unchecked()
    attach_stdin: _Unchecked = _Unchecked()
    attach_stdout: _Unchecked = _Unchecked()
    domainname: _Unchecked = _Unchecked()
    hostname: _Unchecked = _Unchecked()
    image: _Unchecked = _Unchecked()
    open_stdin: _Unchecked = _Unchecked()
    stdin_once: _Unchecked = _Unchecked()
    tty: _Unchecked = _Unchecked()


class _Config(_CommonConfig, forbid_unknown_fields=True, rename="pascal"):
    healthcheck: _Unchecked = _Unchecked()
    on_build: _Unchecked = _Unchecked()
    shell: _Unchecked = _Unchecked()


class _BaseConfig(_CommonConfig, forbid_unknown_fields=True, rename="pascal"):
    healthcheck: _Healthcheck | None = None
    on_build: _Strings = None
    shell: _Strings = None


_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_history = msgspec.json.Decoder(list[HistoryEntry[str]] | None).decode
_decode_string = msgspec.json.Decoder(str | None).decode

# Type checks for the known members; the history is read separately.
_CHECKS: dict[str, Callable[[msgspec.Raw], Any]] = {
    "created": _decode_string,
    "author": _decode_string,
    "architecture": _decode_string,
    "os": _decode_string,
    "os.version": _decode_string,
    "os.features": msgspec.json.Decoder(_Strings).decode,
    "variant": _decode_string,
    "config": msgspec.json.Decoder(_Config | None).decode,
    "rootfs": msgspec.json.Decoder(_RootFS | None).decode,
}
_BASE_CHECKS = {**_CHECKS, "config": msgspec.json.Decoder(_BaseConfig | None).decode}
_KNOWN_KEYS = frozenset({*_CHECKS, "history"})

_TIMES = re.compile(rf"(?:{VALID_UTC}\n)*+", re.ASCII)
_MAX_OPENERS = 5000
"""The maximum number of arrays and objects outside of the history. msgspec's depth limit depends on the
Python version, and Go's is a different one; below this number, neither limit is reached. The history's depth
is bounded by its type."""

_REFUSED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def _read(data: bytes) -> ConfigDocument[str]:
    try:
        members = _read_members(data)
        return ConfigDocument(members, _read_history(members))
    except _REFUSED as error:
        raise NotOrdinaryError from error


def _read_members(data: bytes) -> dict[str, msgspec.Raw]:
    members = _decode_members(data)
    # Counting takes longer than reading. Fewer bytes than that need not be counted.
    if len(data) - len(members.get("history", b"")) > _MAX_OPENERS:
        others = (bytes(raw) for key, raw in members.items() if key != "history")
        if sum(raw.count(b"[") + raw.count(b"{") for raw in others) > _MAX_OPENERS:
            raise NotOrdinaryError
    if _compact_size(members) != len(data):
        # Whitespace, duplicate keys or escaped keys. Without whitespace, only the latter two still differ.
        data = gojson.strip_blanks(data)
        members = _decode_members(data)
        if _compact_size(members) != len(data):
            raise NotOrdinaryError
    if not members.keys() <= _KNOWN_KEYS and any(
        gojson.fold(key) in _KNOWN_KEYS for key in members.keys() - _KNOWN_KEYS
    ):
        raise NotOrdinaryError
    return members


def _compact_size(members: dict[str, msgspec.Raw]) -> int:
    """The length of an object with these members, written without whitespace and with unescaped keys."""
    # Quotes, colon and comma for each member; two braces; no comma after the last.
    overhead = 4 * len(members) + 1 if members else 2
    return sum(map(len, members.values())) + len("".join(members).encode()) + overhead


def _read_history(members: Mapping[str, msgspec.Raw]) -> list[HistoryEntry[str]] | None:
    raw = members.get("history")
    if raw is None:
        return None
    history: list[HistoryEntry[str]] | None = _decode_history(raw)
    if history is None:
        return None
    # If re-encoding the entries gives the same bytes, HTML escapes aside, then there are no duplicate keys.
    encoded, written = msgspec.json.encode(history), bytes(raw)
    if encoded != written and gojson.escape_html(encoded) != gojson.escape_html(written):
        raise NotOrdinaryError
    times = "".join([f"{entry.created}\n" for entry in history if entry.created is not None])
    if not _TIMES.fullmatch(times):
        raise NotOrdinaryError
    if "0Z\n" in times:
        for entry in history:
            if entry.created is not None:
                entry.created = trim_fraction(entry.created)
    return history


def _read_base_history(data: bytes) -> list[HistoryEntry[str]]:
    try:
        members = _read_members(data)
        history = _read_history(members)
        _check(members, _BASE_CHECKS)
    except _REFUSED as error:
        raise NotOrdinaryError from error
    return history or []


def _check_image(document: ConfigDocument[str]) -> tuple[str, str]:
    try:
        values = _check(document.members or {}, _CHECKS)
    except _REFUSED as error:
        raise NotOrdinaryError from error
    return values.get("os") or "", values.get("architecture") or ""


def _check(
    members: Mapping[str, msgspec.Raw], checks: Mapping[str, Callable[[msgspec.Raw], Any]]
) -> dict[str, Any]:
    values = {key: checks[key](raw) for key, raw in members.items() if key in checks}
    created = values.get("created")
    if created is not None and not _TIMES.fullmatch(f"{created}\n"):
        raise NotOrdinaryError
    return values


def _stamp(time: Time) -> str:
    try:
        text = time.marshal()
    except ImageError as error:
        raise NotOrdinaryError from error
    if time.has_location:
        raise NotOrdinaryError
    return text


def _read_created(raw: bytes) -> str | None:
    created = _decode_string(raw)
    return None if created is None else trim_fraction(created)


def _is_after(created: str, epoch: str) -> bool:
    # The Z would sort after the dot of a fraction. The epoch has no fraction.
    return created[:-1] > epoch[:-1]


ORDINARY = ConfigReader(
    read=_read,
    read_base_history=_read_base_history,
    check_image=_check_image,
    stamp=_stamp,
    read_created=_read_created,
    is_after=_is_after,
    is_same=lambda entry, base: entry == base,
    marshal_time=lambda created: created,
    marshal_history=lambda history: history,
)
