"""Compressing and decompressing: `compress`, `decompress`, `deflate`, `gzip_writer`, `levels`."""

from __future__ import annotations

import functools
import gzip
import io
import random
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.errors import DataLossError, InvalidArgumentError
from exporter.image import CompressionConfig, CompressionType
from exporter.layer.compression.compress import new_compressor
from exporter.layer.compression.decompress import decompressed
from exporter.layer.compression.gzip_writer import BLOCK_SIZE, GzipWriter
from exporter.layer.compression.levels import effective_level
from exporter.layer.compression.libzstd import zstd
from tests.unit.layer import tars

POOL = tars.pool(2)
GZIP, ZSTD = CompressionType.GZIP, CompressionType.ZSTD


@functools.cache
def text(size: int) -> bytes:
    """Text that compresses about as well as programs do."""
    source = random.Random(1)
    words = [bytes(source.choices(range(97, 123), k=source.randint(2, 9))) for _ in range(2000)]
    return b" ".join(source.choices(words, k=size // 4))[:size]


def compress(data: bytes, type_: CompressionType, level: int, threads: int = 2, step: int = 1 << 20) -> bytes:
    out = io.BytesIO()
    compressor = new_compressor(type_, level, out, tars.pool(threads))
    for start in range(0, len(data), step):
        compressor.write(data[start : start + step])
    compressor.finish()
    return out.getvalue()


def read_all(data: bytes, type_: CompressionType, size: int = 1 << 20) -> bytes:
    reader = decompressed(io.BytesIO(data), type_)
    pieces = []
    while piece := reader.read(size):
        assert len(piece) <= size
        pieces.append(piece)
    return b"".join(pieces)


class Trickle:
    """Returns one byte at a time."""

    def __init__(self, data: bytes) -> None:
        self._source = io.BytesIO(data)

    def read(self, size: int) -> bytes:
        return self._source.read(min(size, 1))


# --- compressing ---


@pytest.mark.parametrize("level", range(-2, 10))
@pytest.mark.parametrize("size", [0, 1, BLOCK_SIZE, 2 * BLOCK_SIZE + 1])
def test_gzip_is_read_by_another_program(level: int, size: int) -> None:
    data = text(size) if size else b""
    assert gzip.decompress(compress(data, GZIP, level)) == data


@pytest.mark.parametrize("level", [1, 3, 7, 11])
def test_zstd_is_one_frame_with_a_checksum(level: int) -> None:
    data = text(700_000)
    blob = compress(data, ZSTD, level)
    frame = zstd.ZstdDecompressor()
    assert frame.decompress(blob) == data
    assert frame.eof
    assert not frame.unused_data
    with pytest.raises(zstd.ZstdError):
        zstd.decompress(blob[:-1] + bytes((blob[-1] ^ 1,)))


@pytest.mark.parametrize(("type_", "level"), [(GZIP, 0), (GZIP, 6), (GZIP, 9), (ZSTD, 3), (ZSTD, 11)])
def test_the_bytes_depend_neither_on_threads_nor_on_pieces(type_: CompressionType, level: int) -> None:
    data = text(5 << 19)
    blobs = {
        compress(data, type_, level, threads, step)
        for threads, step in ((1, 1 << 20), (2, 77_777), (3, 5 << 19))
    }
    assert len(blobs) == 1


def test_gzip_header_is_that_of_go() -> None:
    assert compress(b"x", GZIP, 6)[:10] == bytes.fromhex("1f8b08000000000000ff")
    assert compress(b"x", GZIP, 1)[:10] == bytes.fromhex("1f8b08000000000004ff")
    assert compress(b"x", GZIP, 9)[:10] == bytes.fromhex("1f8b08000000000002ff")


def test_level_0_gives_the_bytes_of_go() -> None:
    """The output of Go 1.27's ``gzip`` for "hello", and for 70,000 NULs."""
    assert compress(b"hello", GZIP, 0).hex() == (
        "1f8b08000000000000ff000500faff68656c6c6f030086a6103605000000"
    )
    blob = compress(bytes(70_000), GZIP, 0)
    assert len(blob) == 10 + 5 + 65_535 + 5 + 4_465 + 2 + 8


def test_higher_levels_are_smaller() -> None:
    data = text(1 << 20)
    sizes = [len(compress(data, GZIP, level)) for level in (0, -2, 6)]
    assert sizes == sorted(sizes, reverse=True)
    sizes = [len(compress(data, ZSTD, level)) for level in (1, 11)]
    assert sizes == sorted(sizes, reverse=True)


def test_blocks_refer_to_what_came_before() -> None:
    block = random.Random(2).randbytes(20_000)
    data = bytes(BLOCK_SIZE - 20_000) + block + block
    assert len(compress(data, GZIP, 6)) < 23_000


def test_members_and_their_positions() -> None:
    out = io.BytesIO()
    writer = GzipWriter(out, 6, POOL)
    positions: list[int] = []
    contents = [b"a" * 10, text(BLOCK_SIZE + 5), b"", b"c"]
    for content in contents:
        writer.when_positioned(positions.append)
        if content:
            writer.write(content)
        writer.end_member(flush_first=True)
    writer.finish()
    blob = out.getvalue()
    assert positions[0] == 0
    assert positions[2] == positions[3]
    for content, start, end in zip(contents, positions, [*positions[1:], len(blob)], strict=True):
        assert (gzip.decompress(blob[start:end]) if start < end else b"") == content
    assert gzip.decompress(blob) == b"".join(contents)


# --- levels ---


@pytest.mark.parametrize(
    ("type_", "given", "level"),
    [
        (GZIP, None, -1),
        (GZIP, -1, -1),
        (GZIP, -2, -2),
        (GZIP, 0, 0),
        (GZIP, 9, 9),
        (CompressionType.ESTARGZ, None, -1),
        (CompressionType.ESTARGZ, 2, 2),
        (ZSTD, None, 3),
        (ZSTD, -7, 1),
        (ZSTD, 2, 1),
        (ZSTD, 3, 3),
        (ZSTD, 5, 3),
        (ZSTD, 6, 7),
        (ZSTD, 10, 11),
        (ZSTD, 1000, 11),
        (CompressionType.UNCOMPRESSED, 99, 0),
    ],
)
def test_levels(type_: CompressionType, given: int | None, level: int) -> None:
    assert effective_level(CompressionConfig(type_, level=given)) == level


@pytest.mark.parametrize("level", [-3, 10, 19])
@pytest.mark.parametrize("type_", [GZIP, CompressionType.ESTARGZ])
def test_levels_that_gzip_lacks(type_: CompressionType, level: int) -> None:
    with pytest.raises(InvalidArgumentError, match=f"gzip: invalid compression level: {level}") as caught:
        effective_level(CompressionConfig(type_, level=level))
    assert caught.value.field == "attrs[compression-level]"


# --- decompressing ---


@given(st.lists(st.binary(max_size=2000), max_size=5), st.sampled_from([GZIP, ZSTD]), st.integers(1, 3000))
def test_all_members_are_read(parts: list[bytes], type_: CompressionType, size: int) -> None:
    blob = b"".join(tars.compress(part, type_) for part in parts)
    assert read_all(blob, type_, size) == b"".join(parts)


@pytest.mark.parametrize("type_", [GZIP, ZSTD])
def test_input_may_arrive_in_small_pieces(type_: CompressionType) -> None:
    data = text(5000)
    blob = tars.compress(data, type_) * 2
    reader = decompressed(Trickle(blob), type_)
    pieces = []
    while piece := reader.read(1000):
        pieces.append(piece)
    assert b"".join(pieces) == data * 2


@pytest.mark.parametrize("type_", [GZIP, ZSTD])
def test_many_small_members_are_read_in_linear_time(type_: CompressionType) -> None:
    blob = tars.compress(b"member", type_) * 20_000
    assert read_all(blob, type_) == b"member" * 20_000


def test_skippable_frames_are_skipped() -> None:
    skippable = bytes.fromhex("5f2a4d18") + (5).to_bytes(4, "little") + b"table"
    blob = skippable + zstd.compress(b"data") + skippable
    assert read_all(blob, ZSTD) == b"data"


@pytest.mark.parametrize("type_", [GZIP, ZSTD])
def test_an_empty_result(type_: CompressionType) -> None:
    assert read_all(b"", type_) == b""


@pytest.mark.parametrize("type_", [GZIP, ZSTD])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda blob: blob[:-3], "truncated"),
        (lambda blob: blob[: len(blob) // 2], "truncated"),
        (lambda blob: blob[:5], "truncated"),
        (lambda blob: blob + b"no other member", "damaged"),
        (lambda blob: blob[:-5] + bytes((blob[-5] ^ 1,)) + blob[-4:], "damaged"),
        (lambda blob: b"neither of the two", "damaged"),
    ],
)
def test_damage_is_reported(type_: CompressionType, damage: Callable[[bytes], bytes], message: str) -> None:
    blob = tars.compress(text(50_000), type_)
    if type_ is ZSTD:
        blob = zstd.compress(text(50_000), options={zstd.CompressionParameter.checksum_flag: 1})
    with pytest.raises(DataLossError, match=message):
        read_all(damage(blob), type_)


def test_a_decompression_bomb_is_read_in_pieces() -> None:
    bomb = zlib.compressobj(9, zlib.DEFLATED, 31)
    blob = bomb.compress(bytes(64 << 20)) + bomb.flush()
    reader = decompressed(io.BytesIO(blob), GZIP)
    assert len(reader.read(1000)) <= 1000
    reader = decompressed(io.BytesIO(zstd.compress(bytes(64 << 20))), ZSTD)
    assert len(reader.read(1000)) <= 1000


def test_an_excessive_window_is_rejected() -> None:
    compressor = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: 28})
    blob = compressor.compress(b"not much") + compressor.flush()
    with pytest.raises(DataLossError, match="memory"):
        read_all(blob, ZSTD)
