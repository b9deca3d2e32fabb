"""The output to a client's ``dest=``, through its session as in BuildKit."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager

from exporter.content.protocol import ContentStore
from exporter.daemon.sending.directory import send_files
from exporter.daemon.sending.file import sending_file
from exporter.errors import FailedPreconditionError
from exporter.exporters.destinations import FileSink, LayoutSink
from exporter.exporters.files.entry import FileEntry
from exporter.image import Descriptor
from exporter.remotes.session.content import EXPORT_STORE, STORE_ID, ContentClient
from exporter.rpc.session.peer import Peer

CONTENT_WRITE_METHOD = "/containerd.services.content.v1.Content/Write"


class SessionOutput:
    """An output that sends files to the client.

    Args:
        find: Waits for the client.
        exporter_id: The index of the exporter, which selects the client's output.
        on_sent: Called with the number of bytes of files sent.
    """

    def __init__(
        self, find: Callable[[], Awaitable[Peer]], exporter_id: int, on_sent: Callable[[int], None]
    ) -> None:
        self._find = find
        self._exporter_id = exporter_id
        self._on_sent = on_sent

    @asynccontextmanager
    async def file(self, response: Mapping[str, str]) -> AsyncIterator[FileSink]:
        """See `Output.file`.

        Raises:
            UnavailableError: the client has not attached in time, or has disconnected.
            FailedPreconditionError: the client does not accept files.
        """
        session = await self._find()
        async with sending_file(session, self._exporter_id, response, self._on_sent) as sink:
            yield sink

    @asynccontextmanager
    async def layout(self) -> AsyncIterator[LayoutSink]:
        """See `Output.layout`.

        Raises:
            UnavailableError: the client has not attached in time.
            FailedPreconditionError: the client has no store for images.
        """
        session = await self._find()
        if not session.supports(CONTENT_WRITE_METHOD):
            raise FailedPreconditionError(
                f"method {CONTENT_WRITE_METHOD} not supported by the client: it has no directory for images"
            )
        yield _SessionLayout(ContentClient(session.channel, metadata=((STORE_ID, EXPORT_STORE),)))

    async def directory(
        self,
        entries: Iterable[FileEntry],
        *,
        delete: bool = False,
        on_sent: Callable[[int], None] | None = None,
    ) -> None:
        """See `Output.directory`. The client decides whether to delete other files.

        Raises:
            UnavailableError: the client has not attached in time, or has disconnected.
            FailedPreconditionError: the client does not accept files, or cannot write them.
        """

        def count(size: int) -> None:
            self._on_sent(size)
            if on_sent is not None:
                on_sent(size)

        session = await self._find()
        await send_files(session, self._exporter_id, entries, all_at_once=delete, on_sent=count)


class _SessionLayout:
    """The client's OCI layout. The client writes ``index.json`` itself, like BuildKit's clients."""

    def __init__(self, store: ContentStore) -> None:
        self.store = store

    async def publish(self, root: Descriptor, names: tuple[str, ...]) -> None:
        """Do nothing: the client adds the image to its index when it gets the export's response."""
