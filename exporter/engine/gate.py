"""Running a hook before anything of an export is published: files, names in stores, images in registries.

Exporters of images run it themselves, for the very image that they publish (`ExportContext.before_publish`).
For all others, the context's destinations run it before they accept anything.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from exporter.content.images import ImageStore
from exporter.content.protocol import ContentStore, Provider
from exporter.engine.hooks import Hook
from exporter.exporters.base import ExportContext, Exporter
from exporter.exporters.destinations import FileSink, LayoutSink, NamedStore, Output, Pusher, UnpackingStore
from exporter.image import Descriptor
from exporter.image.names import normalized_names, resolve_image_name
from exporter.image.options.attributes import NAME, SOURCE_DATE_EPOCH
from exporter.layer.entry import FileEntry
from exporter.progress.producer import VertexProgress
from exporter.source.types import Source

if TYPE_CHECKING:
    from exporter.remotes.registry import DistributionSources


class Gate:
    """Runs a hook once for each image of an export.

    Args:
        hook: The hook.
        exporter: The exporter.
        source: The build result.
        context: The context of the export, without a gate.
    """

    def __init__(self, hook: Hook, exporter: Exporter, source: Source, context: ExportContext) -> None:
        self._hook = hook
        self._exporter = exporter
        self._source = source
        self._context = context
        self._passed: set[str] = set()
        self._lock = asyncio.Lock()

    def gated(self) -> ExportContext:
        """The context for the exporter."""
        context = self._context
        store = context.store
        has_unpack = isinstance(store, UnpackingStore)
        return replace(
            context,
            hook=self,
            output=None if context.output is None else _Output(context.output, self),
            store=_UnpackingStore(store, self) if has_unpack else _Store(store, self),
            images=_Images(context.images, self),
            pusher=None if context.pusher is None else _Pusher(context.pusher, self),
        )

    async def __call__(
        self,
        root: Descriptor,
        provider: Provider,
        names: Sequence[str] = (),
        *,
        progress: VertexProgress | None = None,
    ) -> None:
        """Run the hook for an image, unless it has passed already.

        Raises:
            ExporterError: the hook fails, or takes too long.
        """
        async with self._lock:
            if root.digest in self._passed:
                return
            await self._hook.run(
                root,
                provider,
                names,
                exporter_type=self._exporter.type,
                scratch=self._context.scratch,
                progress=progress or self._context.progress,
            )
            self._passed.add(root.digest)

    async def for_result(self) -> None:
        """Run the hook for the image that BuildKit would make, unless it has run for one of the exporter.

        Raises:
            ExporterError: the hook fails, or the image cannot be made.
        """
        if self._passed:
            return
        attrs = self._exporter.attrs
        epoch = {key: attrs[key] for key in (SOURCE_DATE_EPOCH,) if key in attrs}
        names = normalized_names(resolve_image_name(attrs.get(NAME, ""), self._source.metadata))
        image = await self._context.image(self._source, epoch)
        await self(image.descriptor, image.provider, names)


class _Output:
    """See `Output`."""

    def __init__(self, output: Output, gate: Gate) -> None:
        self._output = output
        self._gate = gate

    @asynccontextmanager
    async def file(self, response: Mapping[str, str]) -> AsyncIterator[FileSink]:
        await self._gate.for_result()
        async with self._output.file(response) as sink:
            yield sink

    @asynccontextmanager
    async def layout(self) -> AsyncIterator[LayoutSink]:
        async with self._output.layout() as sink:
            yield _Layout(sink, self._gate)

    async def directory(
        self,
        entries: Iterable[FileEntry],
        *,
        delete: bool = False,
        on_sent: Callable[[int], None] | None = None,
    ) -> None:
        await self._gate.for_result()
        await self._output.directory(entries, delete=delete, on_sent=on_sent)


class _Layout:
    """See `LayoutSink`."""

    def __init__(self, sink: LayoutSink, gate: Gate) -> None:
        self._sink = sink
        self._gate = gate

    @property
    def store(self) -> ContentStore:
        return self._sink.store

    async def publish(self, root: Descriptor, names: tuple[str, ...]) -> None:
        await self._gate(root, self._sink.store, names)
        await self._sink.publish(root, names)


class _Store:
    """See `NamedStore`. Everything but names goes to the store as it is, including optional methods."""

    def __init__(self, store: NamedStore, gate: Gate) -> None:
        self._store = store
        self._gate = gate

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def info(self, digest: str) -> Any:
        return self._store.info(digest)

    def read(self, digest: str, *, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        return self._store.read(digest, offset=offset, length=length)

    def ingest(
        self, expected: Descriptor | None = None, *, labels: Mapping[str, str] | None = None
    ) -> AbstractAsyncContextManager[Any]:
        return self._store.ingest(expected, labels=labels)

    async def publish(
        self, descriptor: Descriptor, names: Sequence[str] = (), *, epoch: int | None = None
    ) -> None:
        await self._gate(descriptor, self._store, names)
        await self._store.publish(descriptor, names, epoch=epoch)


class _UnpackingStore(_Store):
    """See `UnpackingStore`."""

    async def unpack(self, root: Descriptor) -> None:
        assert isinstance(self._store, UnpackingStore)
        await self._store.unpack(root)


class _Images(ImageStore):
    """Images of moby's kind have no manifest, so the hook gets the image that BuildKit would make."""

    def __init__(self, images: ImageStore, gate: Gate) -> None:
        super().__init__(images.path, images.content)
        self._gate = gate

    async def create(self, config: bytes, layers: Sequence[Descriptor]) -> str:
        await self._gate.for_result()
        return await super().create(config, layers)

    async def tag(self, name: str, image_id: str) -> str:
        await self._gate.for_result()
        return await super().tag(name, image_id)


class _Pusher:
    """See `Pusher`."""

    def __init__(self, pusher: Pusher, gate: Gate) -> None:
        self._pusher = pusher
        self._gate = gate

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
        await self._gate(root, provider, [name], progress=progress)
        return await self._pusher(
            provider, root, name, by_digest=by_digest, insecure=insecure, sources=sources, progress=progress
        )
