"""What exports work with: stores, scratch space, the cache of converted layers, the way to registries."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

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
from exporter.exporters.base import Pusher
from exporter.layer.cache import LayerCache


@dataclass(frozen=True, slots=True)
class Workplace:
    """A place for exports.

    Attributes:
        engine: Runs them.
        store: The embedded image store, whether images go there or not.
        shared: See `exporter.engine.stores.Stores`.
    """

    engine: Engine
    store: EmbeddedStore
    shared: Provider | None


@asynccontextmanager
async def open_workplace(
    config: WorkplaceConfig, *, admission: Admission, tokens: FinalizeStore
) -> AsyncIterator[Workplace]:
    """Open all that exports need. At the end, what has not been published is dropped.

    Args:
        config: The operator's choices.
        admission: How many exports run at once.
        tokens: Takes what is left to publish.

    Raises:
        FailedPreconditionError: `WorkplaceConfig.root` holds something else, or there is no scratch space.
        OSError: it cannot be made.
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
            # Without a root the store refuses the first blob of an image, and nothing asks for its name.
            images=image_store(root or Path(os.devnull), store),
            scratch=scratch,
            admission=admission,
            tokens=tokens,
            layer_cache=await _layer_cache(root, config.layer_cache_bytes),
            pusher=_pusher(config),
            max_content_bytes=config.max_content_bytes,
        )
        yield Workplace(engine, store, stores.shared)


async def problem_of_store(config: WorkplaceConfig) -> str:
    """Why images cannot be stored; empty if they can. Others exports work all the same.

    For those who run for long: a single export says it when it needs the store.
    """
    if config.root is None and config.containerd is None:
        try:
            await EmbeddedStore().open()
        except FailedPreconditionError as error:
            return error.message
    return ""


async def _scratch(chosen: Path | None, stack: AsyncExitStack) -> tuple[Path | None, ScratchSpace]:
    """Open the scratch space; gives the root directory, too, if there is one that can be used."""
    if chosen is not None:
        return chosen, await stack.enter_async_context(ScratchSpace.open(chosen))
    try:
        root = await run_in_thread(default_root)
        return root, await stack.enter_async_context(ScratchSpace.open(root))
    except (ExporterError, OSError):
        # It is said when an export needs the store. Others can do without it.
        return None, await stack.enter_async_context(ScratchSpace.open(None))


async def _layer_cache(root: Path | None, limit: int) -> LayerCache | None:
    if root is None:
        return None
    cache = LayerCache(root / "layers", limit=limit)
    # The limit may be a new one.
    await cache.prune()
    return cache if limit else None


def _pusher(config: WorkplaceConfig) -> Pusher | None:
    if config.registries is None:
        return None
    # Only here: the client takes a moment to import.
    from exporter.remotes.registry.push import push

    return partial(push, options=config.registries)
