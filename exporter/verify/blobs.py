"""What blobs are, found out by reading them."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial

from exporter.content.verify import split_digest
from exporter.errors import DataLossError, NotFoundError
from exporter.image import CompressionType
from exporter.layer.compression.decompress import decompressed
from exporter.layer.compression.detect import HEAD_SIZE, sniff
from exporter.layer.gotar import TarError, TarReader
from exporter.layer.pipe import discard, run_piped
from exporter.layer.streams import PIECE_SIZE, HashingReader, PeekingReader, Readable, Writable, drain

OnBytes = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class BlobFacts:
    """What a blob is.

    Attributes:
        digest: By the algorithm of the digest that it is known by.
        size: In bytes.
        compression: As its bytes tell; None if it is not a layer.
        diff_id: The digest of what it is without compression.
        damage: Why it cannot be unpacked; empty if it can.
        is_missing: There is no such blob; nothing else is known.
    """

    digest: str = ""
    size: int = 0
    compression: CompressionType | None = None
    diff_id: str = ""
    damage: str = ""
    is_missing: bool = False


def facts_of(data: bytes, digest: str) -> BlobFacts:
    """What a blob in memory is, without a look into it. Blocks for large ones."""
    algorithm, _ = split_digest(digest)
    return BlobFacts(f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}", len(data))


async def examine(
    source: AsyncIterator[bytes], digest: str, executor: Executor, on_bytes: OnBytes | None = None
) -> BlobFacts:
    """Read a blob to its end, in a thread and in bounded memory, and as a layer if it looks like one.

    Args:
        source: The blob's bytes; closed at the end.
        digest: What it is known by.
        executor: Where to work; see `run_piped`.
        on_bytes: Told the bytes of each piece that was read.
    """
    try:
        return await run_piped(
            partial(_examine, algorithm=split_digest(digest)[0]), source, discard, executor, on_bytes
        )
    except NotFoundError:
        return BlobFacts(is_missing=True)


def _examine(source: Readable, _: Writable, *, algorithm: str) -> BlobFacts:
    blob = _Digesting(source, algorithm)
    peeking = PeekingReader(blob, HEAD_SIZE)
    compression = sniff(peeking.head)
    tar = HashingReader(decompressed(peeking, compression or CompressionType.UNCOMPRESSED))
    damage = ""
    try:
        if compression is not None:
            _read_tar(tar)
        drain(tar)
    except TarError as error:
        damage = _stream_damage(tar) or f"it is no tar archive, or a damaged one: {error}"
    except DataLossError as error:
        damage = error.message
    drain(blob)
    return BlobFacts(blob.digest, blob.size, compression, tar.digest, damage)


def _stream_damage(tar: HashingReader) -> str:
    """Read what is left of a damaged archive: a damaged stream explains it."""
    try:
        drain(tar)
    except DataLossError as error:
        return error.message
    return ""


def _read_tar(source: Readable) -> None:
    reader = TarReader(source)
    while reader.next() is not None:
        pass


class _Digesting:
    """Passes bytes on, counts them and takes their digest by any algorithm."""

    def __init__(self, source: Readable, algorithm: str) -> None:
        self._source = source
        self._algorithm = algorithm
        self._hash = hashlib.new(algorithm)
        self.size = 0

    def read(self, size: int) -> bytes:
        data = self._source.read(min(size, PIECE_SIZE))
        self._hash.update(data)
        self.size += len(data)
        return data

    @property
    def digest(self) -> str:
        return f"{self._algorithm}:{self._hash.hexdigest()}"
