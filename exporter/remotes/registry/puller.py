"""Reading images that loads its HTTP library when something is read."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from exporter.content.protocol import Provider
from exporter.image import Descriptor, Reference
from exporter.remotes.registry.options import RegistryOptions


@dataclass(frozen=True, slots=True)
class RegistryPuller:
    """Opens images in registries with these options."""

    options: RegistryOptions = field(default_factory=RegistryOptions)

    @asynccontextmanager
    async def __call__(
        self, name: str, *, insecure: bool = False
    ) -> AsyncIterator[tuple[Provider, Descriptor]]:
        """See `exporter.exporters.destinations.Puller`."""
        from exporter.remotes.registry.repository import open_repository

        reference = Reference.parse(name).tag_name_only()
        async with open_repository(reference, insecure=insecure, options=self.options) as repository:
            yield repository, await repository.resolve(reference.digest or reference.tag or "latest")
