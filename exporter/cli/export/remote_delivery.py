"""Receiving the artifact of an output from a server, through a session."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from exporter.cli.export.delivery import OutputPlace, output_place
from exporter.cli.outputs import Destination as OutputDestination
from exporter.cli.outputs import Output
from exporter.daemon.services.receive import FileReceiver, FileSendServicer, LayoutReceiver
from exporter.daemon.services.receive_directory import DirectoryReceiver, ReceivedDirectory
from exporter.exporters.base import ArtifactKind
from exporter.exporters.response import image_names
from exporter.progress.model import StatusSink
from exporter.takeover.backend import Destination, Exported


class RemoteDelivery:
    """See `Delivery`. Created by `open`.

    After a successful export, a file moves to its destination, or an image is added to the layout's index.
    """

    def __init__(self, index: int, output: Output, sink: StatusSink, artifact: ArtifactKind) -> None:
        self._index = index
        self._place: OutputPlace | None = None
        self._files = FileReceiver({})
        self._layout: LayoutReceiver | None = None
        directories: dict[int, ReceivedDirectory] = {}
        destination = output.destination
        if isinstance(destination, OutputDestination) and destination.is_directory:
            path = Path(destination.path)
            if artifact is ArtifactKind.FILES:
                directories[index] = ReceivedDirectory.of(path, output.attrs)
            else:
                self._layout = LayoutReceiver(path)
        elif destination is not None:
            self._place = output_place(destination, sink)
            self._files = FileReceiver({index: self._place.output})
        handlers = self._files.handlers | DirectoryReceiver(directories).handlers
        files = (FileSendServicer(handlers).register,) if handlers else ()
        self.destination = Destination(files=files, layout=self._layout)

    @classmethod
    @asynccontextmanager
    async def open(
        cls, index: int, output: Output, sink: StatusSink, artifact: ArtifactKind
    ) -> AsyncIterator[RemoteDelivery]:
        """Prepare a delivery. It is dropped unless it is committed.

        Args:
            index: The index of the output among all outputs of the command.
            output: The output.
            sink: Receives the progress of loading.
            artifact: The kind of artifact that the exporter creates.
        """
        delivery = cls(index, output, sink, artifact)
        try:
            yield delivery
        finally:
            await delivery._files.close()

    @property
    def response(self) -> Mapping[str, str]:
        """See `Delivery.response`."""
        return self._place.response if self._place is not None else {}

    async def commit(self, exported: Exported) -> None:
        """See `Delivery.commit`. A layout's ``index.json`` is written by the client, not by the server."""
        await self._files.commit(self._index)
        if self._layout is not None and exported.descriptor is not None:
            await self._layout.publish(exported.descriptor, image_names(exported.response))
