"""Clamping the times in a layer's tar to an epoch, to the byte as BuildKit's ``rewrite-timestamp`` does."""

from __future__ import annotations

from collections.abc import Iterator

from exporter.layer.gotar import TarReader, TarTime, TarWriter
from exporter.layer.limits import check_content
from exporter.layer.streams import PIECE_SIZE, Pieces, Readable, drain


def rewrite_times(source: Readable, epoch: int) -> Iterator[bytes]:
    """Copy a tar, clamping modification, access and change times to `epoch`.

    Every header is rewritten by Go's rules, so that a tar may change even if all its times are early enough
    (BuildKit: ``tarconverter``). Data after the end of the archive is read, to complete the source's digest,
    but not copied. The holes of sparse files are filled with NULs. A file in GNU's old sparse format keeps
    its type nevertheless and so becomes unreadable: this is a bug of Go's writer that affects the diff ID.

    Args:
        source: The tar, uncompressed.
        epoch: Unix seconds.

    Yields:
        The new tar, in pieces.

    Raises:
        ResourceExhaustedError: sparse files come to more than `MAX_CONTENT_BYTES`; names the file.
        TarError: the tar is malformed, or a header cannot be written by Go's rules.
    """
    limit = TarTime(epoch)
    written = Pieces()
    reader, writer = TarReader(source), TarWriter(written)
    filled = 0
    while (header := reader.next()) is not None:
        if reader.is_sparse:
            filled += header.size
            check_content(header.name, header.size, filled)
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
