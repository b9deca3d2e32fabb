"""Running exports, from a validated request to a result, and from a finalize token to publication."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, ExitStack
from dataclasses import dataclass, field, replace

from exporter.content.documents import Document, documents_of
from exporter.content.images import ImageStore
from exporter.engine.finalize import FinalizeStore, Work
from exporter.engine.gate import Gate
from exporter.engine.hooks import Hooks
from exporter.engine.limits import Admission
from exporter.engine.promise import WatchedOutput
from exporter.engine.scratch import ScratchSpace
from exporter.exporters.attended import attended
from exporter.exporters.attribute_check import misspelt
from exporter.exporters.attribute_help import COMMON_ATTRIBUTES
from exporter.exporters.base import ExportContext, Exporter, ExportResult, Finalize, FinalizeContext
from exporter.exporters.blocking import run_export
from exporter.exporters.destinations import NamedStore, Output, Pusher
from exporter.exporters.plugins import blaming, origin_of
from exporter.layer.cache import LayerCache
from exporter.layer.limits import MAX_CONTENT_BYTES
from exporter.progress.model import StatusSink
from exporter.progress.producer import VertexProgress, vertex
from exporter.remotes.registry import CredentialSource, RegistryOptions, RegistryPuller
from exporter.remotes.registry.options import RegistryHost
from exporter.remotes.registry.pusher import RegistryPusher
from exporter.source.types import BuildInfo, Source

OpenStore = Callable[[], AbstractAsyncContextManager[NamedStore]]
"""Opens the image store for an export, and releases it after the export."""

OpenImages = Callable[[], AbstractAsyncContextManager[ImageStore]]
"""Opens the store of images by ID for an export, and releases it after the export."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportJob:
    """A requested export.

    Attributes:
        exporter: The exporter, resolved with its attributes.
        index: Its index among all exporters of the build.
        vertex_digest: The digest of the export's vertex; empty if the receiver of the progress fills it in.
        source: The build result.
        build: Information about the build.
        find_output: Finds the destination of files for the client; returns None if the client accepts none.
        credentials: The credentials for registries of the client that asked for the export.
        registries: How to reach registries, by host; only for this export.
        keeps_documents: Whether the caller wants the documents of an image.
        resources: Closed after the export or, if it issues a finalize token, with the token.
    """

    exporter: Exporter
    index: int
    vertex_digest: str
    source: Source
    build: BuildInfo
    find_output: Callable[[], Awaitable[Output | None]]
    credentials: CredentialSource
    resources: AsyncExitStack
    registries: Mapping[str, RegistryHost] = field(default_factory=dict)
    keeps_documents: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of an export.

    Attributes:
        result: What the exporter returned.
        token: For `Engine.finalize`; empty if there is nothing to finalize.
        documents: The documents of the image, if the job asks for them.
    """

    result: ExportResult
    token: str = ""
    documents: tuple[Document, ...] = ()


class Engine:
    """Runs exports.

    Args:
        open_store: Opens the image store for an export.
        check_store: Raises an error if the store cannot be used.
        open_images: Opens the store of images by ID for an export.
        scratch: Creates the exports' scratch directories.
        admission: Limits the number of concurrent exports.
        tokens: Keeps exports that wait to be published.
        layer_cache: The cache of converted layers; None for no cache.
        registries: How to access registries; the credentials, and the tokens, are those of each export.
        pusher: Pushes images instead of the built-in client; for tests.
        max_content_bytes: See `ExportContext`.
        hooks: The operator's hooks.
    """

    def __init__(
        self,
        *,
        open_store: OpenStore,
        check_store: Callable[[], Awaitable[object]],
        open_images: OpenImages,
        scratch: ScratchSpace,
        admission: Admission,
        tokens: FinalizeStore,
        layer_cache: LayerCache | None = None,
        registries: RegistryOptions | None = None,
        pusher: Pusher | None = None,
        max_content_bytes: int = MAX_CONTENT_BYTES,
        hooks: Hooks | None = None,
    ) -> None:
        self._open_store = open_store
        self._check_store = check_store
        self._open_images = open_images
        self._scratch = scratch
        self._admission = admission
        self._tokens = tokens
        self._layer_cache = layer_cache
        self._registries = registries or RegistryOptions()
        self._pusher = pusher
        self._max_content_bytes = max_content_bytes
        self._hooks = hooks or Hooks()

    async def check(self, exporter: Exporter) -> None:
        """Check before the build that an exporter has what it needs.

        Raises:
            FailedPreconditionError, OSError: its images cannot be stored.
            InvalidArgumentError: it asks for a hook that does not exist.
        """
        self._hooks.of(exporter)
        if exporter.needs_store:
            await self._check_store()

    async def export(self, job: ExportJob, sink: StatusSink) -> Outcome:
        """Run an export, and report it to `sink` as a vertex."""
        with vertex(sink, job.vertex_digest, job.exporter.name) as progress:
            async with AsyncExitStack() as slot, job.resources as resources:
                with ExitStack() as line:
                    await slot.enter_async_context(self._admission.slot(_in_line(progress, line)))
                kind = type(job.exporter)
                hook = self._hooks.of(job.exporter)
                _warn(job.exporter, progress)
                found = await job.find_output()
                output = WatchedOutput(found) if found is not None else None
                context = ExportContext(
                    build=job.build,
                    progress=progress,
                    store=await job.resources.enter_async_context(self._open_store()),
                    images=await job.resources.enter_async_context(self._open_images()),
                    scratch=await resources.enter_async_context(self._scratch.directory()),
                    output=output,
                    layer_cache=self._layer_cache,
                    pusher=self._pusher or RegistryPusher(self._registries_of(job)),
                    puller=RegistryPuller(self._registries_of(job)),
                    max_content_bytes=self._max_content_bytes,
                )
                gate = None if hook is None else Gate(hook, job.exporter, job.source, context)
                if gate is not None:
                    context = gate.gated()
                with blaming(kind), attended(kind, progress):
                    result = await run_export(job.exporter, job.source, context)
                    if not isinstance(result, ExportResult):
                        raise TypeError(f"export returned {result!r}, not an ExportResult")
                    if not all(isinstance(text, str) for pair in result.response.items() for text in pair):
                        raise TypeError(f"the response must contain only strings: {result.response!r}")
                if output is not None:
                    output.check(job.exporter)
                if gate is not None:
                    await gate.for_result()  # before a finalizer that publishes by means of its own
                documents = await _documents(result) if job.keeps_documents else ()
                if result.finalize is None:
                    return Outcome(result, documents=documents)
                work = _finalizing(kind, result.finalize, job.vertex_digest, job.exporter.name)
                token = self._tokens.add(job.exporter.type, work, resources.pop_all())
                return Outcome(result, token, documents)

    def _registries_of(self, job: ExportJob) -> RegistryOptions:
        """Access to registries with the credentials of whom an export is for; with tokens of its own."""
        return replace(self._registries, credentials=job.credentials, hosts=job.registries)

    async def finalize(self, token: str, sink: StatusSink) -> Mapping[str, str]:
        """Publish the artifact of an export; see `FinalizeStore.run`."""
        return await self._tokens.run(token, sink)


async def _documents(result: ExportResult) -> tuple[Document, ...]:
    """The documents of an image that the exporter provides."""
    root = result.descriptor
    return () if root is None or result.provider is None else await documents_of(result.provider, root)


def _in_line(progress: VertexProgress, line: ExitStack) -> Callable[[int], None]:
    """Report that the export waits, until `line` is closed."""

    def on_wait(ahead: int) -> None:
        line.enter_context(progress.status(f"waiting for other exports ({ahead} ahead in line)"))

    return on_wait


def _warn(exporter: Exporter, progress: VertexProgress) -> None:
    """Report probable mistakes as warnings under the export's vertex, as BuildKit does with its own."""
    kind = type(exporter)
    for name, meant in misspelt((*kind.attributes, *COMMON_ATTRIBUTES), exporter.attrs):
        progress.warn(f"type={kind.type} has no attribute {name}: did you mean {meant}?")
    origin = origin_of(kind)
    for text in origin.warnings if origin is not None else ():
        progress.warn(text)


def _finalizing(kind: type[Exporter], finalize: Finalize, digest: str, name: str) -> Work:
    """Wrap a finalizer to report under the export's vertex, which starts again, as in BuildKit."""

    async def work(sink: StatusSink) -> Mapping[str, str]:
        with vertex(sink, digest, name) as progress, blaming(kind), attended(kind, progress):
            return await finalize(FinalizeContext(progress=progress))

    return work
