"""A registry for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.integration.registry.pushing import Peer
from tests.integration.registry_peer import FaultyProxy, docker_registry


@pytest.fixture
async def peer(tmp_path: Path) -> AsyncIterator[Peer]:
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(docker_registry(tmp_path))
        proxy = await stack.enter_async_context(FaultyProxy(upstream).run())
        yield Peer(proxy, upstream)
