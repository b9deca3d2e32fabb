"""Where images go: into the embedded store, or into the containerd that the operator has chosen."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass

from exporter.content.lazy import EmbeddedStore
from exporter.content.protocol import Provider
from exporter.engine.engine import OpenStore
from exporter.remotes.containerd import Containerd, ContainerdConfig


@dataclass(frozen=True, slots=True)
class Stores:
    """What exports may use.

    Attributes:
        open: Gives an export the store that its images go to.
        check: Raises an error if images cannot go there.
        shared: Blobs that a daemon on this machine may have put where we find them; None for no such place.
    """

    open: OpenStore
    check: Callable[[], Awaitable[object]]
    shared: Provider | None = None


@asynccontextmanager
async def image_stores(embedded: EmbeddedStore, containerd: ContainerdConfig | None) -> AsyncIterator[Stores]:
    """Connect the store that images go to.

    Args:
        embedded: The embedded store.
        containerd: What takes its place; None if nothing does.
    """
    if containerd is None:
        yield Stores(lambda: nullcontext(embedded), embedded.open)
        return
    async with Containerd.connect(containerd) as connection:
        yield Stores(connection.leased, _nothing, connection.content)


async def _nothing() -> None:
    """A containerd has been connected: it is there."""
