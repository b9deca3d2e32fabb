"""What ``compression-level`` means to each compressor.

BuildKit hands gzip's level to Go (-2 to 9) and sorts zstd's into the four classes that its encoder has. The
numbers here are chosen so that a level takes about the time and gives about the size that it does there, or
better.
"""

from __future__ import annotations

from exporter.errors import InvalidArgumentError
from exporter.image import CompressionConfig, CompressionType

HUFFMAN_ONLY = -2
"""Go's gzip level for entropy coding alone."""

_GZIP_DEFAULT = 6
# Upper bounds of BuildKit's classes "fastest", "default", "better", and the libzstd level that comes close.
_ZSTD_CLASSES = ((2, 1), (5, 3), (9, 7))
_ZSTD_BEST = 11
_ZSTD_DEFAULT = 3


def effective_level(config: CompressionConfig) -> int:
    """The level that layers are compressed at; those that have the same effect are one.

    Raises:
        InvalidArgumentError: gzip and estargz do not have the level, with the words of Go's ``gzip``. Zstd
        takes
            every number.
    """
    level = config.level
    match config.type:
        case CompressionType.UNCOMPRESSED:
            return 0
        case CompressionType.ZSTD:
            if level is None:
                return _ZSTD_DEFAULT
            return next((own for bound, own in _ZSTD_CLASSES if level <= bound), _ZSTD_BEST)
        case _:
            if level is None or level == -1:
                return _GZIP_DEFAULT
            if not HUFFMAN_ONLY <= level <= 9:
                raise InvalidArgumentError(
                    f"gzip: invalid compression level: {level}", field="attrs[compression-level]"
                )
            return level
