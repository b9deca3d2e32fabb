"""The public names of the package `exporter.layer`, for exporters that convert or inspect layers."""

from __future__ import annotations

from exporter.layer.cache import ConvertedLayer, LayerCache
from exporter.layer.compression.detect import open_layer
from exporter.layer.convert import LayerConverter
from exporter.layer.entry_tar import tar_pieces
from exporter.layer.files import LayerFiles
from exporter.layer.gotar import Format, Header, TarError, TarReader, TarTime, TarWriter, TypeFlag
from exporter.layer.gotar.pax import XATTR_PREFIX
from exporter.layer.limits import MAX_CONTENT_BYTES
from exporter.layer.pipe import discard, run_piped
from exporter.layer.recode import Recipe
from exporter.layer.streams import PIECE_SIZE, Pieces, Readable, Writable, drain
from exporter.layer.tree import FileTree, Inode, Kind, Name
from exporter.layer.verifying import verified

__all__ = [
    "MAX_CONTENT_BYTES",
    "PIECE_SIZE",
    "XATTR_PREFIX",
    "ConvertedLayer",
    "FileTree",
    "Format",
    "Header",
    "Inode",
    "Kind",
    "LayerCache",
    "LayerConverter",
    "LayerFiles",
    "Name",
    "Pieces",
    "Readable",
    "Recipe",
    "TarError",
    "TarReader",
    "TarTime",
    "TarWriter",
    "TypeFlag",
    "Writable",
    "discard",
    "drain",
    "open_layer",
    "run_piped",
    "tar_pieces",
    "verified",
]
