"""The destination of an export's files: the client, or a directory that the operator provides."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import grpc
import grpc.aio

from exporter.daemon.sending.output import SessionOutput
from exporter.daemon.services.receive import FileReceiver, FileSendServicer, LayoutReceiver
from exporter.daemon.services.receive_directory import DirectoryReceiver, ReceivedDirectory
from exporter.errors import InvalidArgumentError, PermissionDeniedError
from exporter.exporters.base import ArtifactKind
from exporter.exporters.destinations import FileSink
from exporter.exporters.files.entry import FileEntry
from exporter.exporters.output import LocalOutput
from exporter.exporters.response import image_names, image_root
from exporter.remotes.session.content import EXPORT_STORE, STORE_ID, ContentClient
from exporter.rpc.forward import forward
from exporter.rpc.session.peer import Peer
from exporter.takeover.backend import Destination, Exported, Resolved
from exporter.takeover.plan import PlannedExport
from exporter.takeover.session_client import (
    CONTENT_WRITE_METHOD,
    FILE_SEND_METHOD,
    FILE_SEND_SERVICE,
    SessionClient,
)

DESTINATION_ATTRIBUTE = "proxy-dest"
"""The attribute for a path below the proxy's output directory. Clients reject ``dest`` for unknown types."""

_FILE_TYPES = frozenset({"docker", "oci", "tar", "local"})
"""Types for which BuildKit's clients accept files."""

_FILE_KINDS = frozenset({ArtifactKind.ARCHIVE, ArtifactKind.FILES})


class Delivery(Protocol):
    """The delivery of one export's files."""

    @property
    def destination(self) -> Destination:
        """The destination for the backend."""
        ...

    async def commit(self, exported: Exported) -> None:
        """Keep the received files, because the export has succeeded."""
        ...


def check_destination(
    export: PlannedExport, resolved: Resolved, output_dir: Path | None
) -> str | ReceivedDirectory | None:
    """Determine where an export's files go on the proxy's machine; None if they do not go there.

    Args:
        export: The export, which may name a path.
        resolved: Says whether it creates a file or a directory.
        output_dir: The directory that the operator provides.

    Raises:
        PermissionDeniedError: the operator does not provide a directory.
        InvalidArgumentError: the path is outside of it, or there is no destination for the files at all.
    """
    field = f"attrs[{DESTINATION_ATTRIBUTE}]"
    name = export.attrs.get(DESTINATION_ATTRIBUTE)
    if name is None:
        if resolved.artifact in _FILE_KINDS and export.client_type not in _FILE_TYPES:
            raise InvalidArgumentError(
                f"type={export.client_type} makes files, and clients take none of a type that they do not "
                f"know; name a place below the --output-dir of the proxy by {DESTINATION_ATTRIBUTE}=PATH",
                field=field,
            )
        return None
    if output_dir is None:
        raise PermissionDeniedError(
            f"{DESTINATION_ATTRIBUTE}: the operator of the proxy has set no directory aside for files "
            "(--output-dir)",
            field=field,
        )
    root = output_dir.resolve()
    path = (root / name).resolve()
    if not name or path == root or not path.is_relative_to(root):
        raise InvalidArgumentError(
            f"{DESTINATION_ATTRIBUTE}: {name!r} is not a path below {root}", field=field
        )
    if resolved.artifact == ArtifactKind.FILES:
        return ReceivedDirectory(path)  # other files in it stay, even if the client asks to delete them
    return str(path)


@asynccontextmanager
async def delivering(
    export: PlannedExport, client: SessionClient | None, place: str | ReceivedDirectory | None
) -> AsyncIterator[Delivery]:
    """Prepare the delivery of an export's files. At the end, uncommitted files are dropped.

    Args:
        export: The export.
        client: Receives the files, if it can and no path was given.
        place: See `PlannedExport`.
    """
    if isinstance(place, ReceivedDirectory):
        yield _TreeDelivery(export.index, place)
    elif place is not None:
        delivery = _LocalDelivery(export.index, place)
        try:
            yield delivery
        finally:
            await delivery.close()
    elif client is None or export.client_type not in _FILE_TYPES:
        yield _NoDelivery()
    else:
        async with client.channel() as channel:
            yield _ClientDelivery(export.index, client, channel)


class _NoDelivery:
    """The client does not accept files from this export."""

    destination = Destination()

    async def commit(self, exported: Exported) -> None:
        """Do nothing: there are no files."""


