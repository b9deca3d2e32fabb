"""Deciding which layers to convert, and converting them.

The compression that a user requests applies to new layers, which the daemon has already compressed when we
get them. So we only convert with ``force-compression``, and only layers that have a different type.
``rewrite-timestamp`` always creates new layers, but only for those that the build added (BuildKit:
``cache/remote.go``, ``util/converter``, ``exporter/containerimage/writer.go``).
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from exporter.content.concurrency import map_each
from exporter.content.copy import CONCURRENCY
from exporter.content.files import BlobDirectory
from exporter.content.layout import OCILayout
from exporter.content.overlay import MultiProvider
from exporter.content.protocol import Provider
from exporter.errors import InvalidArgumentError, NotFoundError
from exporter.image import CompressionConfig, CompressionType, Descriptor, Time
from exporter.image.keys import DIFF_ID, LAYER_CREATED_AT, REWRITTEN_TIMESTAMP
from exporter.layer.cache import ConvertedLayer, LayerCache
from exporter.layer.compression.detect import (
    compression_of,
    detect_media_type,
    find_toc,
    is_layer_type,
    media_type_of,
)
from exporter.layer.compression.gzip_writer import Pool
from exporter.layer.compression.levels import effective_level
from exporter.layer.pipe import run_piped
from exporter.layer.recode import Recipe, recode
from exporter.progress.producer import Status, VertexProgress
from exporter.source.types import Remote

# With two layers, the pool stays busy while one of them is in a single-threaded phase.
_CONCURRENCY = 2
_MAX_THREADS = 8
_PROGRESS_STEP = 4 << 20

log = logging.getLogger(__name__)


class LayerConverter:
    """Converts the layers of one export. Use it as a context manager, because it owns threads.

    A layer that several calls have in common is converted only once.

    Args:
        scratch: A directory for the new blobs. It must outlive the returned remotes.
        cache: A cache of converted layers, if any.
        progress: Reports which layers are being converted.
    """

    def __init__(
        self, scratch: Path, *, cache: LayerCache | None = None, progress: VertexProgress | None = None
    ) -> None:
        self._scratch = scratch
        self._path = scratch / "layers"
        self._cache = cache
        self._progress = progress
        self._blobs = BlobDirectory(self._path / "blobs")
        self._store: OCILayout | None = None
        self._opening = asyncio.Lock()
        self._slots = asyncio.Semaphore(_CONCURRENCY)
        self._locks: defaultdict[tuple[str, Recipe], asyncio.Lock] = defaultdict(asyncio.Lock)
        self._done: dict[tuple[str, Recipe], ConvertedLayer] = {}
        threads = min(os.cpu_count() or 1, _MAX_THREADS)
        self._workers = ThreadPoolExecutor(_CONCURRENCY, "layer")
        self._pool = Pool(ThreadPoolExecutor(threads, "compress"), threads)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # The threads are idle, because every call waits for its own.
        self._workers.shutdown(wait=False)
        self._pool.executor.shutdown(wait=False)

    async def convert(self, remote: Remote, config: CompressionConfig) -> Remote:
        """Convert layers to a compression if `config` forces it; else leave them unchanged.

        A converted layer loses its URLs and gets an ordinary OCI media type.

        Raises:
            DataLossError: a layer is damaged.
            InvalidArgumentError: a layer has an unknown type or is malformed; or a layer has to be compressed
                and the level does not exist.
            NotFoundError: a layer is not available.
        """
        remote = await _with_media_types(remote)
        if not config.force:
            return remote

        async def convert(layer: Descriptor) -> Descriptor:
            if not await self._needs_conversion(remote.provider, layer, config.type):
                return layer
            recipe = Recipe(config.type, effective_level(config))
            with self._status(f"converting layer {layer.digest} to {config.type}", layer.size) as status:
                converted = await self._make(remote.provider, layer, recipe, status)
            return _described(layer, converted)

        return self._with_layers(remote, await map_each(remote.descriptors, convert, CONCURRENCY))

    async def rewrite_timestamps(
        self, remote: Remote, config: CompressionConfig, epoch: int, *, base_diff_ids: Sequence[str] = ()
    ) -> Remote:
        """Clamp all times in layers to `epoch`, and compress the new layers as `config` says.

        The base image's layers are left alone: the leading layers with the base image's diff IDs. As in
        BuildKit, a layer that cannot be rewritten is left alone as well, with a warning.

        Args:
            remote: The layers.
            config: The compression of new layers; `force` is ignored.
            epoch: Unix seconds.
            base_diff_ids: The diff IDs in the base image's config.

        Raises:
            DataLossError: a layer is damaged.
            InvalidArgumentError: the compression level does not exist.
            NotFoundError: a layer is not available.
        """
        remote = await _with_media_types(remote)
        recipe = Recipe(config.type, effective_level(config), epoch)
        positions = range(len(remote.descriptors))
        first_own = next(
            (
                position
                for position, diff_id in enumerate(remote.diff_ids)
                if position >= len(base_diff_ids) or base_diff_ids[position] != diff_id
            ),
            len(remote.descriptors),
        )

        async def rewrite(position: int) -> Descriptor:
            layer = remote.descriptors[position]
            if position < first_own or not await self._needs_rewriting(remote.provider, layer, recipe):
                return layer
            try:
                rewritten = await self._make(remote.provider, layer, recipe, None)
            except InvalidArgumentError as error:
                self._warn(
                    f"failed to rewrite layer {position + 1}/{len(positions)} to match source-date-epoch"
                    f" {epoch} ({_go_time(epoch)}): {error.message}"
                )
                return layer
            # Only now is the diff ID known, and it turns out to be a layer of the base image.
            if position == first_own and rewritten.source_diff_id in base_diff_ids[position : position + 1]:
                return layer
            return _described(layer, rewritten)

        with self._status(f"rewriting layers with source-date-epoch {epoch} ({_go_time(epoch)})", 0):
            return self._with_layers(remote, await map_each(positions, rewrite, CONCURRENCY))

    async def _needs_conversion(self, provider: Provider, layer: Descriptor, type_: CompressionType) -> bool:
        if not is_layer_type(layer.media_type):
            return False
        if type_ is CompressionType.ESTARGZ:
            return await self._find_toc(provider, layer) is None
        if compression_of(layer.media_type) is not type_:
            return True
        # An eStargz layer is not a plain gzip layer, because its tar includes the table of contents.
        return type_ is CompressionType.GZIP and await self._find_toc(provider, layer) is not None

    async def _needs_rewriting(self, provider: Provider, layer: Descriptor, recipe: Recipe) -> bool:
        if layer.annotations.get(REWRITTEN_TIMESTAMP) != str(recipe.epoch):
            return True
        return await self._needs_conversion(provider, layer, recipe.type)

    async def _find_toc(self, provider: Provider, layer: Descriptor) -> int | None:
        try:
            return await find_toc(provider, layer, self._workers)
        except NotFoundError:
            return None  # a lazy layer; decide without its content whether it has to be pulled

    async def _make(
        self, provider: Provider, layer: Descriptor, recipe: Recipe, status: Status | None
    ) -> ConvertedLayer:
        """Convert a layer, unless the result is already available."""
        key = layer.digest, recipe
        async with self._locks[key]:
            if key not in self._done:
                store = await self._open_store()
                cached = None if self._cache is None else await self._cache.get(*key, self._blobs)
                self._done[key] = cached or await self._recode(store, provider, layer, recipe, status)
            return self._done[key]

    async def _open_store(self) -> OCILayout:
        """The store for new blobs, created on first use."""
        async with self._opening:
            if self._store is None:
                self._store = await OCILayout.open(self._path)
            return self._store

    async def _recode(
        self,
        store: OCILayout,
        provider: Provider,
        layer: Descriptor,
        recipe: Recipe,
        status: Status | None,
    ) -> ConvertedLayer:
        async with self._slots:
            compressed = compression_of(layer.media_type) is not CompressionType.UNCOMPRESSED
            work = partial(
                recode,
                descriptor=layer,
                toc_offset=await self._find_toc(provider, layer) if compressed else None,
                recipe=recipe,
                pool=self._pool,
                scratch=self._scratch,
            )
            async with store.ingest() as writer:
                source = provider.read(layer.digest)
                on_input = None if status is None else _Counter(status).add
                recoded = await run_piped(work, source, writer.write, self._workers, on_input)
                blob = await writer.commit()
        annotations = {DIFF_ID: recoded.diff_id, **recoded.annotations}
        if recipe.epoch is not None:
            annotations[REWRITTEN_TIMESTAMP] = str(recipe.epoch)
        descriptor = Descriptor(media_type_of(recipe.type), blob.digest, blob.size, annotations=annotations)
        converted = ConvertedLayer(descriptor, recoded.source_diff_id)
        if self._cache is not None:
            await self._cache.put(layer.digest, recipe, converted, self._blobs)
        return converted

    def _with_layers(self, remote: Remote, layers: Sequence[Descriptor]) -> Remote:
        provider = MultiProvider(remote.provider)
        for old, new in zip(remote.descriptors, layers, strict=True):
            if new.digest != old.digest:
                provider.add(new.digest, self._blobs)
        return Remote(tuple(layers), provider)

    def _status(self, name: str, total: int) -> AbstractContextManager[Status | None]:
        return nullcontext() if self._progress is None else self._progress.status(name, total=total)

    def _warn(self, text: str) -> None:
        log.warning("%s", text)
        if self._progress is not None:
            self._progress.warn(text)


async def _with_media_types(remote: Remote) -> Remote:
    """Detect missing media types; layers of very old daemons have none."""
    layers = [
        layer
        if layer.media_type
        else replace(layer, media_type=await detect_media_type(remote.provider, layer.digest))
        for layer in remote.descriptors
    ]
    return replace(remote, descriptors=tuple(layers))


def _described(layer: Descriptor, converted: ConvertedLayer) -> Descriptor:
    """The descriptor of a converted layer, with those of the original's annotations that still apply."""
    kept = {key: text for key, text in layer.annotations.items() if key == LAYER_CREATED_AT}
    descriptor = converted.descriptor
    return replace(descriptor, annotations={**kept, **descriptor.annotations})


class _Counter:
    """Reports how much of a layer has been read, at intervals."""

    def __init__(self, status: Status) -> None:
        self._status = status
        self._done = 0
        self._reported = 0

    def add(self, size: int) -> None:
        self._done += size
        if self._done - self._reported >= _PROGRESS_STEP:
            self._status.update(self._done)
            self._reported = self._done


def _go_time(seconds: int) -> str:
    """A time in UTC as Go's ``time.Time.String`` shows it."""
    return str(Time.from_unix(seconds)).replace("T", " ").replace("Z", " +0000 UTC")
