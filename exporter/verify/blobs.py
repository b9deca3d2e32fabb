"""Reading blobs to find out their digest, size, compression and diff ID."""

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
    """What was found out about a blob.

    Attributes:
        digest: Its digest, with the algorithm of the expected digest.
        size: Its size in bytes.
        compression: The compression detected from its bytes; None if it is not a layer.
        diff_id: The digest of the uncompressed data.
        damage: Why it cannot be unpacked; empty if it can.
        is_missing: There is no such blob; the other attributes are empty.
    """

    digest: str = ""
    size: int = 0
    compression: CompressionType | None = None
    diff_id: str = ""
    damage: str = ""
    is_missing: bool = False


def facts_of(data: bytes, digest: str) -> BlobFacts:
    """Digest and size of a blob in memory. Blocks while hashing."""
    algorithm, _ = split_digest(digest)
    return BlobFacts(f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}", len(data))


async def examine(
    source: AsyncIterator[bytes], digest: str, executor: Executor, on_bytes: OnBytes | None = None
) -> BlobFacts:
    """Read a blob in a thread and in bounded memory, and unpack it if it looks like a layer.

    Args:
        source: The blob's bytes; closed at the end.
        digest: The expected digest.
        executor: Runs the work; see `run_piped`.
        on_bytes: Called with the size of each chunk that was read.
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
        damage = _stream_damage(tar) or f"it is not a tar archive, or a damaged one: {error}"
    except DataLossError as error:
        damage = error.message
    drain(blob)
    return BlobFacts(blob.digest, blob.size, compression, tar.digest, damage)


def _stream_damage(tar: HashingReader) -> str:
    """Read the rest of a damaged archive, to find out whether its compressed stream is damaged."""
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
    """Reads another stream, and computes its size and its digest with any algorithm."""

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
