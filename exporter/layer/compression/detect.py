"""Detecting the compression of a layer, by its media type and by its first bytes."""

from __future__ import annotations

from concurrent.futures import Executor

from exporter.content.protocol import Provider
from exporter.errors import DataLossError, InvalidArgumentError
from exporter.image import CompressionType, Descriptor, media_types
from exporter.layer.compression.decompress import decompressed
from exporter.layer.estargz.toc import TOC_NAME
from exporter.layer.estargz.writer import FOOTER_SIZE, parse_footer
from exporter.layer.gotar import Format, TarError, TarReader
from exporter.layer.gotar.block import BLOCK_SIZE, ZERO_BLOCK, block_format
from exporter.layer.pipe import discard, run_piped
from exporter.layer.streams import PeekingReader, Readable, Writable, drain

HEAD_SIZE = BLOCK_SIZE
"""Bytes at the start of a blob that are needed to detect its format."""

_COMPRESSIONS = {
    media_types.OCI_LAYER: CompressionType.UNCOMPRESSED,
    media_types.OCI_LAYER_NONDISTRIBUTABLE: CompressionType.UNCOMPRESSED,
    media_types.OCI_LAYER_GZIP: CompressionType.GZIP,
    media_types.OCI_LAYER_NONDISTRIBUTABLE_GZIP: CompressionType.GZIP,
    media_types.OCI_LAYER_ZSTD: CompressionType.ZSTD,
    media_types.OCI_LAYER_NONDISTRIBUTABLE_ZSTD: CompressionType.ZSTD,
}
_DOCKER_TYPES = {
    CompressionType.UNCOMPRESSED: media_types.DOCKER_LAYER,
    CompressionType.GZIP: media_types.DOCKER_LAYER_GZIP,
    CompressionType.ZSTD: media_types.DOCKER_LAYER_ZSTD,
}
_OCI_LAYER_PREFIX = "application/vnd.oci.image.layer."
_GZIP_MAGIC = b"\x1f\x8b\x08"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
# The first of 16 magic numbers of frames without data (RFC 8878, section 3.1.2).
_ZSTD_SKIPPABLE_MAGIC = 0x184D2A50


def is_layer_type(media_type: str) -> bool:
    """Whether a blob of this type is a layer, possibly of an unknown kind."""
    return media_type.startswith(_OCI_LAYER_PREFIX) or media_type.partition("+")[0] in media_types.LAYER_TYPES


def compression_of(media_type: str) -> CompressionType:
    """The compression according to a layer's media type. eStargz counts as gzip.

    Raises:
        InvalidArgumentError: it is not the media type of a layer; with BuildKit's text.
    """
    try:
        return _COMPRESSIONS[media_types.convert_layer_type(media_type, oci=True)]
    except KeyError:
        raise InvalidArgumentError(f"unsupported media type {media_type or '(none)'}") from None


def media_type_of(compression: CompressionType) -> str:
    """The OCI media type of a layer with this compression."""
    if compression is CompressionType.ESTARGZ:
        return media_types.OCI_LAYER_GZIP
    return next(name for name, value in _COMPRESSIONS.items() if value is compression)


def sniff(head: bytes) -> CompressionType | None:
    """Detect a layer's compression by its first `HEAD_SIZE` bytes; None if it does not look like a layer.

    An empty blob counts as an empty, uncompressed tar, as in containerd.
    """
    if head.startswith(_GZIP_MAGIC):
        return CompressionType.GZIP
    magic = int.from_bytes(head[:4], "little")
    if head.startswith(_ZSTD_MAGIC) or (len(head) >= 8 and magic & ~0xF == _ZSTD_SKIPPABLE_MAGIC):
        return CompressionType.ZSTD
    if not head or head == ZERO_BLOCK or (len(head) == BLOCK_SIZE and block_format(head) != Format.UNKNOWN):
        return CompressionType.UNCOMPRESSED
    return None


def open_layer(blob: Readable, media_type: str) -> Readable:
    """Read a layer's tar.

    As in BuildKit, the media type is trusted only if it says that the layer is uncompressed. Otherwise, the
    bytes decide: a layer of type gzip may actually be zstd, or uncompressed.

    Args:
        blob: The layer. Reading the tar to its end also reads the blob to its end.
        media_type: The media type in its descriptor.

    Raises:
        InvalidArgumentError: it is not the media type of a layer, or the blob has an unknown format.
        DataLossError: (while reading) the blob is damaged.
    """
    compression = compression_of(media_type)
    if compression is CompressionType.UNCOMPRESSED:
        return blob
    peeking = PeekingReader(blob, HEAD_SIZE)
    actual = sniff(peeking.head)
    if actual is None:
        raise InvalidArgumentError(
            f"a layer of type {media_type} beginning with {peeking.head[:8]!r} is neither gzip, zstd nor tar"
        )
    return decompressed(peeking, actual)


async def detect_media_type(provider: Provider, digest: str) -> str:
    """The Docker media type of a layer, detected by its first bytes.

    Raises:
        InvalidArgumentError: it does not look like a layer.
        NotFoundError: the provider does not have it.
    """
    compression = sniff(await read_range(provider, digest, 0, HEAD_SIZE))
    if compression is None:
        raise InvalidArgumentError(f"failed to detect layer {digest} compression type")
    return _DOCKER_TYPES[compression]


async def find_toc(provider: Provider, descriptor: Descriptor, executor: Executor) -> int | None:
    """The byte offset of an eStargz blob's table of contents; None if the blob is not eStargz.

    A blob is eStargz if it has the footer, and the footer points to the table of contents and nothing else
    (BuildKit: ``estargzType.Is``).

    Raises:
        NotFoundError: the provider does not have the blob.
    """
    tail_size = min(FOOTER_SIZE, descriptor.size)
    tail = await read_range(provider, descriptor.digest, descriptor.size - tail_size, tail_size)
    offset = parse_footer(tail)
    if offset is None or offset >= descriptor.size:
        return None
    rest = provider.read(descriptor.digest, offset=offset)
    is_toc = await run_piped(_is_toc, rest, discard, executor)
    return offset if is_toc else None


async def read_range(provider: Provider, digest: str, offset: int, length: int) -> bytes:
    """Read a small part of a blob."""
    pieces = [data async for data in provider.read(digest, offset=offset, length=length)]
    return b"".join(pieces)


def _is_toc(member: Readable, _: Writable) -> bool:
    tar = decompressed(member, CompressionType.GZIP)
    reader = TarReader(tar)
    try:
        header = reader.next()
        found = header is not None and header.name == TOC_NAME and reader.next() is None
        drain(tar)
    except (TarError, DataLossError):
        found = False
    drain(member)
    return found
