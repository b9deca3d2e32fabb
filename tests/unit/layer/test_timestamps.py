from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from exporter.errors import ResourceExhaustedError
from exporter.layer.gotar import TarError
from exporter.layer.gotar.pax import format_record
from exporter.layer.timestamps import rewrite_times
from tests.unit.layer import tars
from tests.unit.layer.test_gotar import sparse_archive

EPOCH = 1_500_000_000
VECTORS = Path(__file__).parents[2] / "data" / "layers" / "rewrite_times.jsonl.gz"


def rewrite(data: bytes, epoch: int = EPOCH) -> bytes:
    return b"".join(rewrite_times(io.BytesIO(data), epoch))


def vectors() -> list[dict[str, Any]]:
    with gzip.open(VECTORS) as file:
        return [json.loads(line) for line in file]


@pytest.mark.parametrize("vector", vectors(), ids=lambda vector: (vector["sha256"] or "refused")[:12])
def test_go_gives_the_same_bytes(vector: dict[str, Any]) -> None:
    """Odd tars of all formats, and what Go made of them by BuildKit's rules (None: it failed)."""
    data = base64.b64decode(vector["tar"])
    if vector["sha256"] is None:
        with pytest.raises(TarError):
            rewrite(data, vector["epoch"])
    else:
        assert hashlib.sha256(rewrite(data, vector["epoch"])).hexdigest() == vector["sha256"]


def test_later_times_become_the_epoch_and_earlier_ones_stay() -> None:
    data = tars.tar(tars.entry("late", mtime=EPOCH + 1), tars.entry("early", mtime=EPOCH - 1))
    with tarfile.open(fileobj=io.BytesIO(rewrite(data))) as archive:
        assert {info.name: info.mtime for info in archive} == {"late": EPOCH, "early": EPOCH - 1}


def test_clamped_fractions_need_no_pax_record() -> None:
    data = tars.tar(tars.entry("a", mtime=EPOCH + 0.5))
    assert b"mtime=" in data
    out = rewrite(data)
    assert b"mtime=" not in out
    assert len(out) == 512 + 1024


def test_a_fraction_before_the_epoch_is_kept() -> None:
    out = rewrite(tars.tar(tars.entry("a", mtime=EPOCH - 0.5)))
    assert b"mtime=1499999999.5\n" in out


def test_extended_attributes_survive_and_are_sorted() -> None:
    headers = {"SCHILY.xattr.user.b": "2", "SCHILY.xattr.user.a": "1"}
    out = rewrite(tars.tar(tars.entry("a", b"data", pax_headers=headers)))
    assert b"SCHILY.xattr.user.a=1\n25 SCHILY.xattr.user.b=2\n" in out


def test_data_after_the_archive_is_dropped() -> None:
    data = tars.tar(tars.entry("a", b"x", mtime=1), format=tarfile.USTAR_FORMAT)
    assert rewrite(data + bytes(9216) + b"junk") == rewrite(data)
    assert rewrite(data[:-1024]) == rewrite(data)


def test_data_after_the_archive_is_read() -> None:
    source = io.BytesIO(tars.tar() + b"junk")
    list(rewrite_times(source, EPOCH))
    assert source.read() == b""


def test_rewriting_is_idempotent() -> None:
    once = rewrite(
        tars.tar(tars.entry("é" * 60, b"x" * 600), tars.directory("d"), tars.symlink("l", "t" * 120))
    )
    assert rewrite(once) == once


def test_content_comes_in_pieces() -> None:
    data = tars.tar(tars.entry("big", b"x" * (5 << 20)))
    pieces = list(rewrite_times(io.BytesIO(data), EPOCH))
    assert max(map(len, pieces)) <= 1 << 20


def test_malformed_tars_are_refused() -> None:
    with pytest.raises(TarError):
        rewrite(b"not a tar" * 100)


def test_a_hole_of_many_terabytes_is_not_filled() -> None:
    records = {b"GNU.sparse.size": b"%d" % (1 << 40), b"GNU.sparse.numblocks": b"0", b"GNU.sparse.map": b""}
    records |= {b"GNU.sparse.major": b"0", b"GNU.sparse.minor": b"1", b"GNU.sparse.name": b"var/log/lastlog"}
    archive = sparse_archive(b"".join(format_record(key, value) for key, value in records.items()), b"")
    with pytest.raises(ResourceExhaustedError, match=r"^var/log/lastlog has 1099511627776 bytes"):
        rewrite(archive)