class _TreeDelivery:
    """Files go into a directory of this machine as they arrive."""

    def __init__(self, index: int, directory: ReceivedDirectory) -> None:
        receiver = DirectoryReceiver({index: directory})
        files = (FileSendServicer(receiver.handlers).register,)
        self.destination = Destination(_DirectoryOutput(directory), files)

    async def commit(self, exported: Exported) -> None:
        """Do nothing: the files are in place already."""


class _HeldOutput(LocalOutput):
    """A file that appears at its destination only after the whole export has succeeded, or a layout."""

    def __init__(self, dest: str) -> None:
        super().__init__(dest)
        self._held: tuple[FileSink, AsyncExitStack] | None = None

    @asynccontextmanager
    async def file(self, response: Mapping[str, str]) -> AsyncIterator[FileSink]:
        """See `Output.file`."""
        async with AsyncExitStack() as stack:
            sink = _HeldSink(await stack.enter_async_context(super().file(response)))
            yield sink
            if sink.is_committed:
                await self.close()
                self._held = (sink.sink, stack.pop_all())

    async def commit(self) -> None:
        """Move the file to its destination, if there is a file."""
        if self._held is not None:
            (sink, stack), self._held = self._held, None
            async with stack:
                await sink.commit()

    async def close(self) -> None:
        """Drop a file that was not committed."""
        if self._held is not None:
            (_, stack), self._held = self._held, None
            await stack.aclose()


class _HeldSink:
    def __init__(self, sink: FileSink) -> None:
        self.sink = sink
        self.is_committed = False

    async def write(self, data: bytes) -> None:
        await self.sink.write(data)

    async def commit(self) -> None:
        self.is_committed = True


class _DirectoryOutput(LocalOutput):
    """A directory in which files are only deleted if its owner allows that, too."""

    def __init__(self, directory: ReceivedDirectory) -> None:
        super().__init__(str(directory.path))
        self._may_delete = directory.delete

    async def directory(
        self,
        entries: Iterable[FileEntry],
        *,
        delete: bool = False,
        on_sent: Callable[[int], None] | None = None,
    ) -> None:
        """See `Output.directory`."""
        await super().directory(entries, delete=delete and self._may_delete, on_sent=on_sent)


@dataclass(frozen=True, slots=True)
class _Peer:
    """A client that is reached through a channel."""

    client: SessionClient
    channel: grpc.aio.Channel

    def supports(self, method: str) -> bool:
        return self.client.supports(method)


class _ClientDelivery:
    """Files go to the client, like those of the daemon's own exporters."""

    def __init__(self, index: int, client: SessionClient, channel: grpc.aio.Channel) -> None:
        self._index = index
        self._client = client
        self._channel = channel

    @property
    def destination(self) -> Destination:
        layout = None
        if self._client.supports(CONTENT_WRITE_METHOD):
            layout = ContentClient(self._channel, metadata=((STORE_ID, EXPORT_STORE),))
        files = (self._register,) if self._client.supports(FILE_SEND_METHOD) else ()
        return Destination(SessionOutput(self._find, self._index, _ignore), files, layout)

    async def _find(self) -> Peer:
        return _Peer(self._client, self._channel)

    async def commit(self, exported: Exported) -> None:
        """Do nothing: the client has its file, and updates a layout's index itself."""

    def _register(self, server: grpc.aio.Server) -> None:
        async def send(request: object, context: grpc.aio.ServicerContext[Any, Any]) -> None:
            await forward(self._channel, FILE_SEND_METHOD, context)

        handlers: dict[str, Any] = {"DiffCopy": grpc.stream_stream_rpc_method_handler(send)}
        generic = grpc.method_handlers_generic_handler(FILE_SEND_SERVICE, handlers)
        server.add_generic_rpc_handlers((generic,))
        server.add_registered_method_handlers(FILE_SEND_SERVICE, handlers)


class _LocalDelivery:
    """Files go to a path of this machine."""

    def __init__(self, index: int, place: str) -> None:
        self._index = index
        self._output = _HeldOutput(place)
        self._receiver = FileReceiver({index: place})
        self._layout = LayoutReceiver(Path(place))

    @property
    def destination(self) -> Destination:
        files = (FileSendServicer(self._receiver.handlers).register,)
        return Destination(self._output, files, self._layout)

    async def commit(self, exported: Exported) -> None:
        await self._output.commit()
        await self._receiver.commit(self._index)
        if self._layout.is_used:
            root = exported.descriptor or image_root(exported.response)
            await self._layout.publish(root, image_names(exported.response))

    async def close(self) -> None:
        """Drop a file that was not kept."""
        await self._output.close()
        await self._receiver.close()


def _ignore(amount: int) -> None:
    """Do nothing: the progress reports it."""
