"""Exports into a namespace of a containerd, and the resulting contents."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from exporter.content.copy import write_blob
from exporter.content.memory import MemoryStore
from exporter.content.protocol import BlobInfo, Provider
from exporter.exporters.base import ExportResult
from exporter.exporters.blocking import run_export
from exporter.exporters.registry import Registry
from exporter.image import digest_bytes
from exporter.remotes.containerd import Containerd
from exporter.source.saved.load import SavedSource
from exporter.source.types import Source
from tests.builds import scenario
from tests.integration.containerd_peer import ContainerdPeer
from tests.unit.exporters.harness import FakeLayer, Workplace, make_ref

CONFIG = b'{"os":"linux","architecture":"amd64"}'


@dataclass
class Namespace:
    """A namespace of a containerd, and a directory for the rest of what exports need.

    Attributes:
        statuses: What the last export reported, in order.
    """

    peer: ContainerdPeer
    name: str
    directory: Path
    statuses: list[str] = field(default_factory=list)

    async def export(
        self,
        source: Source | str,
        attrs: Mapping[str, str],
        *,
        exporter: str = "image",
        snapshotter: str = "overlayfs",
    ) -> ExportResult:
        """Export a source, or the recorded build of that name."""
        if isinstance(source, str):
            source = (await SavedSource.open(scenario(source))).source
        work = Workplace(self.directory)
        async with (
            Containerd.connect(self.peer.config(self.name, snapshotter)) as connection,
            connection.leased() as store,
        ):
            context = replace(await work.context(), store=store)
            result = await run_export(Registry().get(exporter)(attrs), source, context)
        self.statuses = work.status_ids()
        assert not work.unfinished()
        return result

    def ctr(self, *words: str) -> str:
        return self.peer.ctr(self.name, *words)

    def images(self) -> dict[str, str]:
        """Digests by name."""
        rows = self.peer.rows(self.name, "images", "ls")
        return {row.split()[0]: row.split()[2] for row in rows}

    def check(self) -> dict[str, str]:
        """The completeness of each image, as `ctr` reports it."""
        rows = self.peer.rows(self.name, "images", "check")
        return {row.split()[0]: row.split()[3] for row in rows}

    def blobs(self) -> set[str]:
        return self.peer.keys(self.name, "content", "ls")

    def labels(self, digest: str) -> dict[str, str]:
        return self.peer.labels(self.name, digest)

    def leases(self) -> set[str]:
        return self.peer.keys(self.name, "leases", "ls")

    def writes(self) -> set[str]:
        return self.peer.keys(self.name, "content", "active")

    def snapshots(self, snapshotter: str = "overlayfs") -> dict[str, str]:
        """Kinds by key."""
        rows = self.peer.rows(self.name, "snapshots", "--snapshotter", snapshotter, "ls")
        return {row[:71].strip(): row.split()[-1] for row in rows}

    def collect(self) -> None:
        self.peer.collect(self.name)


class PausingProvider:
    """Pauses in the middle of one blob until the test resumes it.

    Attributes:
        reached: Set when it has stopped.
        go_on: Set by the test.
        error: Raised then, if not None.
    """

    def __init__(self, provider: Provider, digest: str) -> None:
        self.reached = asyncio.Event()
        self.go_on = asyncio.Event()
        self.error: Exception | None = None
        self._provider = provider
        self._digest = digest

    async def info(self, digest: str) -> BlobInfo:
        return await self._provider.info(digest)

    async def read(self, digest: str, *, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        data = b"".join([piece async for piece in self._provider.read(digest, offset=offset, length=length)])
        if digest == self._digest:
            yield data[: len(data) // 2]
            self.reached.set()
            await self.go_on.wait()
            if self.error is not None:
                raise self.error
            data = data[len(data) // 2 :]
        yield data


@dataclass
class PausedExport:
    """An export that has written all of its layers but half of one."""

    provider: PausingProvider
    task: asyncio.Task[ExportResult]

    @classmethod
    async def begin(cls, place: Namespace, slow: bytes, others: Sequence[bytes]) -> PausedExport:
        """Begin an export under the name ``a``.

        Args:
            place: Where to.
            slow: The layer in which it pauses.
            others: The layers below.
        """
        store = MemoryStore()
        for layer in (*others, slow):
            await write_blob(store, layer)
        provider = PausingProvider(store, digest_bytes(slow))
        ref = make_ref([FakeLayer(layer) for layer in (*others, slow)], provider=provider)
        source = Source(ref=ref, metadata={"containerimage.config": CONFIG})
        export = cls(provider, asyncio.create_task(place.export(source, {"name": "a"})))
        reached = asyncio.create_task(provider.reached.wait())
        await asyncio.wait([reached, export.task], return_when=asyncio.FIRST_COMPLETED)
        if not reached.done():
            reached.cancel()
            raise AssertionError("the export did not get to its pause") from export.task.exception()
        written = {digest_bytes(layer) for layer in others}
        while not written <= place.blobs():  # noqa: ASYNC110 - containerd tells nobody
            await asyncio.sleep(0.01)
        return export

    async def finish(self) -> ExportResult:
        """Let it continue to its end."""
        self.provider.go_on.set()
        return await self.task
