"""A containerd for all tests, with a namespace for each."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.containerd.exporting import Namespace
from tests.integration.containerd_peer import ContainerdPeer, containerd

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def peer() -> Iterator[ContainerdPeer]:
    with containerd() as peer:
        yield peer


@pytest.fixture
def place(peer: ContainerdPeer, tmp_path: Path) -> Namespace:
    return Namespace(peer, f"test-{next(_numbers)}", tmp_path)
