"""Selecting the image store: the embedded one, or the containerd that the operator configured."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from exporter.content.lazy import EmbeddedStore
from exporter.content.protocol import Provider
from exporter.engine.engine import OpenStore

if TYPE_CHECKING:
    from exporter.remotes.containerd import ContainerdConfig


@dataclass(frozen=True, slots=True)
class Stores:
    """The stores for exports.

    Attributes:
        open: Opens the image store for an export.
        check: Raises an error if the image store cannot be used.
        shared: A store that a daemon on this machine may share, and so may already have its blobs; or None.
    """

    open: OpenStore
    check: Callable[[], Awaitable[object]]
    shared: Provider | None = None


@asynccontextmanager
async def image_stores(embedded: EmbeddedStore, containerd: ContainerdConfig | None) -> AsyncIterator[Stores]:
    """Connect to the image store.

    Args:
        embedded: The embedded store.
        containerd: The containerd to use instead; None for the embedded store.
    """
    if containerd is None:
        yield Stores(embedded.lease, embedded.open)
        return
    from exporter.remotes.containerd import Containerd  # imports gRPC

    async with Containerd.connect(containerd) as connection:
        yield Stores(connection.leased, _nothing, connection.content)


async def _nothing() -> None:
    """No check is necessary: we are already connected to containerd."""
