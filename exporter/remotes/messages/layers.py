"""Converting layers and descriptors to messages of ``buildkit.exporter.v1`` and, with validation, back."""

from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp

from exporter.content.documents import Document
from exporter.errors import InvalidArgumentError
from exporter.image import CompressionConfig, Descriptor, ImageError, Platform, Time, parse_digest
from exporter.image.keys import DIFF_ID
from exporter.image.options.compression import CompressionType
from exporter.pb.buildkit.exporter.v1 import exporter_pb2
from exporter.source.types import Layer

_NANOSECONDS = 1_000_000_000


def layer_of(message: exporter_pb2.Layer, path: str) -> Layer:
    """Read a layer's metadata.

    Args:
        message: The layer.
        path: The path of its field, for errors.

    Raises:
        InvalidArgumentError: its time is malformed.
    """
    created_at = None
    if message.HasField("created_at"):
        created_at = time_of(message.created_at, f"{path}.created_at")
    return Layer(id=message.id, description=message.description, created_at=created_at)


def layer_message(layer: Layer) -> exporter_pb2.Layer:
    """Write a layer's metadata."""
    created_at = timestamp(layer.created_at)
    return exporter_pb2.Layer(id=layer.id, description=layer.description, created_at=created_at)


def time_of(message: Timestamp, path: str) -> Time:
    """Read a time.

    Raises:
        InvalidArgumentError: it has more nanoseconds than a second.
    """
    if not 0 <= message.nanos < _NANOSECONDS:
        raise InvalidArgumentError(f"{message.nanos} nanoseconds exceed a second", field=path)
    return Time.from_unix(message.seconds, message.nanos)


def timestamp(time: Time | None) -> Timestamp | None:
    """Write a time; None stays unset."""
    return Timestamp(seconds=time.unix, nanos=time.nanosecond) if time is not None else None


def descriptor_of(message: exporter_pb2.Descriptor, path: str) -> Descriptor:
    """Read a descriptor.

    Args:
        message: The descriptor.
        path: The path of its field, for errors.

    Raises:
        InvalidArgumentError: media type, digest, size or diff ID is malformed.
    """
    if not message.media_type:
        raise InvalidArgumentError("a descriptor needs a media type", field=f"{path}.media_type")
    check_digest(message.digest, f"{path}.digest")
    if message.size < 0:
        raise InvalidArgumentError(f"{message.size} is not a valid size", field=f"{path}.size")
    if message.data and len(message.data) != message.size:
        text = f"{len(message.data)} bytes are embedded, but the size is {message.size}"
        raise InvalidArgumentError(text, field=f"{path}.data")
    if DIFF_ID in message.annotations:
        check_digest(message.annotations[DIFF_ID], f"{path}.annotations[{DIFF_ID}]")
    return Descriptor(
        media_type=message.media_type,
        digest=message.digest,
        size=message.size,
        urls=tuple(message.urls),
        annotations=dict(message.annotations),
        data=message.data,
        platform=_platform_of(message.platform) if message.HasField("platform") else None,
        artifact_type=message.artifact_type,
    )


def descriptor_message(descriptor: Descriptor) -> exporter_pb2.Descriptor:
    """Write a descriptor."""
    platform = descriptor.platform
    return exporter_pb2.Descriptor(
        media_type=descriptor.media_type,
        digest=descriptor.digest,
        size=descriptor.size,
        urls=descriptor.urls,
        annotations=dict(descriptor.annotations),
        data=descriptor.data,
        platform=_platform_message(platform) if platform is not None else None,
        artifact_type=descriptor.artifact_type,
    )


def document_message(document: Document) -> exporter_pb2.Blob:
    """Write a document of an image."""
    return exporter_pb2.Blob(
        media_type=document.descriptor.media_type,
        digest=document.descriptor.digest,
        data=document.data,
        labels=dict(document.labels),
    )


def compression_of(message: exporter_pb2.Compression, path: str) -> CompressionConfig:
    """Read the requested compression.

    Raises:
        InvalidArgumentError: there is no such type.
    """
    level = message.level if message.HasField("level") else None
    if not message.type:
        return CompressionConfig(force=message.force, level=level)
    try:
        return CompressionConfig(CompressionType(message.type), message.force, level)
    except ValueError:
        text = f"unsupported compression type {message.type}"
        raise InvalidArgumentError(text, field=f"{path}.type") from None


def compression_message(config: CompressionConfig) -> exporter_pb2.Compression:
    """Write the requested compression."""
    return exporter_pb2.Compression(type=config.type, force=config.force, level=config.level)


def check_digest(digest: str, path: str) -> None:
    """Check a digest.

    Raises:
        InvalidArgumentError: it is malformed, or its algorithm is unknown.
    """
    try:
        parse_digest(digest)
    except ImageError as error:
        raise InvalidArgumentError(f"{digest[:200]!r} is not a digest: {error}", field=path) from None


def _platform_of(message: exporter_pb2.Platform) -> Platform:
    return Platform(
        os=message.os,
        architecture=message.architecture,
        variant=message.variant,
        os_version=message.os_version,
        os_features=tuple(message.os_features),
    )


def _platform_message(platform: Platform) -> exporter_pb2.Platform:
    return exporter_pb2.Platform(
        os=platform.os,
        architecture=platform.architecture,
        variant=platform.variant,
        os_version=platform.os_version,
        os_features=platform.os_features,
    )
