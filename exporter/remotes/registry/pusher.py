"""Pushing. The HTTP library is loaded only when something is pushed, because most exports do not need it."""

from __future__ import annotations

from dataclasses import dataclass

from exporter.content.protocol import Provider
from exporter.image import Descriptor
from exporter.progress.producer import VertexProgress
from exporter.remotes.registry.distribution_sources import DistributionSources
from exporter.remotes.registry.options import RegistryOptions


@dataclass(frozen=True, slots=True)
class RegistryPusher:
    """Sends images to registries: `exporter.remotes.registry.push.push` with these options."""

    options: RegistryOptions

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
        """See `exporter.remotes.registry.push.push`."""
        from exporter.remotes.registry.push import push

        return await push(
            provider,
            root,
            name,
            by_digest=by_digest,
            insecure=insecure,
            sources=sources,
            options=self.options,
            progress=progress,
        )
