"""Writing layers. Digest and diff ID are computed while writing."""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from exporter.content.files import BlobDirectory
from exporter.content.layout import OCILayout
from exporter.content.threads import run_in_thread
from exporter.image import CompressionConfig, Descriptor
from exporter.image.keys import DIFF_ID
from exporter.images.directory import directory_entries
from exporter.images.layer import ImageLayer
from exporter.layer.compression.detect import media_type_of
from exporter.layer.compression.gzip_writer import Pool
from exporter.layer.compression.levels import effective_level
from exporter.layer.entry import FileEntry
from exporter.layer.entry_tar import tar_pieces
from exporter.layer.pipe import run_piped
from exporter.layer.recode import Recipe, Recoded, pack_tar
from exporter.layer.streams import GatheringWriter, HashingReader, IteratorReader, Readable, Writable, drain

LayerContent = Path | Iterable[FileEntry] | AsyncIterator[bytes]
"""The content of a layer: a directory, files in walk order, or the bytes of an uncompressed tar."""

_MAX_THREADS = 8


async def write_layer(
    content: LayerContent, scratch: Path, compression: CompressionConfig | None = None
) -> ImageLayer:
    """Write a layer into a scratch directory. Memory use does not depend on its size.

    Args:
        content: The files. The files of a directory become owned by root. Entries are iterated once, in a
            thread. A stream of bytes must be a tar; it is not parsed.
        scratch: A directory. It must outlive the layer.
        compression: The compression; None for gzip.

    Raises:
        InvalidArgumentError: an entry cannot be written in any tar format, or the compression level does not
            exist.
        OSError: a file cannot be read, or the layer cannot be written.
    """
    config = compression or CompressionConfig()
    recipe = Recipe(config.type, effective_level(config))
    place = Path(await run_in_thread(tempfile.mkdtemp, prefix="layer-", dir=scratch))
    store = await OCILayout.open(place)
    threads = min(os.cpu_count() or 1, _MAX_THREADS)
    with ExitStack() as stack:
        # The threads are idle when the block ends, because `run_piped` waits for its thread.
        worker = stack.enter_context(ThreadPoolExecutor(1, "layer"))
        pool = Pool(stack.enter_context(ThreadPoolExecutor(threads, "compress")), threads)
        source: AsyncIterator[bytes] = _nothing()
        entries: Iterable[FileEntry] | None = None
        if isinstance(content, Path):
            entries = directory_entries(content)
        elif isinstance(content, AsyncIterator):
            source = content
        else:
            entries = content
        work = partial(_pack, entries, recipe, pool, place)
        async with store.ingest() as writer:
            packed = await run_piped(work, source, writer.write, worker)
            blob = await writer.commit()
    annotations = {DIFF_ID: packed.diff_id, **packed.annotations}
    descriptor = Descriptor(media_type_of(recipe.type), blob.digest, blob.size, annotations=annotations)
    return ImageLayer(descriptor, BlobDirectory(place / "blobs"))


async def _nothing() -> AsyncIterator[bytes]:
    for _ in ():
        yield b""


def _pack(
    entries: Iterable[FileEntry] | None,
    recipe: Recipe,
    pool: Pool,
    scratch: Path,
    source: Readable,
    sink: Writable,
) -> Recoded:
    tar = source if entries is None else IteratorReader(tar_pieces(entries, exact_times=True))
    hashed = HashingReader(tar)
    out = GatheringWriter(sink)
    packed = pack_tar(hashed, out, recipe, pool, scratch)
    out.flush()
    drain(source)
    return packed
