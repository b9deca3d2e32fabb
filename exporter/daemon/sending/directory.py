"""Sending a tree of files to the client (upstream: ``session/filesync``, ``CopyToCaller``)."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import grpc.aio

from exporter.daemon.fsutil.send import send_directory
from exporter.daemon.sending.file import METHOD
from exporter.daemon.services.receive import EXPORTER_ID
from exporter.daemon.services.receive_directory import ALL_AT_ONCE
from exporter.errors import FailedPreconditionError
from exporter.exporters.files.entry import FileEntry
from exporter.rpc.calls import CallStream
from exporter.rpc.session.peer import Peer


async def send_files(
    session: Peer,
    exporter_id: int,
    entries: Iterable[FileEntry],
    *,
    all_at_once: bool,
    on_sent: Callable[[int], None],
) -> None:
    """Send a tree of files into the client's directory.

    Args:
        session: The client.
        exporter_id: Index of the exporter; tells the client which of its outputs is meant.
        entries: The files, in order.
        all_at_once: Whether nothing else is sent for this output.
        on_sent: Told how many bytes have been sent.

    Raises:
        FailedPreconditionError: the client takes no files, or cannot write them.
        UnavailableError: it has gone.
    """
    if not session.supports(METHOD):
        raise FailedPreconditionError(
            f"method {METHOD} not supported by the client: it takes no files; name a destination there"
        )
    headers = [(EXPORTER_ID, str(exporter_id))]
    if all_at_once:
        headers.append((ALL_AT_ONCE, "1"))
    # The messages are of another type than the method says.
    call: grpc.aio.StreamStreamCall[bytes, bytes] = session.channel.stream_stream(METHOD)(metadata=headers)
    try:
        stream = CallStream(call, "sending files to the client")
        await send_directory(stream, entries, on_sent)
        await stream.finish()
    finally:
        call.cancel()
