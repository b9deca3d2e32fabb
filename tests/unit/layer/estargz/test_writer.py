from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.layer.compression.gzip_writer import GzipWriter
from exporter.layer.estargz.writer import EstargzInfo, footer, is_toc, parse_footer, write_estargz
from exporter.layer.gotar import TarError
from tests.builds import read_json, scenario
from tests.unit.layer import tars
from tests.unit.layer.estargz.estargz_reader import Estargz, members, sha256

POOL = tars.pool(2)
VECTORS = Path(__file__).parents[3] / "data" / "layers" / "estargz_level_0.jsonl.gz"


def make(tar: bytes, level: int = 6) -> tuple[bytes, EstargzInfo]:
    out, spool = io.BytesIO(), io.BytesIO()
    info = write_estargz(io.BytesIO(tar), out, GzipWriter(out, level, POOL), spool)
    return out.getvalue(), info


def vectors() -> list[dict[str, Any]]:
    with gzip.open(VECTORS) as file:
        return [json.loads(line) for line in file]


class Replay:
    """Stands for the compressor: gives the members of a recorded blob, if the data is theirs."""

    def __init__(self, blob: bytes, sink: io.BytesIO) -> None:
        self._members = iter(members(blob))
        self._sink = sink
        self._data = b""

    def write(self, data: bytes) -> None:
        self._data += data

    def end_member(self, *, flush_first: bool = False) -> None:
        if self._data:
            _, compressed, data = next(self._members)
            assert data == self._data
            self._sink.write(compressed)
            self._data = b""

    def when_positioned(self, callback: Callable[[int], None]) -> None:
        callback(self._sink.tell())

    def settle(self) -> None:
        pass

    def finish(self) -> None:
        self.end_member()


@pytest.mark.parametrize("vector", vectors(), ids=lambda vector: vector["sha256"][:12])
def test_the_upstream_library_gives_the_same_bytes(vector: dict[str, Any]) -> None:
    """Without compression, so that compressors make no difference; odd tars of all kinds."""
    blob, info = make(base64.b64decode(vector["tar"]), level=0)
    assert hashlib.sha256(blob).hexdigest() == vector["sha256"]
    assert info.toc_digest == vector["toc"]


