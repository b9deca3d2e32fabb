"""Exporting on a running server, in the place of a daemon."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import grpc.aio

from exporter.cli.client import ServerAccess, connect, list_exporters
from exporter.cli.descriptions import ExporterDescription
from exporter.cli.export.backend import Exported
from exporter.cli.export.delivery import Delivery
from exporter.cli.failures import UsageError
from exporter.cli.outputs import Destination, Output, attributes_of
from exporter.daemon.services.content import ContentServicer
from exporter.daemon.services.receive import FileReceiver, FileSendServicer, LayoutReceiver
from exporter.daemon.services.receive_directory import DirectoryReceiver, ReceivedDirectory
from exporter.daemon.services.refs import RefServicer
from exporter.errors import NotFoundError
from exporter.exporters.base import ArtifactKind
from exporter.image.keys import IMAGE_NAME
from exporter.pb.buildkit.exporter.v1 import exporter_pb2, exporter_pb2_grpc
from exporter.progress.model import StatusSink, StatusUpdate
from exporter.remotes.messages.layers import descriptor_of
from exporter.remotes.messages.results import build_message, refs_of, source_message
from exporter.remotes.session.content import EXPORT_STORE
from exporter.rpc.session.attach import Attachable, attach
from exporter.rpc.status import rpc_errors
from exporter.source.saved.load import SavedSource
from exporter.takeover.plugin_calls import follow_call

_SESSION_NAME = "buildkit-exporter export"


class RemoteBackend:
    """See `Backend`. Made by `connect`."""

    def __init__(
        self,
        saved: SavedSource,
        channel: grpc.aio.Channel,
        descriptions: Sequence[ExporterDescription],
        stack: AsyncExitStack,
    ) -> None:
        self._saved = saved
        self._channel = channel
        self._stub = exporter_pb2_grpc.ExporterServiceStub(channel)
        self._descriptions = {description.type: description for description in descriptions}
        self._stack = stack
        self._outputs: Sequence[Output] = ()
        self._files = FileReceiver({})
        self._layouts: dict[int, LayoutReceiver] = {}
        self._deliveries: dict[int, Delivery] = {}
        self._sink: StatusSink = lambda _: None
        self._session_id = ""

    @classmethod
    @asynccontextmanager
    async def connect(cls, saved: SavedSource, access: ServerAccess) -> AsyncIterator[RemoteBackend]:
        """Connect to a server.

        Raises:
            UnavailableError: it cannot be reached.
        """
        async with connect(access) as channel, AsyncExitStack() as stack:
            yield cls(saved, channel, await list_exporters(channel, access), stack)

    async def describe(self, exporter_type: str) -> ExporterDescription:
        """See `Backend.describe`."""
        if exporter_type not in self._descriptions:
            types = ", ".join(sorted(self._descriptions))
            raise NotFoundError(f'exporter "{exporter_type}" could not be found (the server has: {types})')
        return self._descriptions[exporter_type]

    async def resolve(self, outputs: Sequence[Output]) -> None:
        """See `Backend.resolve`. Attaches the session, too."""
        for index, output in enumerate(outputs):
            with attributes_of(output), rpc_errors():
                await self._stub.Resolve(
                    exporter_pb2.ResolveRequest(id=index, type=output.type, attrs=dict(output.attrs))
                )
        self._outputs = outputs
        attachment = await self._stack.enter_async_context(
            attach(self._channel, self._attachables(outputs), name=_SESSION_NAME)
        )
        self._session_id = attachment.id

    def _attachables(self, outputs: Sequence[Output]) -> list[Attachable]:
        refs = RefServicer(refs_of(self._saved.source))
        directories: dict[int, ReceivedDirectory] = {}
        for index, output in enumerate(outputs):
            if isinstance(output.destination, Destination) and output.destination.is_directory:
                path = Path(output.destination.path)
                if self._descriptions[output.type].artifact is ArtifactKind.FILES:
                    directories[index] = ReceivedDirectory.of(path, output.attrs)
                else:
                    self._layouts[index] = LayoutReceiver(path)
            elif output.destination is not None:
                self._deliveries[index] = Delivery(output.destination, self._report)
        if len(self._layouts) > 1:
            raise UsageError(
                "a session has room for one directory: with --addr only one output may have tar=false"
            )
        stores = {EXPORT_STORE: next(iter(self._layouts.values()))} if self._layouts else {}
        attachables: list[Attachable] = [refs.register, ContentServicer(refs.provider, stores).register]
        self._files = FileReceiver({key: item.output for key, item in self._deliveries.items()})
        self._stack.push_async_callback(self._files.close)
        handlers = self._files.handlers | DirectoryReceiver(directories).handlers
        if handlers:
            attachables.append(FileSendServicer(handlers).register)
        return attachables

    async def export(self, index: int, sink: StatusSink) -> Exported:
        """See `Backend.export`."""
        output = self._outputs[index]
        self._sink = sink
        request = exporter_pb2.ExportRequest(
            id=index,
            type=output.type,
            attrs=dict(output.attrs),
            source=source_message(self._saved.source),
            build=build_message(self._saved.build, self._session_id),
        )
        try:
            message = await follow_call(self._stub.Export(request), sink, "the export")
        except BaseException:
            await self._files.drop(index)  # now, while there is someone to show it to
            raise
        result = message.result
        await self._files.commit(index)
        if index in self._layouts and result.HasField("descriptor"):
            await self._publish(self._layouts[index], result)
        delivered = self._deliveries[index].response if index in self._deliveries else {}
        return Exported({**result.response, **delivered}, result.finalize_token)

    async def finalize(self, index: int, token: str, sink: StatusSink) -> Mapping[str, str]:
        """See `Backend.finalize`."""
        request = exporter_pb2.FinalizeRequest(finalize_token=token)
        message = await follow_call(self._stub.Finalize(request), sink, "publishing")
        return dict(message.result.response)

    def _report(self, update: StatusUpdate) -> None:
        """Show what happens at a destination to who watches the export that is under way."""
        self._sink(update)

    async def _publish(self, layout: LayoutReceiver, result: exporter_pb2.ExportResult) -> None:
        """Enter the image into ``index.json``, which the server leaves to its client."""
        names = tuple(name for name in result.response.get(IMAGE_NAME, "").split(",") if name)
        await layout.publish(descriptor_of(result.descriptor, "result.descriptor"), names)
