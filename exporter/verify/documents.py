"""Reading JSON documents, and validating them against schemas.

The schemas contain what the specifications require (MUST, REQUIRED), but not what they recommend. We use
jsonschema because it reports all errors in a document, and where they are.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Iterator
from importlib import resources
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker
from jsonschema.exceptions import ValidationError
from jsonschema.protocols import Validator
from referencing import Registry, Resource

from exporter.image import ImageError, Time
from exporter.verify.report import Finding

_MOST_FINDINGS = 20
_LONGEST_VALUE = 80
_ADVICE = "the tool that wrote this document does not follow the specification: recreate it"
# Go writes null for a list without elements.
_LISTS = frozenset({"layers", "diff_ids", "manifests", "subject"})

_formats = FormatChecker(formats=())


@_formats.checks("date-time", raises=ImageError)
def _is_time(value: object) -> bool:
    return not isinstance(value, str) or Time.parse(value) is not None


def parse_document(data: bytes) -> tuple[dict[str, Any] | None, list[Finding]]:
    """Read the JSON text of an object.

    Members that are null are dropped, as Go does.

    Returns:
        The object, or None if the text is not an object; and what is wrong or unusual about the text.
    """
    repeated: list[str] = []

    def to_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        members = dict(pairs)
        if len(members) < len(pairs):
            keys = [key for key, _ in pairs]
            repeated.extend(key for key in members if keys.count(key) > 1)
        return members

    try:
        document = json.loads(data, object_pairs_hook=to_object, parse_constant=_refuse_constant)
        nulls: list[str] = []
        if isinstance(document, dict):
            document = _without_nulls(document, "", nulls)
    except ValueError as error:
        return None, [Finding(f"it is not JSON: {error}", _ADVICE)]
    except RecursionError:
        return None, [Finding("it is nested too deeply", _ADVICE)]
    if not isinstance(document, dict):
        return None, [Finding(f"it is {_kind(document)}, not an object", _ADVICE)]
    findings = [
        Finding(
            f"duplicate key {_show(key)} in an object",
            "tools disagree about which value counts: keep only one",
            is_problem=False,
        )
        for key in repeated
    ]
    if nulls:
        places = ", ".join(nulls[:_MOST_FINDINGS])
        advice = "Go reads and writes it like this, but other tools may reject it"
        findings.append(Finding(f"null instead of a value: {places}", advice, is_problem=False))
    return document, findings[:_MOST_FINDINGS]


def schema_findings(document: dict[str, Any], schema: str) -> list[Finding]:
    """Validate a document against a schema.

    Args:
        document: The result of `parse_document`.
        schema: ``index``, ``manifest``, ``config``, ``layout`` or ``statement``.
    """
    errors = sorted(_validator(schema).iter_errors(document), key=lambda error: list(map(str, error.path)))
    # jsonschema reports each missing member separately; we report all those of an object in one finding.
    return list(dict.fromkeys(map(_finding, errors)))[:_MOST_FINDINGS]


def _finding(error: ValidationError) -> Finding:
    title = error.schema.get("title") if isinstance(error.schema, dict) else None
    instance: Any = error.instance
    rule: Any = error.validator_value
    value = _show(instance)
    match error.validator:
        case "required":
            missing = [name for name in rule if name not in instance]
            what = f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing"
        case "type":
            what = f"{_kind(instance)} instead of {title or rule}"
        case "pattern" | "format":
            what = f"{value} is not a valid {title}"
        case "const":
            what = f"{value} instead of {_show(rule)}"
        case "enum":
            what = f"{value} is not one of {', '.join(map(_show, rule))}"
        case "minimum" | "maximum":
            what = f"{value} is out of range"
        case "minLength" | "minProperties":
            what = "it is empty"
        case _:
            what = error.message[:_LONGEST_VALUE]
    return Finding(what, _ADVICE, path_of(error.absolute_path))


def path_of(parts: Iterable[str | int]) -> str:
    """A place in a document: ``layers[1].size``."""
    text = ""
    for part in parts:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".")


@functools.cache
def _validator(schema: str) -> Validator:
    registry: Registry[Any] = Registry().with_resources(
        (f"{name}.json", Resource.from_contents(contents)) for name, contents in _schemas()
    )
    contents = dict(_schemas())[schema]
    return Draft202012Validator(contents, registry=registry, format_checker=_formats)


@functools.cache
def _schemas() -> tuple[tuple[str, dict[str, Any]], ...]:
    directory = resources.files("exporter.verify") / "schemas"
    files = [entry for entry in directory.iterdir() if entry.name.endswith(".json")]
    return tuple((entry.name.removesuffix(".json"), json.loads(entry.read_bytes())) for entry in files)


def _without_nulls(value: dict[str, Any], where: str, nulls: list[str]) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for key, item in value.items():
        place = f"{where}.{key}".removeprefix(".")
        if item is None:
            nulls.append(place)
            if key in _LISTS:
                kept[key] = []
        else:
            kept[key] = _item_without_nulls(item, place, nulls)
    return kept


def _item_without_nulls(item: Any, place: str, nulls: list[str]) -> Any:
    if isinstance(item, dict):
        return _without_nulls(item, place, nulls)
    if isinstance(item, list):
        return [_item_without_nulls(each, f"{place}[{index}]", nulls) for index, each in enumerate(item)]
    return item


def _refuse_constant(text: str) -> Iterator[None]:
    raise ValueError(f"{text} is not a JSON value")


def _show(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}…"


def _kind(value: object) -> str:
    names = {
        bool: "a boolean",
        int: "a number",
        float: "a number",
        str: "a string",
        list: "a list",
        dict: "an object",
    }
    return names.get(type(value), "null")