def test_the_upstream_library_cuts_large_files_likewise() -> None:
    sizes = {"small": 3, "exact": 4 << 20, "over": (4 << 20) + 1, "large": (9 << 20) + 5}
    pattern = bytes(range(251)) * ((10 << 20) // 251)
    files = [tars.entry(name, pattern[:size]) for name, size in sizes.items()]
    blob, info = make(tars.tar(*files, format=tarfile.USTAR_FORMAT), level=0)
    assert sha256(blob) == "sha256:2ac8f360d1a9eec1868015313363b61c8874fd659cd4859ca6247e3945f2a492"
    assert info.toc_digest == "sha256:191a77fa66b12d07902d0a867b93a7d8e9a942caa1a339b48960ac1fffde4cb8"


@pytest.mark.parametrize("position", [0, 1])
def test_a_daemons_blob_is_made_again(position: int) -> None:
    """The recorded layers, compressor aside: same table, diff ID, annotations and digest."""
    layer = read_json("estargz", "chains.json")["refs"][0]["chain"][position]["blob"]
    blob = (scenario("estargz") / "oci/blobs/sha256" / layer["digest"].removeprefix("sha256:")).read_bytes()
    tar = Estargz.open(blob).tar
    out = io.BytesIO()
    info = write_estargz(io.BytesIO(tar), out, Replay(blob, out), io.BytesIO())
    assert sha256(out.getvalue()) == layer["digest"]
    assert info.diff_id == layer["annotations"]["containerd.io/uncompressed"]
    recorded = {key: text for key, text in layer["annotations"].items() if "stargz" in key}
    assert info.annotations() == recorded


@pytest.mark.parametrize("level", [-2, 0, 1, 6, 9])
def test_a_lazy_puller_finds_everything(level: int) -> None:
    headers = {"SCHILY.xattr.user.k": "v"}
    tar = tars.tar(
        tars.directory("dir", uname="root", uid=0),
        tars.entry("dir/file", b"content" * 1000, pax_headers=headers, uname="root"),
        tars.entry("empty"),
        tars.entry("big", b"0123456789" * 500_000),
        tars.symlink("link", "dir/file"),
        tars.hardlink("hard", "dir/file"),
        tars.entry("null", type=tarfile.CHRTYPE, devmajor=1, devminor=3),
    )
    blob, info = make(tar, level)
    reader = Estargz.open(blob)
    assert reader.tar == tar
    assert gzip.decompress(blob) == reader.tar_with_toc
    assert info == EstargzInfo(reader.toc_digest, sha256(reader.tar_with_toc), len(reader.tar_with_toc))
    entries = reader.entries()
    assert list(entries) == ["dir/", "dir/file", "empty", "big", "link", "hard", "null"]
    assert reader.xattrs("dir/file") == {"user.k": b"v"}
    assert entries["dir/"]["userName"] == "root"
    assert "userName" not in entries["dir/file"]
    assert entries["empty"]["digest"] == sha256(b"")
    assert "offset" not in entries["empty"]
    assert entries["link"]["linkName"] == "dir/file"
    assert entries["hard"]["type"] == "hardlink"
    assert (entries["null"]["devMajor"], entries["null"]["devMinor"]) == (1, 3)
    assert entries["big"]["chunkSize"] == 4 << 20


def test_an_empty_layer() -> None:
    for tar in (b"", bytes(1024)):
        blob, info = make(tar)
        reader = Estargz.open(blob)
        assert reader.tar == tar
        assert reader.toc == {"version": 1, "entries": None}
        assert info.toc_digest == reader.toc_digest


def test_data_after_the_archive_is_kept() -> None:
    tar = tars.tar(tars.entry("a", b"x")) + bytes(5000) + b"junk"
    assert Estargz.open(make(tar)[0]).tar == tar


def test_names_that_are_not_text() -> None:
    tar = tars.tar(tars.entry("a", b"x")).replace(b"a\x00", b"\xff\x00", 1)
    block = bytearray(tar[:512])
    block[148:156] = b"%06o\x00 " % (sum(block[:148]) + sum(block[156:]) + 256)
    blob, _ = make(bytes(block) + tar[512:])
    assert list(Estargz.open(blob).entries()) == ["\ufffd"]


@pytest.mark.parametrize(
    ("tar", "message"),
    [
        (tars.tar(tars.entry("./stargz.index.json", b"{}")), "reserves"),
        (tars.tar(tars.entry("a", type=b"7")), "no entries of kind"),
        (
            tars.tar(
                tars.entry(
                    "a",
                    pax_headers={
                        "GNU.sparse.size": "5",
                        "GNU.sparse.numblocks": "0",
                        "GNU.sparse.map": "",
                        "GNU.sparse.major": "0",
                        "GNU.sparse.minor": "1",
                    },
                )
            ),
            "sparse",
        ),
        (b"no tar" * 200, "checksum"),
    ],
)
def test_layers_that_cannot_be_estargz(tar: bytes, message: str) -> None:
    with pytest.raises(TarError, match=message):
        make(tar)


@given(st.integers(0, (1 << 62) - 1))
def test_the_footer_is_found_again(offset: int) -> None:
    assert len(footer(offset)) == 51
    assert parse_footer(footer(offset)) == offset


@pytest.mark.parametrize(
    "tail",
    [
        b"",
        b"\x1f\x8b\x08\x04",
        bytes(51),
        footer(5)[:-1],
        footer(5).replace(b"STARGZ", b"STARGX"),
        gzip.compress(b"x" * 30),
    ],
)
def test_other_endings_are_not_a_footer(tail: bytes) -> None:
    assert parse_footer(tail) is None


def test_the_footer_of_the_older_format() -> None:
    old = footer(0x1234)[:10] + b"\x16\x00" + b"0000000000001234STARGZ" + footer(0)[38:]
    assert len(old) == 47
    assert parse_footer(bytes(4) + old) == 0x1234


@given(st.binary(max_size=60))
def test_any_bytes_can_be_checked_for_a_footer(tail: bytes) -> None:
    parse_footer(tail)


def test_the_toc_is_recognised_by_its_name() -> None:
    assert all(map(is_toc, [b"stargz.index.json", b"./stargz.index.json", b"/x/../stargz.index.json"]))
    assert not any(map(is_toc, [b"x/stargz.index.json", b"stargz.index.jsonx", b""]))
