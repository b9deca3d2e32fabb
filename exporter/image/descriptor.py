"""OCI descriptors: the type, digest and size of a blob, and where else to find it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from exporter.errors import ImageError
from exporter.image.go import json as gojson
from exporter.image.platforms.platform import Platform


class _PlatformObject(msgspec.Struct, omit_defaults=True, gc=False):
    # `omit_defaults` does not omit defaults that come from a factory. Go always writes these two.
    architecture: str = msgspec.field(default_factory=str)
    os: str = msgspec.field(default_factory=str)
    os_version: str = msgspec.field(default="", name="os.version")
    os_features: tuple[str, ...] = msgspec.field(default=(), name="os.features")
    variant: str = ""


class DescriptorObject(msgspec.Struct, omit_defaults=True, rename="camel", gc=False):
    """The JSON object of a descriptor, fast to read and write in bulk, with Go's key order and omissions."""

    media_type: str = msgspec.field(default_factory=str)
    digest: str = msgspec.field(default_factory=str)
    size: int = msgspec.field(default_factory=int)
    urls: tuple[str, ...] = ()
    annotations: dict[str, str] = msgspec.field(default_factory=dict)
    data: bytes = b""
    platform: _PlatformObject | None = None
    artifact_type: str = ""


class _DescriptorList(msgspec.Struct):
    # msgspec caches its analysis of a struct's fields, but not that of a bare list type.
    items: list[DescriptorObject]


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A content descriptor of the OCI image specification.

    Attributes:
        media_type: The blob's media type.
        digest: Its digest, such as ``sha256:…``.
        size: Its length in bytes.
        urls: Where else it can be fetched.
        annotations: Free text by key.
        data: The blob itself, if it is small and embedded; else empty.
        platform: The platform of an image that an index lists.
        artifact_type: The type of an artifact that an index lists.
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
        """Read a descriptor from a parsed JSON object. Unknown keys are ignored.

        Raises:
            ImageError: a value has the wrong type; the text names its key.
        """
        (read,) = read_descriptors([value])
        return cls(
            media_type=read.media_type,
            digest=read.digest,
            size=read.size,
            urls=read.urls,
            annotations=read.annotations,
            data=read.data,
            platform=None
            if read.platform is None
            else Platform.from_dict(msgspec.to_builtins(read.platform)),
            artifact_type=read.artifact_type,
        )

    def to_dict(self) -> dict[str, Any]:
        """The JSON object: keys in the order in which Go writes them, empty values left out as Go does."""
        return descriptor_dict(self.to_object())

    def to_object(self) -> DescriptorObject:
        """The JSON object, as `exporter.image.go.json` writes it."""
        return DescriptorObject(
            media_type=self.media_type,
            digest=self.digest,
            size=self.size,
            urls=self.urls,
            annotations=gojson.sort_keys(self.annotations),
            data=self.data,
            platform=None if self.platform is None else _platform_object(self.platform),
            artifact_type=self.artifact_type,
        )

    def marshal(self) -> bytes:
        """The descriptor in one line, as Go's ``json.Marshal`` writes it."""
        return gojson.marshal(self.to_object())


def read_descriptors(values: Sequence[Mapping[str, Any]]) -> list[DescriptorObject]:
    """Read descriptors from parsed JSON objects. Unknown keys are ignored.

    Raises:
        ImageError: a value has the wrong type; the text says which one.
    """
    try:
        return msgspec.convert({"items": values}, _DescriptorList).items
    except msgspec.ValidationError:
        # Go treats null like a missing key.
        values = [_without_nulls(value) for value in values]
    try:
        return msgspec.convert(values, list[DescriptorObject])
    except msgspec.ValidationError as error:
        raise ImageError(f"invalid descriptor: {error}") from error


def _platform_object(platform: Platform) -> _PlatformObject:
    return msgspec.convert(platform.to_dict(), _PlatformObject)


def _without_nulls(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    return {key: _without_nulls(item) for key, item in value.items() if item is not None}


def descriptor_dict(value: DescriptorObject) -> dict[str, Any]:
    """The JSON object as a dict, with `data` in base64."""
    result: dict[str, Any] = msgspec.json.decode(gojson.marshal(value))
    return result
