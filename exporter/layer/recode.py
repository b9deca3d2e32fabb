"""Converting a layer blob: decompressing, rewriting, compressing and hashing in one pass.

This code is blocking and runs in a worker thread; its caller is `exporter.layer.convert`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, cast

from exporter.errors import DataLossError, naming
from exporter.image import CompressionType, Descriptor
from exporter.image.keys import DIFF_ID
from exporter.layer.compression.compress import new_compressor
from exporter.layer.compression.detect import open_layer
from exporter.layer.compression.gzip_writer import GzipWriter, Pool
from exporter.layer.estargz.writer import write_estargz
from exporter.layer.streams import (
    PIECE_SIZE,
    GatheringWriter,
    HashingReader,
    IteratorReader,
    LimitedReader,
    Readable,
    Writable,
)
from exporter.layer.timestamps import rewrite_times
from exporter.layer.verifying import verified

# A larger table of contents is written to a temporary file.
_SPOOL_SIZE = 4 << 20


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to convert a layer.

    Attributes:
        type: The new compression.
        level: See `exporter.layer.compression.levels.effective_level`.
        epoch: Unix seconds to clamp the times in the tar to; None to leave the tar unchanged.
    """

    type: CompressionType
    level: int
    epoch: int | None = None


@dataclass(frozen=True, slots=True)
class Recoded:
    """The result of a conversion.

    Attributes:
        source_diff_id: The digest of the original tar, without an eStargz table of contents.
        diff_id: The digest of the new tar.
        annotations: Annotations for the new blob's descriptor, in addition to its diff ID.
    """

    source_diff_id: str
    diff_id: str
    annotations: Mapping[str, str] = field(default_factory=dict)


def recode(
    source: Readable,
    sink: Writable,
    *,
    descriptor: Descriptor,
    toc_offset: int | None,
    recipe: Recipe,
    pool: Pool,
    scratch: Path,
) -> Recoded:
    """Convert a layer. Memory does not grow with its size.

    Args:
        source: The layer blob.
        sink: Receives the new blob.
        descriptor: The layer's descriptor.
        toc_offset: The offset of the table of contents, which is dropped, if the layer is eStargz.
        recipe: How to convert it.
        pool: The threads for compression.
        scratch: A directory for temporary files.

    Raises:
        DataLossError: the blob is damaged, or its tar does not match the diff ID in the descriptor.
        InvalidArgumentError: the blob is not a layer, or its tar is malformed or cannot be written as
            requested.
    """
    with verified(source, descriptor) as blob:
        payload = blob if toc_offset is None else LimitedReader(blob, toc_offset)
        tar = HashingReader(open_layer(payload, descriptor.media_type))
        out = GatheringWriter(sink)
        result = pack_tar(tar, out, recipe, pool, scratch)
        out.flush()
    named = descriptor.annotations.get(DIFF_ID)
    if named and toc_offset is None and named != tar.digest:
        raise DataLossError(f"layer {descriptor.digest}: the digest of its tar is {tar.digest}, not {named}")
    return result


def pack_tar(tar: HashingReader, out: Writable, recipe: Recipe, pool: Pool, scratch: Path) -> Recoded:
    """Compress a tar to a layer blob; the parameters are those of `recode`."""
    new_tar: Readable = tar
    if recipe.epoch is not None:
        new_tar = IteratorReader(rewrite_times(tar, recipe.epoch))
    if recipe.type is CompressionType.ESTARGZ:
        members = GzipWriter(out, recipe.level, pool)
        with naming(scratch), tempfile.SpooledTemporaryFile(_SPOOL_SIZE, dir=str(scratch)) as spool:
            info = write_estargz(new_tar, out, members, cast("BinaryIO", spool))
        return Recoded(tar.digest, info.diff_id, info.annotations())
    hashed = tar if recipe.epoch is None else HashingReader(new_tar)
    compressor = new_compressor(recipe.type, recipe.level, out, pool)
    while data := hashed.read(PIECE_SIZE):
        compressor.write(data)
    compressor.finish()
    return Recoded(tar.digest, hashed.digest)
