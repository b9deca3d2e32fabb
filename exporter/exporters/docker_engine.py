"""A Docker engine as the destination of ``type=docker``; pushing images from it."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager, suppress

from exporter.errors import InvalidArgumentError
from exporter.exporters.destinations import FileSink, LayoutSink
from exporter.exporters.files.entry import FileEntry
from exporter.progress.model import StatusSink
from exporter.progress.producer import Status, VertexProgress, vertex
from exporter.remotes.docker_engine import EngineAddress, LayerProgress
from exporter.remotes.docker_engine.engine import DockerEngine, ImageLoad, LoadedImage

__all__ = ["DockerEngineOutput", "push_from_engine"]


class DockerEngineOutput:
    """An `Output` that streams the archive into a Docker engine, without an intermediate file.

    This is what buildx does for ``type=docker`` without ``dest``; the vertex has the same name.

    Args:
        engine: The engine's address; None for the engine that the user's docker client uses.
        sink: Receives the progress of the engine's work, which has its own vertex.
    """

    def __init__(self, engine: EngineAddress | None = None, *, sink: StatusSink | None = None) -> None:
        self._engine = engine
        self._sink = sink or (lambda _: None)
        self.images: tuple[LoadedImage, ...] = ()
        """The images that the engine has loaded; set when the file is committed."""

    @asynccontextmanager
    async def file(self, response: Mapping[str, str]) -> AsyncIterator[FileSink]:
        """See `Output.file`. Only `commit` makes the engine load the image.

        The loaded images are reported as output of the vertex, in the words of ``docker load``.

        Raises:
            UnavailableError: there is no engine, or it went away. The archive cannot be resent.
            FailedPreconditionError: the engine rejects the archive.
        """
        async with DockerEngine(self._engine) as engine:
            with (
                suppress(_NotCommittedError),
                vertex(self._sink, _new_digest(), "importing to docker") as progress,
                ExitStack() as bars,
            ):
                async with engine.load(_Layers("loading", progress, bars).report) as load:
                    sink = _Sink(self, load, progress)
                    yield sink
                if not sink.is_committed:
                    raise _NotCommittedError("the export failed; nothing was loaded")

    def layout(self) -> AbstractAsyncContextManager[LayoutSink]:
        """See `Output.layout`.

        Raises:
            InvalidArgumentError: always.
        """
        raise InvalidArgumentError(
            "a Docker engine loads an archive, not a directory: omit tar=false", field="attrs[tar]"
        )

    async def directory(
        self,
        entries: Iterable[FileEntry],
        *,
        delete: bool = False,
        on_sent: Callable[[int], None] | None = None,
    ) -> None:
        """See `Output.directory`.

        Raises:
            InvalidArgumentError: always.
        """
        raise InvalidArgumentError("a Docker engine loads an archive of an image, not files")


async def push_from_engine(
    engine: DockerEngine, name: str, credentials: Mapping[str, str], sink: StatusSink
) -> str:
    """Tell an engine to push an image. The vertex has the same name as in buildx.

    Args:
        engine: The engine.
        name: The image's name.
        credentials: See `DockerEngine.push`.
        sink: Receives the progress.

    Returns:
        The digest of the manifest in the registry; empty if the engine does not report it.

    Raises:
        ExporterError, ImageError: see `DockerEngine.push`.
    """
    with vertex(sink, _new_digest(), f"pushing {name} with docker") as progress, ExitStack() as bars:
        return await engine.push(name, credentials, _Layers("pushing", progress, bars).report)


def _new_digest() -> str:
    """A random digest for a vertex of our own, which is unknown to the daemon."""
    return f"sha256:{hashlib.sha256(uuid.uuid4().bytes).hexdigest()}"


class _NotCommittedError(Exception):
    """Marks the vertex as failed. It does not propagate, because the caller has its own error."""


class _Sink:
    def __init__(self, output: DockerEngineOutput, load: ImageLoad, progress: VertexProgress) -> None:
        self._output = output
        self._load = load
        self._progress = progress
        self.is_committed = False

    async def write(self, data: bytes) -> None:
        await self._load.write(data)

    async def commit(self) -> None:
        await self._load.commit()
        self.is_committed = True
        self._output.images = self._load.images
        for image in self._load.images:
            named = f": {image.name} ({image.id})" if image.name else f" ID: {image.id}"
            self._progress.log(f"Loaded image{named}\n")


class _Layers:
    """Shows a status for each layer that the engine reports, until `bars` is closed."""

    def __init__(self, verb: str, progress: VertexProgress, bars: ExitStack) -> None:
        self._verb = verb
        self._progress = progress
        self._bars = bars
        self._statuses: dict[str, Status] = {}

    def report(self, layer: LayerProgress) -> None:
        if layer.layer not in self._statuses:
            status = self._progress.status(f"{self._verb} layer {layer.layer}", total=layer.total)
            self._statuses[layer.layer] = self._bars.enter_context(status)
        self._statuses[layer.layer].update(layer.current, layer.total)
