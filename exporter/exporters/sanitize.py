"""Attributes that change what an image reveals: history, labels, environment, user, time.

All image types have them; BuildKit's do not. ``set-label`` and ``set-env`` take the name in the value,
because clients convert the keys of attributes to lower case.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from exporter.exporters.base import Attribute, ExportContext
from exporter.exporters.options import OptionSpec, option
from exporter.image import History, ImageError, Time
from exporter.source.types import Source

if TYPE_CHECKING:
    from exporter.images import Image

__all__ = ["SANITIZE_ATTRIBUTES", "Sanitizer"]

_SHELLS = ("/bin/sh -c ", "cmd /S /C ", "powershell -Command ")
_ARGUMENTS = re.compile(r"(RUN )?\|[0-9]+ .*", re.DOTALL)
_ARG = re.compile(r"(ARG [A-Za-z_][A-Za-z0-9_]*)=.*", re.DOTALL)
_REMOVED = "(removed)"


@dataclass(frozen=True)
class Sanitizer:
    """The changes to make in an image."""

    strip_history: Literal["none", "args", "all"] = option(
        default="none", help="Remove the values of build arguments from the history, or the whole history."
    )
    set_label: dict[str, str] = option(
        default_factory=dict,
        name="set-label*",
        help="set-label[.ANYTHING]=KEY=VALUE sets a label.",
    )
    unset_label: list[str] = option(default_factory=list, help="Labels to remove.")
    set_env: dict[str, str] = option(
        default_factory=dict,
        name="set-env*",
        help="set-env[.ANYTHING]=NAME=VALUE sets an environment variable.",
    )
    unset_env: list[str] = option(default_factory=list, help="Environment variables to remove.")
    set_user: str = option(default="", help="The user that containers run as.")
    set_created: str = option(
        default="",
        help="When the image was created: RFC 3339, or seconds since 1970. Later times in its history are "
        "clamped to that.",
    )

    def __post_init__(self) -> None:
        for attribute, values in (("set-label", self.set_label), ("set-env", self.set_env)):
            for value in values.values():
                if value.find("=") < 1:
                    raise ValueError(f"{attribute}={value}: write {attribute}=NAME=VALUE")
        if self.set_created:
            self._created()

    @classmethod
    def take(cls, attrs: Mapping[str, str]) -> tuple[Sanitizer, dict[str, str]]:
        """Read the attributes.

        Returns:
            The sanitizer, and all other attributes.

        Raises:
            InvalidArgumentError: a value is invalid.
        """
        sanitizer: Sanitizer = _SPEC.parse(attrs)
        names = tuple(field.name.removesuffix("*") for field in _SPEC.fields if field.name.endswith("*"))
        own = {field.name for field in _SPEC.fields}
        rest = {key: value for key, value in attrs.items() if key not in own and not key.startswith(names)}
        return sanitizer, rest

    async def apply(self, source: Source, context: ExportContext, attrs: Mapping[str, str]) -> Source:
        """Change the images of a build result.

        Args:
            source: The build result.
            context: The export's context.
            attrs: The attributes of the export.

        Raises:
            ImageError, InvalidArgumentError: the image cannot be computed. The messages are BuildKit's.
        """
        if self == Sanitizer():
            return source
        from exporter.exporters.images import image_attributes  # slow, and rarely needed

        image = await context.image(source, image_attributes(attrs))
        return (await image.map(self.change)).source()

    def change(self, image: Image) -> Image:
        """Change an image."""
        if self.strip_history == "all":
            image = image.without_history()
        elif self.strip_history == "args":
            image = image.with_history(_without_arguments)
        if labels := {**dict.fromkeys(self.unset_label), **_pairs(self.set_label)}:
            image = image.with_labels(labels)
        if variables := {**dict.fromkeys(self.unset_env), **_pairs(self.set_env)}:
            image = image.with_env(variables)
        if self.set_user:
            image = image.with_user(self.set_user)
        return image.with_created(self._created()) if self.set_created else image

    def _created(self) -> Time:
        if self.set_created.isascii() and self.set_created.isdigit():
            return Time.from_unix(int(self.set_created))
        try:
            return Time.parse(self.set_created)
        except ImageError as error:
            raise ValueError(f"set-created={self.set_created}: {error}") from error


_SPEC = OptionSpec(Sanitizer)

SANITIZE_ATTRIBUTES = tuple(
    Attribute(field.name, field.kind, field.default, field.help) for field in _SPEC.fields
)
"""The attributes, for the help output."""


def _pairs(values: Mapping[str, str]) -> dict[str, str]:
    pairs = (value.partition("=") for _, value in sorted(values.items()))
    return {name: value for name, _, value in pairs}


def _without_arguments(entry: History) -> History:
    """Remove the values of build arguments.

    Dockerfile frontends write them before the command (``RUN |2 A=1 B=2 /bin/sh -c make``), without quotes,
    so the end of the last value is ambiguous. The command is assumed to start at the last shell in the text:
    it is better to lose part of the command than to reveal part of a value.
    """
    text = entry.created_by
    if match := _ARG.fullmatch(text):
        return replace(entry, created_by=match[1])
    if match := _ARGUMENTS.fullmatch(text):
        start = max(text.rfind(shell) for shell in _SHELLS)
        command = text[start:] if start >= 0 else _REMOVED
        return replace(entry, created_by=(match[1] or "") + command)
    return entry
