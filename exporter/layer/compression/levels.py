"""What ``compression-level`` means to each compressor.

BuildKit passes gzip's level to Go (-2 to 9) and maps zstd's to the four levels of its encoder. The levels
here are chosen to match time and size there, or to be better.
"""

from __future__ import annotations

from exporter.errors import InvalidArgumentError
from exporter.image import CompressionConfig, CompressionType

HUFFMAN_ONLY = -2
"""Go's gzip level for entropy coding only."""

GZIP_DEFAULT = -1
"""Go's gzip level for the default."""

# Upper bounds of BuildKit's levels "fastest", "default" and "better", each with a similar level of libzstd.
_ZSTD_CLASSES = ((2, 1), (5, 3), (9, 7))
_ZSTD_BEST = 11
_ZSTD_DEFAULT = 3


def effective_level(config: CompressionConfig) -> int:
    """The compressor's level for a configuration. Levels with the same effect are mapped to one.

    Raises:
        InvalidArgumentError: gzip (or estargz) does not have the level; with the text of Go's ``gzip``. Zstd
            accepts any number.
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
            if level is None:
                return GZIP_DEFAULT
            if not HUFFMAN_ONLY <= level <= 9:
                raise InvalidArgumentError(
                    f"gzip: invalid compression level: {level}", field="attrs[compression-level]"
                )
            return level
