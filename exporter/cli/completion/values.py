"""Completions that depend on the installed exporters: types, their attributes, and the attributes' values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from click.shell_completion import CompletionItem

from exporter.cli.descriptions import describe
from exporter.cli.outputs import client_keys
from exporter.errors import NotFoundError
from exporter.exporters.base import Attribute
from exporter.exporters.registry import default_registry

_OPEN = "open"
"""The kind of a value that can be continued: the shell does not add a space."""

_TYPE = "type"
_PLUGIN = "plugin."
_BOOLEANS = ("true", "false")


def output_values(word: str) -> list[CompletionItem[str]]:
    """Complete a value of ``--output``: the type, then attributes that it does not have yet.

    Args:
        word: The incomplete value.
    """
    if '"' in word:
        return []
    head, comma, field = word.rpartition(",")
    given = dict(part.partition("=")[::2] for part in head.split(",") if part)
    key, equals, value = field.partition("=")
    start = head + comma
    if _TYPE not in given:
        if not equals:
            return [_open(f"{start}{_TYPE}=", "")] if _TYPE.startswith(key) else []
        if key == _TYPE:
            return list(_types(f"{start}{_TYPE}=", value))
        return []
    attributes = list(_attributes(given[_TYPE].removeprefix(_PLUGIN)))
    if not equals:
        return [
            _open(f"{start}{_spelling(attribute.name)}", attribute.help)
            for attribute in attributes
            if attribute.name.startswith(key) and attribute.name not in given
        ]
    start = f"{start}{key}="
    if key == "dest":
        return [_open(start + path, "") for path in _paths(value)]
    values = next((_values(attribute) for attribute in attributes if attribute.name == key), ())
    return [_open(start + item, "") for item in values if item.startswith(value)]


def type_names(word: str) -> list[CompletionItem[str]]:
    """Complete the name of a type."""
    registry = default_registry()
    return [CompletionItem(name) for name in registry.types if name.startswith(word)]


def type_lists(word: str) -> list[CompletionItem[str]]:
    """Complete a comma-separated list of types."""
    head, comma, start = word.rpartition(",")
    names = [name for name in default_registry().types if name not in head.split(",")]
    return [_open(head + comma + name, "") for name in names if name.startswith(start)]


def _open(value: str, text: str) -> CompletionItem[str]:
    return CompletionItem(value, type=_OPEN, help=text)


def _types(start: str, word: str) -> Iterator[CompletionItem[str]]:
    plugin = _PLUGIN if word.startswith(_PLUGIN) else ""
    for name in default_registry().types:
        if name.startswith(word.removeprefix(plugin)):
            yield _open(f"{start}{plugin}{name}", _title(name))


def _title(name: str) -> str:
    try:
        return default_registry().get(name).title
    except NotFoundError:
        return ""


def _attributes(name: str) -> Iterable[Attribute]:
    try:
        kind = describe(default_registry().get(name))
    except NotFoundError:
        return ()
    return (*kind.attributes, *client_keys(kind))


def _spelling(name: str) -> str:
    """An attribute with ``=``; for a family (``annotation*``), only the beginning of the name."""
    return name.removesuffix("*") if name.endswith("*") else f"{name}="


def _values(attribute: Attribute) -> Iterable[str]:
    if attribute.kind == "bool":
        return _BOOLEANS
    return attribute.kind.removeprefix("enum:").split("|") if attribute.kind.startswith("enum:") else ()


def _paths(word: str) -> Iterator[str]:
    """Files and directories whose path has this prefix."""
    directory, slash, name = word.rpartition("/")
    try:
        entries = sorted(Path(directory + slash or ".").expanduser().iterdir())
    except OSError:
        return
    for entry in entries:
        hidden = entry.name.startswith(".") and not name.startswith(".")
        if entry.name.startswith(name) and not hidden and "," not in entry.name:
            yield f"{directory}{slash}{entry.name}{'/' if entry.is_dir() else ''}"
