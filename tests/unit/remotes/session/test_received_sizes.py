"""Sizes of files that a peer lists: what is checked before anything is fetched is what is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from exporter.errors import InvalidArgumentError, ResourceExhaustedError
from exporter.exporters.files.opening import check_entries
from exporter.pb.fsutil.types import stat_pb2, wire_pb2
from exporter.remotes.session.files import _ReceivedTree

REGULAR = 0o644
Packet = wire_pb2.Packet


def listed(path: Path, *stats: stat_pb2.Stat) -> Any:
    with path.open("w+b") as file:
        tree = _ReceivedTree(None, None, file, path.parent, "files")  # type: ignore[arg-type]
        tree._take([Packet(type=Packet.PACKET_STAT, stat=stat).SerializeToString() for stat in stats])
    return tree


def test_a_hard_link_has_the_size_of_what_it_links_to(tmp_path: Path) -> None:
    tree = listed(
        tmp_path / "f",
        stat_pb2.Stat(path=b"a", mode=REGULAR),
        stat_pb2.Stat(path=b"b", mode=REGULAR, linkname=b"a", size=1 << 20),
        stat_pb2.Stat(path=b"c", mode=REGULAR, size=60),
        stat_pb2.Stat(path=b"d", mode=REGULAR, linkname=b"c", size=1),
    )
    assert [entry.size for entry in tree.entries] == [0, 0, 60, 60]
    check_entries(tree.entries, 100)
    assert list(tree._wanted(tree.entries)) == [2]
    with pytest.raises(ResourceExhaustedError):
        check_entries(tree.entries, 59)


def test_a_negative_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="a has a negative size: -5"):
        listed(tmp_path / "f", stat_pb2.Stat(path=b"a", mode=REGULAR, size=-5))
