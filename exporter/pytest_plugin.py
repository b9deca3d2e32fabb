"""Fixtures for tests of exporters. pytest finds them through an entry point.

pytest loads this module wherever the package is installed, so it imports the rest of the package only when a
test uses a fixture.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from exporter.client.sync import Client
    from exporter.source.saved.load import SavedSource
    from exporter.testing.blocking import BlockingWorkbench

__all__ = ["build_samples", "buildkit_client", "buildkitd", "exporter_server", "workbench"]


@pytest.fixture
def workbench() -> Iterator[BlockingWorkbench]:
    """Runs exports, with empty stores; see `exporter.testing.BlockingWorkbench`."""
    from exporter.testing.blocking import BlockingWorkbench

    with BlockingWorkbench.open() as bench:
        yield bench


@pytest.fixture(scope="session")
def build_samples() -> Mapping[str, SavedSource]:
    """The small real build results that come with the package, by name."""
    import asyncio

    from exporter.testing.sources import load_sample, sample_names

    async def load() -> dict[str, SavedSource]:
        return {name: await load_sample(name) for name in sample_names()}

    return asyncio.run(load())


@pytest.fixture
def exporter_server() -> Iterator[str]:
    """The address of a plugin server in this process, with all installed types."""
    from exporter.content.loop_thread import LoopThread
    from exporter.engine.config import WorkplaceConfig
    from exporter.server import ServerConfig
    from exporter.server.lifecycle import PluginServer

    with tempfile.TemporaryDirectory(prefix="exporter-") as directory, LoopThread.running() as loop:
        address = f"unix://{directory}/s.sock"
        config = ServerConfig(addresses=(address,), workplace=WorkplaceConfig(root=Path(directory, "root")))
        with loop.entered(PluginServer.running(config)):
            yield address


@pytest.fixture(scope="session")
def buildkitd() -> Iterator[str]:
    """The address of a buildkitd of these tests' own, with an empty cache. Skips the test if none can run.

    It is ``buildkitd`` in PATH, or the program that ``$BUILDKITD`` names.
    """
    from exporter.errors import UnavailableError
    from exporter.testing.daemon import running_buildkitd

    try:
        with running_buildkitd() as address:
            yield address
    except UnavailableError as error:
        pytest.skip(error.message)


@pytest.fixture
def buildkit_client(buildkitd: str) -> Iterator[Client]:
    """A blocking client of the daemon of the fixture `buildkitd`; see `exporter.client.sync`."""
    from exporter.client.sync import Client

    with Client(buildkitd) as client:
        yield client
