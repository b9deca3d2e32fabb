"""Attributes against what an exporter declares of them.

Built-in exporters say by themselves what is wrong with a value, in BuildKit's words. For others it is said
here. An attribute that nobody knows is no error, in BuildKit as here; but one that is almost the name of
another is most likely that, misspelt.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from exporter.errors import InvalidArgumentError
from exporter.exporters import attribute_help
from exporter.exporters.base import Attribute
from exporter.image import ImageError
from exporter.image.go import text as gotext

__all__ = ["check_values", "misspelt"]

_SIMILAR = 0.85
"""How alike two names are, of 1, when one may be the other, misspelt; as of `difflib`."""

_INT = re.compile(r"[+-]?[0-9]+")

_OF_CLIENTS = frozenset(
    {
        # buildctl and buildx take these off, or give them to every exporter.
        *("type", "dest", "output", "context", "load", "buildinfo", "buildinfo-attrs", "prefer-image-digest"),
        *("proxy-dest", "source-date-epoch", "attestation-prefix"),
    }
)
_OF_BUILDKIT = frozenset(
    attribute.name
    for attributes in (
        attribute_help.ARCHIVE_ATTRIBUTES,
        attribute_help.IMAGE_ATTRIBUTES,
        attribute_help.LOCAL_ATTRIBUTES,
        attribute_help.TAR_ATTRIBUTES,
    )
    for attribute in attributes
)
_KNOWN = _OF_CLIENTS | _OF_BUILDKIT
"""Attributes that mean something somewhere: one that an exporter has no use for is no slip of the pen."""


def check_values(attributes: Sequence[Attribute], attrs: Mapping[str, str]) -> None:
    """Refuse values that are not of the kinds that attributes are declared to be; empty ones are.

    Args:
        attributes: What is declared.
        attrs: What was given.

    Raises:
        InvalidArgumentError: a value is of another kind.
    """
    for attribute in attributes:
        value = attrs.get(attribute.name, "")
        if value and (problem := _problem(attribute.kind, value)):
            raise InvalidArgumentError(
                f"attribute {attribute.name}: {gotext.quote(value)} {problem}",
                field=f"attrs[{attribute.name}]",
            )


def misspelt(attributes: Sequence[Attribute], given: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Find attributes that are probably meant to be other ones.

    Args:
        attributes: What is declared.
        given: The names that were used.

    Yields:
        A name that was used, and the one that it may have been meant to be.
    """
    names = [attribute.name for attribute in attributes if not attribute.name.endswith("*")]
    families = [attribute.name.removesuffix("*") for attribute in attributes if attribute.name.endswith("*")]
    for name in sorted(given):
        if name in names or name in _KNOWN or name.startswith(tuple(families)):
            continue
        # A key such as annotation.KEY has a free part, which is no measure of likeness.
        candidates = [*names, *families]
        close = difflib.get_close_matches(re.split(r"[.\[]", name)[0], candidates, n=1, cutoff=_SIMILAR)
        close = close or difflib.get_close_matches(name, names, n=1, cutoff=_SIMILAR)
        if close:
            yield name, close[0]


def _problem(kind: str, value: str) -> str:
    match kind.partition(":")[0]:
        case "bool":
            try:
                gotext.parse_bool(value)
            except ImageError:
                return "is neither true nor false"
        case "int":
            if _INT.fullmatch(value) is None:
                return "is not a whole number"
        case "enum":
            choices = kind.partition(":")[2].split("|")
            if value not in choices:
                return f"is not one of {', '.join(choices)}"
    return ""
