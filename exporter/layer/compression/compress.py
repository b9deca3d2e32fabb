"""Compressing a layer's tar: gzip, zstd or uncompressed; for eStargz see `exporter.layer.estargz.writer`."""

from __future__ import annotations

from typing import Protocol

from exporter.image import CompressionType
from exporter.layer.compression.gzip_writer import GzipWriter, Pool
from exporter.layer.compression.libzstd import zstd
from exporter.layer.streams import Writable

# Bytes per compression job. libzstd's default is four times the window size and needs half as much memory
# again; this value makes the output less than 1 % larger.
_ZSTD_JOB_SIZE = 4 << 20
_ZSTD_THREADS = 2
# At the highest levels, each thread needs some 40 MB.
_ZSTD_HIGH_LEVEL = 10
_ZSTD_HIGH_LEVEL_THREADS = 2


class Compressor(Protocol):
    """Writes a compressed stream."""

    def write(self, data: bytes) -> None:
        """Compress `data`."""
        ...

    def finish(self) -> None:
        """End the stream."""
        ...


def new_compressor(type_: CompressionType, level: int, sink: Writable, pool: Pool) -> Compressor:
    """Create a compressor.

    Args:
        type_: Any type except `CompressionType.ESTARGZ`.
        level: See `exporter.layer.compression.levels.effective_level`.
        sink: Receives the compressed bytes.
        pool: The threads to use. The output does not depend on their number.
    """
    match type_:
        case CompressionType.UNCOMPRESSED:
            return _Copier(sink)
        case CompressionType.GZIP:
            return GzipWriter(sink, level, pool)
        case CompressionType.ZSTD:
            return _ZstdWriter(sink, level, pool.size)
        case CompressionType.ESTARGZ:
            raise ValueError("eStargz layers are written by exporter.layer.estargz.writer")


class _Copier:
    def __init__(self, sink: Writable) -> None:
        self._sink = sink

    def write(self, data: bytes) -> None:
        self._sink.write(data)

    def finish(self) -> None:
        pass


class _ZstdWriter:
    """One frame with a checksum, as BuildKit's encoder writes it."""

    def __init__(self, sink: Writable, level: int, threads: int) -> None:
        self._sink = sink
        limit = _ZSTD_HIGH_LEVEL_THREADS if level >= _ZSTD_HIGH_LEVEL else _ZSTD_THREADS
        parameter = zstd.CompressionParameter
        self._compressor = zstd.ZstdCompressor(
            options={
                parameter.compression_level: level,
                parameter.checksum_flag: 1,
                # Never 0, which selects a different mode with different output.
                parameter.nb_workers: max(1, min(threads, limit)),
                parameter.job_size: _ZSTD_JOB_SIZE,
            }
        )

    def write(self, data: bytes) -> None:
        self._sink.write(self._compressor.compress(data))

    def finish(self) -> None:
        self._sink.write(self._compressor.flush())
