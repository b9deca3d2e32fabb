"""The resources of exports: stores, scratch space, the cache of converted layers, the registry client."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from exporter.content.images import ImageStore
from exporter.content.layout import default_root
from exporter.content.lazy import EmbeddedStore
from exporter.content.protocol import Provider
from exporter.content.root import image_store
from exporter.content.threads import run_in_thread
from exporter.engine.config import WorkplaceConfig
from exporter.engine.engine import Engine
from exporter.engine.finalize import FinalizeStore
from exporter.engine.limits import Admission
from exporter.engine.scratch import ScratchSpace
from exporter.engine.stores import image_stores
from exporter.errors import ExporterError, FailedPreconditionError
from exporter.layer.cache import LayerCache


@dataclass(frozen=True, slots=True)
class Workplace:
    """The resources of exports.

    Attributes:
        engine: Runs the exports.
        store: The embedded image store, even if images go to containerd.
        shared: See `exporter.engine.stores.Stores`.
    """

    engine: Engine
    store: EmbeddedStore
    shared: Provider | None


@asynccontextmanager
async def open_workplace(
    config: WorkplaceConfig, *, admission: Admission, tokens: FinalizeStore
) -> AsyncIterator[Workplace]:
    """Open the resources that exports need. At the end, unpublished artifacts are dropped.

    Args:
        config: The operator's configuration.
        admission: Limits the number of concurrent exports.
        tokens: Keeps exports that wait to be published.

    Raises:
        FailedPreconditionError: `WorkplaceConfig.root` holds something else, or there is no scratch space.
        OSError: a directory cannot be created.
    """
    async with AsyncExitStack() as stack:
        store = EmbeddedStore(config.root)
        if config.root is not None:
            await store.open()
        stores = await stack.enter_async_context(image_stores(store, config.containerd))
        root, scratch = await _scratch(config.root, stack)
        stack.push_async_callback(tokens.close)
        engine = Engine(
            open_store=stores.open,
            check_store=stores.check,
            # Without a root, the embedded store already rejects the first blob, so this path is never used.
            open_images=partial(_images, root or Path(os.devnull), store),
            scratch=scratch,
            admission=admission,
            tokens=tokens,
            layer_cache=await _layer_cache(root, config.layer_cache_bytes),
            registries=config.registries,
            max_content_bytes=config.max_content_bytes,
            hooks=config.hooks,
        )
        yield Workplace(engine, store, stores.shared)


@asynccontextmanager
async def _images(root: Path, store: EmbeddedStore) -> AsyncIterator[ImageStore]:
    """The store of images by ID for one export."""
    async with store.lease() as lease:
        yield image_store(root, lease)


async def problem_of_store(config: WorkplaceConfig) -> str:
    """The reason why images cannot be stored; empty if they can. Other exports still work.

    This is for servers to report at startup; a single export reports it when it needs the store.
    """
    if config.root is None and config.containerd is None:
        try:
            await EmbeddedStore().open()
        except FailedPreconditionError as error:
            return error.message
    return ""


async def _scratch(chosen: Path | None, stack: AsyncExitStack) -> tuple[Path | None, ScratchSpace]:
    """Open the scratch space; also return the root directory, if there is a usable one."""
    if chosen is not None:
        return chosen, await stack.enter_async_context(ScratchSpace.open(chosen))
    try:
        root = await run_in_thread(default_root)
        return root, await stack.enter_async_context(ScratchSpace.open(root))
    except (ExporterError, OSError):
        # Exports that need the store will report this. Others do not need a root.
        return None, await stack.enter_async_context(ScratchSpace.open(None))


async def _layer_cache(root: Path | None, limit: int) -> LayerCache | None:
    if root is None:
        return None
    cache = LayerCache(root / "layers", limit=limit)
    # The limit may have changed.
    await cache.prune()
    return cache if limit else None
