"""SOURCE_DATE_EPOCH: the time to which an export clamps its timestamps, in whole seconds since 1970.

It comes from an attribute of the exporter, else from the build result's metadata, where the frontend put it.
An empty attribute means "no epoch", even if the frontend set one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from exporter.errors import ImageError
from exporter.image.go import text as gotext
from exporter.image.keys import EPOCH, MetadataValueError, platform_key
from exporter.image.options.attributes import SOURCE_DATE_EPOCH, AttributeValueError

_BUILD_ARG = "build-arg:SOURCE_DATE_EPOCH"


@dataclass(frozen=True, slots=True)
class Epoch:
    """A requested epoch. `value` is in seconds since 1970; None asks for no epoch."""

    value: int | None


def take_epoch(attrs: Mapping[str, str]) -> tuple[Epoch | None, dict[str, str]]:
    """Split ``source-date-epoch`` from an exporter's other attributes.

    Returns:
        The epoch (None if the attribute is missing) and the other attributes.

    Raises:
        AttributeValueError: it is not an int64; with BuildKit's text.
    """
    rest = dict(attrs)
    text = rest.pop(SOURCE_DATE_EPOCH, None)
    if text is None:
        return None, rest
    try:
        return Epoch(_parse(text, SOURCE_DATE_EPOCH)), rest
    except ImageError as error:
        raise AttributeValueError(SOURCE_DATE_EPOCH, str(error)) from error


def epoch_source(metadata: Mapping[str, bytes], platform_id: str | None = None) -> int | None:
    """The epoch that the frontend set.

    Args:
        metadata: The build result's metadata.
        platform_id: A platform, whose own epoch takes precedence over the one for all platforms. None
            reads only the latter.

    Raises:
        MetadataValueError: it is not an int64; with BuildKit's text.
    """
    keys = [EPOCH] if platform_id is None else [platform_key(EPOCH, platform_id), EPOCH]
    for key in keys:
        if key not in metadata:
            continue
        value = metadata[key]
        try:
            return _parse(value.decode("utf-8", "surrogateescape"), "")
        except ImageError as error:
            text = f"invalid SOURCE_DATE_EPOCH from frontend: {gotext.quote(value)}: {error}"
            raise MetadataValueError(key, text) from error
    return None


def export_epoch(
    given: Epoch | None, metadata: Mapping[str, bytes], platform_id: str | None = None
) -> int | None:
    """The epoch for one platform's part of an export, in seconds; None if there is none.

    The order is that of BuildKit's exporters: the attribute, the frontend's epoch for all platforms, then the
    frontend's for this platform, although `epoch_source` by itself prefers the platform's own.

    Raises:
        MetadataValueError: as `epoch_source`.
    """
    if given is not None:
        return given.value
    common = epoch_source(metadata)
    if common is not None or platform_id is None:
        return common
    return epoch_source(metadata, platform_id)


def epoch_from_build_args(frontend_attrs: Mapping[str, str]) -> str | None:
    """The value that the build argument SOURCE_DATE_EPOCH implies for ``source-date-epoch``, or None.

    A value that is not a number (such as ``context``) is for the frontend only.
    """
    value = frontend_attrs.get(_BUILD_ARG)
    if value is None:
        return None
    try:
        _parse(value, _BUILD_ARG)
    except ImageError:
        return None
    return value


def _parse(text: str, name: str) -> int | None:
    if not text:
        return None
    try:
        return gotext.parse_int(text)
    except ImageError as error:
        raise ImageError(f"invalid {name}: {error}: {error}") from error
