"""Parsing the flags for attestations and annotations like buildx."""

from __future__ import annotations

import re
from collections.abc import Iterable

from exporter.cli.csvvalue import split_fields
from exporter.cli.failures import UsageError
from exporter.errors import ImageError, InvalidArgumentError
from exporter.image import Platform
from exporter.image.annotations import AnnotationType
from exporter.image.go.text import lower, parse_bool

_ANNOTATED = re.compile(r"([a-z-]+)(?:\[([A-Za-z0-9_/-]+)\])?")


def attestation_attrs(attests: Iterable[str], provenance: str | None, sbom: str | None) -> dict[str, str]:
    """Convert ``--attest``, ``--provenance`` and ``--sbom`` to attributes of the frontend.

    The first one of each type wins. Disabled ones are omitted.

    Raises:
        UsageError: a value is malformed.
    """
    texts = [("--attest", text, text) for text in attests]
    texts += [("--provenance", provenance, _with_type("provenance", provenance))] if provenance else []
    texts += [("--sbom", sbom, _with_type("sbom", sbom))] if sbom else []
    found: dict[str, str | None] = {}
    for option, written, text in texts:
        name, value = _attestation(option, written, text)
        found.setdefault(name, value)
    return {f"attest:{name}": value for name, value in found.items() if value is not None}


def annotation_attrs(texts: Iterable[str]) -> dict[str, str]:
    """Convert ``[TYPE[[PLATFORM]],...:]KEY=VALUE`` to attributes of exporters.

    Raises:
        UsageError: a value is malformed.
    """
    attrs = {}
    for text in filter(None, texts):
        where, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"--annotation: invalid annotation {text!r}, expected key=value")
        types, colon, key = where.partition(":")
        if not colon:
            attrs[f"annotation.{types}"] = value
            continue
        for name in types.split(","):
            attrs[f"annotation-{_annotated(name)}.{key}"] = value
    return attrs


def _annotated(text: str) -> str:
    match = _ANNOTATED.fullmatch(text)
    known = ", ".join(AnnotationType)
    if match is None:
        raise UsageError(
            f"--annotation: invalid annotation type {text!r}, expected type and optional platform in square "
            f"brackets; the types are {known}"
        )
    name, platform = match.groups()
    if name not in set(AnnotationType):
        raise UsageError(f"--annotation: unknown annotation type {name!r}: the types are {known}")
    if platform is None:
        return name
    try:
        parsed = Platform.parse(platform)
    except ImageError as error:
        raise UsageError(f"--annotation: invalid platform {platform!r}: {error}") from error
    # There is one index for all platforms.
    is_of_index = name in {AnnotationType.INDEX, AnnotationType.INDEX_DESCRIPTOR}
    return name if is_of_index else f"{name}[{parsed.format()}]"


def _with_type(name: str, text: str) -> str:
    try:
        return f"type={name},disabled={str(not parse_bool(text)).lower()}"
    except ImageError:
        return f"type={name},{text}"


def _attestation(option: str, written: str, text: str) -> tuple[str, str | None]:
    """Return the type, and the attribute's value or None if it is disabled."""
    name, is_disabled, attrs = "", False, {}
    try:
        fields = split_fields(text)
    except InvalidArgumentError as error:
        raise UsageError(f"{option}: {error} in {written!r}") from None
    for field in fields:
        key, equals, value = field.partition("=")
        if not equals:
            raise UsageError(
                f"{option}: invalid value {field}: write true, false, or attributes such as mode=max"
            )
        match lower(key).strip():
            case "type":
                name = value
            case "disabled":
                try:
                    is_disabled = parse_bool(value)
                except ImageError:
                    raise UsageError(f"{option}: invalid value {field}: write true or false") from None
            case _:
                attrs[key] = value
    if not name:
        raise UsageError(
            f"{option}: attestation type not specified in {written!r}: add type=sbom or type=provenance"
        )
    pairs = [f"type={name}", *(f"{key}={value}" for key, value in sorted(attrs.items()))]
    return name, None if is_disabled else ",".join(map(_quoted, pairs))


def _quoted(pair: str) -> str:
    return '"' + pair.replace('"', '""') + '"' if "," in pair or '"' in pair else pair
