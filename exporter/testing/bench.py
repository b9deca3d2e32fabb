"""A workbench for running exports."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from exporter.content.images import ImageStore
from exporter.content.layout import OCILayout
from exporter.content.threads import run_in_thread
from exporter.engine.engine import Engine, ExportJob
from exporter.engine.finalize import FinalizeStore
from exporter.engine.hooks import DEFAULT_TIMEOUT, Hooks
from exporter.engine.limits import Admission
from exporter.engine.scratch import ScratchSpace
from exporter.exporters.base import Exporter
from exporter.exporters.destinations import Output, Pusher
from exporter.image import Descriptor
from exporter.remotes.registry import RegistryOptions
from exporter.source.saved.load import SavedSource
from exporter.source.types import BuildInfo, Source
from exporter.takeover.vertex import vertex_digest
from exporter.testing.output import MemoryOutput
from exporter.testing.progress import ProgressLog

_TOKEN_SECONDS = 24 * 3600.0
_SESSION = "testing"


@dataclass(slots=True)
class Run:
    """A successful export.

    Attributes:
        response: The response keys, including those that `Workbench.finalize` has added.
        descriptor: The root of the artifact, if it is an image.
        output: The output that the client received.
        progress: The progress, including that of the finalizer.
        token: The token for publishing; empty if there is nothing to publish.
        store: The image store of the export.
    """

    response: dict[str, str]
    descriptor: Descriptor | None
    output: MemoryOutput
    progress: ProgressLog
    token: str = ""
    store: OCILayout | None = None


class Workbench:
    """Runs exporters like the command line and the server, one at a time; created by `open`.

    Attributes:
        store: The image store of the exports (`ExportContext.store`).
        images: Images by ID (`ExportContext.images`).
    """

    def __init__(self, store: OCILayout, images: ImageStore, engine: Engine, tokens: FinalizeStore) -> None:
        self.store = store
        self.images = images
        self._engine = engine
        self._tokens = tokens
        self._exports = 0

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        root: Path | None = None,
        *,
        pusher: Pusher | None = None,
        hooks: Mapping[str, str] | None = None,
        hook_timeout: float = DEFAULT_TIMEOUT,
    ) -> AsyncIterator[Workbench]:
        """Prepare stores and scratch space. At the end, unpublished results are dropped.

        Args:
            root: An empty directory for them; None for a temporary one.
            pusher: Receives images to push, such as a `MemoryRegistry`. None for the built-in client, which
                needs a network.
            hooks: The operator's hooks, for ``before-publish``: shell commands by name.
            hook_timeout: Seconds that a hook may take.
        """
        async with AsyncExitStack() as stack:
            if root is None:
                temporary = tempfile.TemporaryDirectory(prefix="buildkit-exporter-testing-")
                stack.push_async_callback(run_in_thread, temporary.cleanup)
                root = Path(temporary.name)
            store = await OCILayout.open(root / "store")
            images = ImageStore(root / "images", store)
            tokens = FinalizeStore(_TOKEN_SECONDS)
            stack.push_async_callback(tokens.close)

            @asynccontextmanager
            async def open_store() -> AsyncIterator[OCILayout]:
                yield store

            async def check_store() -> None:
                """The store is there."""

            engine = Engine(
                open_store=open_store,
                check_store=check_store,
                open_images=lambda: nullcontext(images),
                scratch=await stack.enter_async_context(ScratchSpace.open(root)),
                admission=Admission(running=1, waiting=0),
                tokens=tokens,
                pusher=pusher,
                hooks=Hooks(hooks or {}, hook_timeout),
            )
            yield cls(store, images, engine, tokens)

    async def export(
        self,
        exporter: Exporter,
        source: Source | SavedSource,
        *,
        build: BuildInfo | None = None,
        takes_files: bool = True,
        output: Output | None = None,
        progress: ProgressLog | None = None,
    ) -> Run:
        """Run an export.

        Args:
            exporter: The exporter, with its attributes.
            source: What to export.
            build: Facts about the build; those of the saved source if None.
            takes_files: Whether the client accepts files; if not, `ExportContext.output` is None.
            output: Receives the files; None for `Run.output`.
            progress: Receives the progress, for inspection after a failure.

        Raises:
            ExporterError: the export failed.
            FailedPreconditionError: the exporter has not created what its type promises.
            PluginError: it has raised something other than an error of `exporter`.
        """
        if isinstance(source, SavedSource):
            build = build or source.build
            source = source.source
        progress = progress if progress is not None else ProgressLog()
        kept = MemoryOutput()
        self._exports += 1

        async def find_output() -> Output | None:
            return (output or kept) if takes_files else None

        async with AsyncExitStack() as resources:
            job = ExportJob(
                exporter=exporter,
                index=self._exports,
                vertex_digest=vertex_digest(_SESSION, self._exports),
                source=source,
                build=build or BuildInfo(session_id=_SESSION),
                find_output=find_output,
                credentials=RegistryOptions().credentials,
                resources=resources,
            )
            outcome = await self._engine.export(job, progress)
        result = outcome.result
        return Run(dict(result.response), result.descriptor, kept, progress, outcome.token, self.store)

    async def finalize(self, run: Run) -> None:
        """Publish an export's results, as after a build whose exports have all succeeded.

        It can be retried after a failure. Without a finalizer, it is a no-op.

        Raises:
            ExporterError: publishing failed.
            PluginError: the finalizer has raised something other than an error of `exporter`.
        """
        if run.token:
            run.response.update(await self._engine.finalize(run.token, run.progress))

    async def discard(self, run: Run) -> None:
        """Discard an export's results, as after a build in which another export has failed."""
        if run.token:
            await self._tokens.discard(run.token)
