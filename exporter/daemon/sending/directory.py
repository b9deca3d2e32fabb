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
        exporter_id: The index of the exporter, which selects the client's output.
        entries: The files, in order.
        all_at_once: Whether this is the only transfer for the output.
        on_sent: Called with the number of bytes sent.

    Raises:
        FailedPreconditionError: the client does not accept files, or cannot write them.
        UnavailableError: the client has disconnected.
    """
    if not session.supports(METHOD):
        raise FailedPreconditionError(
            f"method {METHOD} not supported by the client: it takes no files; name a destination there"
        )
    headers = [(EXPORTER_ID, str(exporter_id))]
    if all_at_once:
        headers.append((ALL_AT_ONCE, "1"))
    # The messages have a different type than the method declares.
    call: grpc.aio.StreamStreamCall[bytes, bytes] = session.channel.stream_stream(METHOD)(metadata=headers)
    try:
        stream = CallStream(call, "sending files to the client")
        await send_directory(stream, entries, on_sent)
        await stream.finish()
    finally:
        call.cancel()
