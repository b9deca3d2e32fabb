"""Checking attributes against those that an exporter declares.

Built-in exporters report invalid values themselves, with BuildKit's texts; this module does it for plugins.
As in BuildKit, an unknown attribute is not an error. But if its name is similar to that of another attribute,
it is probably a typo.
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
"""The `difflib` ratio (0 to 1) from which a name counts as a typo of another."""

_INT = re.compile(r"[+-]?[0-9]+")

_OF_CLIENTS = frozenset(
    {
        # buildctl and buildx consume these, or pass them to every exporter.
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
"""Attributes that exist in some exporter or client. They are not typos, even if an exporter ignores them."""


def check_values(attributes: Sequence[Attribute], attrs: Mapping[str, str]) -> None:
    """Check that values have the declared kinds. Empty values always pass.

    Args:
        attributes: The declared attributes.
        attrs: The given attributes.

    Raises:
        InvalidArgumentError: a value has the wrong kind.
    """
    for attribute in attributes:
        value = attrs.get(attribute.name, "")
        if value and (problem := _problem(attribute.kind, value)):
            raise InvalidArgumentError(
                f"attribute {attribute.name}: {gotext.quote(value)} {problem}",
                field=f"attrs[{attribute.name}]",
            )


def misspelt(attributes: Sequence[Attribute], given: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Find attributes whose names are probably typos.

    Args:
        attributes: The declared attributes.
        given: The given names.

    Yields:
        A given name, and the name that was probably meant.
    """
    names = [attribute.name for attribute in attributes if not attribute.name.endswith("*")]
    families = [attribute.name.removesuffix("*") for attribute in attributes if attribute.name.endswith("*")]
    for name in sorted(given):
        if name in names or name in _KNOWN or name.startswith(tuple(families)):
            continue
        # In a key such as annotation.KEY, only compare the part before the user's own text.
        candidates = {**{name: name for name in names}, **{item.rstrip("."): item for item in families}}
        close = difflib.get_close_matches(re.split(r"[.\[]", name)[0], candidates, n=1, cutoff=_SIMILAR)
        close = close or difflib.get_close_matches(name, names, n=1, cutoff=_SIMILAR)
        if close:
            yield name, candidates[close[0]]


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
