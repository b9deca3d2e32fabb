"""The attributes of the file exporters: ``local`` and ``tar``."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from exporter.errors import ImageError
from exporter.image.epoch import Epoch, take_epoch
from exporter.image.go import text as gotext
from exporter.image.options.attributes import ATTESTATION_PREFIX, MODE, PLATFORM_SPLIT, AttributeValueError


class LocalExporterMode(enum.StrEnum):
    """What happens to files that are already in the destination."""

    COPY = "copy"
    """They stay, unless the build overwrites them."""
    DELETE = "delete"
    """Those that are not in the build result are removed."""

    @classmethod
    def parse(cls, text: str) -> LocalExporterMode:
        """Read the attribute ``mode``, ignoring case and surrounding whitespace; empty means ``copy``.

        Raises:
            AttributeValueError: there is no such mode; with BuildKit's text.
        """
        word = gotext.lower(text.strip(gotext.GO_SPACE))
        try:
            return cls(word or cls.COPY)
        except ValueError:
            raise AttributeValueError(MODE, f"invalid local exporter mode {gotext.quote(text)}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class FSOptions:
    """Options of the file exporters.

    Attributes:
        epoch: The epoch requested by attribute; None leaves it to the frontend.
        attestation_prefix: A prefix for the names of attestation files.
        platform_split: One directory per platform; None if not specified.
        mode: What happens to files that are already there (``local`` only).
    """

    epoch: Epoch | None = None
    attestation_prefix: str = ""
    platform_split: bool | None = None
    mode: LocalExporterMode = LocalExporterMode.COPY

    @classmethod
    def load(cls, attrs: Mapping[str, str]) -> tuple[FSOptions, dict[str, str]]:
        """Read the attributes of an exporter.

        Returns:
            The options and the unused attributes.

        Raises:
            AttributeValueError: a value is invalid; with BuildKit's text.
        """
        epoch, rest = take_epoch(attrs)
        mode = LocalExporterMode.parse(rest.pop(MODE, ""))
        platform_split = None
        if PLATFORM_SPLIT in rest:
            platform_split = _parse_platform_split(rest.pop(PLATFORM_SPLIT))
        prefix = rest.pop(ATTESTATION_PREFIX, "")
        options = cls(epoch=epoch, attestation_prefix=prefix, platform_split=platform_split, mode=mode)
        return options, rest

    def use_platform_split(self, *, is_keyed: bool) -> bool:
        """Whether each platform gets its own directory; by default if the result is keyed by platform."""
        return is_keyed if self.platform_split is None else self.platform_split


def _parse_platform_split(value: str) -> bool:
    try:
        return gotext.parse_bool(value)
    except ImageError as error:
        text = f"non-bool value for {PLATFORM_SPLIT}: {value}: {error}"
        raise AttributeValueError(PLATFORM_SPLIT, text) from error
