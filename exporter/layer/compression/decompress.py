"""Decompressing layers: gzip and zstd, with any number of members or frames, in bounded memory.

Gzip is decoded by ISA-L, the fastest packaged decoder (3 times zlib's speed), zstd by libzstd (see
`exporter.layer.compression.libzstd`). Both limit the output of each call, so decompression bombs do no harm.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, cast

from isal import igzip_lib

from exporter.errors import DataLossError
from exporter.image import CompressionType
from exporter.layer.compression.libzstd import zstd
from exporter.layer.streams import PIECE_SIZE, Readable

# Bytes per call of a decoder. At the end of each member, the unused rest is copied, and an eStargz blob may
# have a member for each small file.
_FEED_SIZE = 16 << 10
# Maximum window size as a power of 2: 128 MiB, the default limit of the zstd program.
_ZSTD_WINDOW_LOG = 27
# The package's stubs wrongly declare the exception class as an instance.
_GZIP_ERRORS = (cast("type[Exception]", igzip_lib.IsalError), EOFError)


class _Decoder(Protocol):
    """One member or frame (the interface of `bz2.BZ2Decompressor`)."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int) -> bytes: ...


def decompressed(source: Readable, type_: CompressionType) -> Readable:
    """Decompress `source`. Reading the result to its end also reads `source` to its end.

    Args:
        source: The compressed bytes.
        type_: Their compression. The table of contents of an eStargz blob counts as a further member.

    Raises:
        DataLossError: (while reading) they have a different format, or are truncated.
    """
    match type_:
        case CompressionType.UNCOMPRESSED:
            return source
        case CompressionType.ZSTD:
            return _Frames(source, "zstd", _zstd_decoder, (zstd.ZstdError,))
        case _:
            return _Frames(source, "gzip", _gzip_decoder, _GZIP_ERRORS)


class _Frames:
    """Reads a sequence of members or frames."""

    def __init__(
        self,
        source: Readable,
        name: str,
        new_decoder: Callable[[], _Decoder],
        errors: tuple[type[Exception], ...],
    ) -> None:
        self._source = source
        self._name = name
        self._new_decoder = new_decoder
        self._errors = errors
        self._decoder: _Decoder | None = None
        self._input = b""
        self._position = 0

    def read(self, size: int) -> bytes:
        while True:
            if self._decoder is None:
                if not self._has_input():
                    return b""
                self._decoder = self._new_decoder()
            if data := self._decode(self._decoder, size):
                return data

    def _decode(self, decoder: _Decoder, size: int) -> bytes:
        piece = b""
        if decoder.needs_input:
            if not self._has_input():
                raise DataLossError(f"the {self._name} stream is truncated")
            piece = self._input[self._position : self._position + _FEED_SIZE]
            self._position += len(piece)
        try:
            data = decoder.decompress(piece, size)
        except self._errors as error:
            raise DataLossError(f"not a {self._name} stream, or a damaged one: {error}") from error
        if decoder.eof:
            self._position -= len(decoder.unused_data)
            self._decoder = None
        return data

    def _has_input(self) -> bool:
        if self._position == len(self._input):
            self._input, self._position = self._source.read(PIECE_SIZE), 0
        return bool(self._input)


def _gzip_decoder() -> _Decoder:
    return igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)


def _zstd_decoder() -> _Decoder:
    return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG})
