"""What exports work with: stores, scratch space, the cache of converted layers, the way to registries."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

from exporter.content.layout import OCILayout
from exporter.content.protocol import Provider
from exporter.content.root import open_root
from exporter.engine.config import WorkplaceConfig
from exporter.engine.engine import Engine
from exporter.engine.finalize import FinalizeStore
from exporter.engine.limits import Admission
from exporter.engine.scratch import ScratchSpace
from exporter.engine.stores import image_stores
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
    store: OCILayout
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
        FailedPreconditionError: `WorkplaceConfig.root` holds something else.
        OSError: it cannot be made.
    """
    async with AsyncExitStack() as stack:
        store, images = await open_root(config.root)
        stores = await stack.enter_async_context(image_stores(store, config.containerd))
        scratch = await stack.enter_async_context(ScratchSpace.open(config.root))
        stack.push_async_callback(tokens.close)
        engine = Engine(
            open_store=stores.open,
            images=images,
            scratch=scratch,
            admission=admission,
            tokens=tokens,
            layer_cache=await _layer_cache(config),
            pusher=_pusher(config),
        )
        yield Workplace(engine, store, stores.shared)


async def _layer_cache(config: WorkplaceConfig) -> LayerCache | None:
    cache = LayerCache(config.root / "layers", limit=config.layer_cache_bytes)
    # The limit may be a new one.
    await cache.prune()
    return cache if config.layer_cache_bytes else None


def _pusher(config: WorkplaceConfig) -> Pusher | None:
    if config.registries is None:
        return None
    # Only here: the client takes a moment to import.
    from exporter.remotes.registry.push import push

    return partial(push, options=config.registries)
