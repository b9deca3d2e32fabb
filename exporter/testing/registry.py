"""Registries in memory."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from exporter.content.copy import copy_chain
from exporter.content.memory import MemoryStore
from exporter.content.protocol import Provider
from exporter.image import Descriptor
from exporter.progress.producer import VertexProgress
from exporter.remotes.registry.distribution_sources import DistributionSources


@dataclass(frozen=True, slots=True)
class PushedImage:
    """A pushed image.

    Attributes:
        root: The descriptor of the image or index.
        name: The repository and tag, as the exporter gave it.
        by_digest: Whether it was pushed without a tag.
        insecure: Whether plain HTTP and unverified TLS were allowed.
    """

    root: Descriptor
    name: str
    by_digest: bool = False
    insecure: bool = False


class MemoryRegistry:
    """Receives pushed images; a `Pusher` for `Workbench.open`.

    Args:
        failures: Raised by the first pushes, one each, to test that a finalizer can be retried.

    Attributes:
        store: All pushed blobs, verified.
        pushes: All pushed images, in order.
    """

    def __init__(self, failures: Iterable[Exception] = ()) -> None:
        self.store = MemoryStore()
        self.pushes: list[PushedImage] = []
        self._failures = list(failures)

    async def __call__(
        self,
        provider: Provider,
        root: Descriptor,
        name: str,
        *,
        by_digest: bool = False,
        insecure: bool = False,
        sources: DistributionSources | None = None,
        progress: VertexProgress,
    ) -> DistributionSources:
        """See `Pusher`. Cross-repository mounts are not simulated.

        Raises:
            DataLossError, NotFoundError: a blob is damaged or missing.
        """
        if self._failures:
            raise self._failures.pop(0)
        await copy_chain(self.store, provider, root)
        self.pushes.append(PushedImage(root, name, by_digest, insecure))
        return sources or {}
