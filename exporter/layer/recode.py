"""Turning one layer blob into another: decompress, rewrite, compress, and take the digests on the way.

All of it is blocking and runs in a worker thread; see `exporter.layer.convert` for what surrounds it.
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
from exporter.layer.verified import verified

# A table of contents larger than this goes to a file.
_SPOOL_SIZE = 4 << 20


@dataclass(frozen=True, slots=True)
class Recipe:
    """What is to be made of a layer.

    Attributes:
        type: Its compression.
        level: See `exporter.layer.compression.levels.effective_level`.
        epoch: Unix seconds that no time in it may be after; None to leave its tar as it is.
    """

    type: CompressionType
    level: int
    epoch: int | None = None


@dataclass(frozen=True, slots=True)
class Recoded:
    """What came of it.

    Attributes:
        source_diff_id: Digest of the tar that went in, without an eStargz table of contents.
        diff_id: Digest of the tar that came out.
        annotations: What a descriptor of the new blob must say, but for its diff ID.
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
    """Make a new blob of a layer. Memory does not grow with its size.

    Args:
        source: The layer blob.
        sink: Gets the new blob.
        descriptor: Of the layer.
        toc_offset: Where the table of contents begins if the layer is eStargz. The table is left out.
        recipe: What to make.
        pool: Threads to compress with.
        scratch: A directory for temporary files.

    Raises:
        DataLossError: the blob is damaged, or its tar is not the one that the descriptor names.
        InvalidArgumentError: the blob is not a layer; or its tar is malformed, or cannot be written as is
        asked for.
    """
    with verified(source, descriptor) as blob:
        payload = blob if toc_offset is None else LimitedReader(blob, toc_offset)
        tar = HashingReader(open_layer(payload, descriptor.media_type))
        out = GatheringWriter(sink)
        result = _recode(tar, out, recipe, pool, scratch)
        out.flush()
    named = descriptor.annotations.get(DIFF_ID)
    if named and toc_offset is None and named != tar.digest:
        raise DataLossError(f"layer {descriptor.digest}: the digest of its tar is {tar.digest}, not {named}")
    return result


def _recode(tar: HashingReader, out: Writable, recipe: Recipe, pool: Pool, scratch: Path) -> Recoded:
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
