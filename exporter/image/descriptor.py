"""OCI descriptors: what a blob is, where it is, how long it is."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from exporter.image import gojson
from exporter.image.errors import ImageError
from exporter.image.platforms import Platform


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A content descriptor of the OCI image specification.

    Attributes:
        media_type: What the blob is.
        digest: Its digest, such as ``sha256:…``.
        size: Its length in bytes.
        urls: Where else it can be fetched.
        annotations: Free text by key.
        data: The blob itself, for small ones; empty if not embedded.
        platform: Of an image in an index.
        artifact_type: Of an artifact in an index.
    """

    media_type: str
    digest: str
    size: int
    urls: tuple[str, ...] = ()
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)
    data: bytes = b""
    platform: Platform | None = None
    artifact_type: str = ""

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Descriptor:
        """Read the JSON object of a descriptor, as a JSON parser gives it. Unknown keys are ignored.

        Raises:
            ImageError: a value has the wrong type; the text names its key.
        """
        if not isinstance(value, Mapping):
            raise ImageError(f"descriptor must be an object, not {type(value).__name__}")
        platform = _member(value, "platform", Mapping, None)
        urls = _member(value, "urls", list | tuple, ())
        annotations = _member(value, "annotations", Mapping, {})
        for key, text in annotations.items():
            if not isinstance(text, str):
                raise ImageError(
                    f"descriptor: annotation {key!r} must be a string, not {type(text).__name__}"
                )
        return cls(
            media_type=_member(value, "mediaType", str, ""),
            digest=_member(value, "digest", str, ""),
            size=_member(value, "size", int, 0),
            urls=_strings("urls", urls),
            annotations=dict(annotations),
            data=_decode_data(_member(value, "data", str, "")),
            platform=None if platform is None else _platform_from_dict(platform),
            artifact_type=_member(value, "artifactType", str, ""),
        )

    def to_dict(self) -> dict[str, Any]:
        """The JSON object: keys in the order in which Go writes them, empty values left out as Go does."""
        value: dict[str, Any] = {"mediaType": self.media_type, "digest": self.digest, "size": self.size}
        if self.urls:
            value["urls"] = list(self.urls)
        if self.annotations:
            value["annotations"] = gojson.sort_keys(self.annotations)
        if self.data:
            value["data"] = base64.b64encode(self.data).decode()
        if self.platform is not None:
            value["platform"] = _platform_to_dict(self.platform)
        if self.artifact_type:
            value["artifactType"] = self.artifact_type
        return value

    def marshal(self) -> bytes:
        """The descriptor in one line, as Go's ``json.Marshal`` writes it."""
        return gojson.marshal(self.to_dict())


def _platform_from_dict(value: Mapping[str, Any]) -> Platform:
    return Platform(
        architecture=_member(value, "architecture", str, ""),
        os=_member(value, "os", str, ""),
        os_version=_member(value, "os.version", str, ""),
        os_features=_strings("os.features", _member(value, "os.features", list | tuple, ())),
        variant=_member(value, "variant", str, ""),
    )


def _platform_to_dict(platform: Platform) -> dict[str, Any]:
    value: dict[str, Any] = {"architecture": platform.architecture, "os": platform.os}
    if platform.os_version:
        value["os.version"] = platform.os_version
    if platform.os_features:
        value["os.features"] = list(platform.os_features)
    if platform.variant:
        value["variant"] = platform.variant
    return value


def _member(value: Mapping[str, Any], key: str, kind: Any, default: Any) -> Any:
    item = value.get(key)
    if item is None:
        return default
    if not isinstance(item, kind) or isinstance(item, bool):
        wanted = {str: "a string", int: "an integer", Mapping: "an object"}.get(kind, "an array")
        raise ImageError(f"descriptor: {key} must be {wanted}, not {type(item).__name__}")
    return item


def _strings(key: str, items: list[object] | tuple[object, ...]) -> tuple[str, ...]:
    strings = tuple(item for item in items if isinstance(item, str))
    if len(strings) != len(items):
        raise ImageError(f"descriptor: {key} must be an array of strings")
    return strings


def _decode_data(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ImageError(f"descriptor: data is no base64: {error}") from error
