"""Clamping the times in a layer's tar to an epoch, to the byte as BuildKit's ``rewrite-timestamp`` does."""

from __future__ import annotations

from collections.abc import Iterator

from exporter.layer.gotar import TarReader, TarTime, TarWriter
from exporter.layer.streams import PIECE_SIZE, Pieces, Readable, drain


def rewrite_times(source: Readable, epoch: int) -> Iterator[bytes]:
    """Copy a tar, moving modification, access and change times that lie after `epoch` to it.

    Every header is written anew by Go's rules, so that even a tar whose times are all early enough may change
    (BuildKit: ``tarconverter``). What follows the end of the archive is read, so that its digest is complete,
    and left out. A sparse file is filled up; one in GNU's old format keeps its kind nevertheless and can then
    no longer be read, which is a flaw of Go's writer that the diff ID depends on.

    Args:
        source: The tar, uncompressed.
        epoch: Unix seconds.

    Yields:
        The new tar, piece by piece.

    Raises:
        TarError: the tar is malformed, or a header cannot be written by Go's rules.
    """
    limit = TarTime(epoch)
    written = Pieces()
    reader, writer = TarReader(source), TarWriter(written)
    while (header := reader.next()) is not None:
        header.mod_time = _clamp(header.mod_time, limit)
        header.access_time = _clamp(header.access_time, limit)
        header.change_time = _clamp(header.change_time, limit)
        writer.write_header(header)
        yield written.take()
        while data := reader.read(PIECE_SIZE):
            writer.write(data)
            yield written.take()
    writer.close()
    yield written.take()
    drain(source)


def _clamp(time: TarTime, limit: TarTime) -> TarTime:
    return limit if time.after(limit) else time
