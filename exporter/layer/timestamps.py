"""Clamping the times in a layer's tar to an epoch, to the byte as BuildKit's ``rewrite-timestamp`` does."""

from __future__ import annotations

from exporter.layer.gotar import TarReader, TarTime, TarWriter
from exporter.layer.gotar.reader import Source
from exporter.layer.gotar.writer import Sink

_COPY_SIZE = 1 << 20


def rewrite_times(source: Source, sink: Sink, epoch: int) -> None:
    """Copy a tar, moving modification, access and change times that lie after `epoch` to it.

    Every header is written anew by Go's rules, so that even a tar whose times are all early enough may
    change (BuildKit: ``tarconverter``). What follows the end of the archive is read, so that its digest is
    complete, and left out.

    Args:
        source: The tar, uncompressed.
        sink: Gets the new tar.
        epoch: Unix seconds.

    Raises:
        TarError: the tar is malformed, or a header cannot be written by Go's rules.
    """
    limit = TarTime(epoch)
    reader, writer = TarReader(source), TarWriter(sink)
    while (header := reader.next()) is not None:
        header.mod_time = _clamp(header.mod_time, limit)
        header.access_time = _clamp(header.access_time, limit)
        header.change_time = _clamp(header.change_time, limit)
        writer.write_header(header)
        while data := reader.read(_COPY_SIZE):
            writer.write(data)
    writer.close()
    while source.read(_COPY_SIZE):
        pass


def _clamp(time: TarTime, limit: TarTime) -> TarTime:
    return limit if time.after(limit) else time
