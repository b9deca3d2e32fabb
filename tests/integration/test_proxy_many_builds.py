"""Build after build through one proxy, each with connections of its own, as clients make them."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from exporter.client import BuildkitClient, Export, SolveOptions
from tests.integration.cli_process import PATIENCE
from tests.integration.proxied import Proxy, proxy
from tests.integration.simulator import BEHAVIOUR, SCENARIO, Behaviour
from tests.integration.test_proxy import simulator

BUILDS = 200
"""Where the proxy read too early, 4 builds of 10 failed."""

OPTIONS = SolveOptions(
    frontend="simulated",
    frontend_attrs={SCENARIO: "run-chain", BEHAVIOUR: Behaviour.NOTHING.value},
    exports=[Export("image", {"name": "example.com/many:v1"})],
)


@pytest.fixture(scope="module")
def running() -> Iterator[Proxy]:
    directory = Path(tempfile.mkdtemp(prefix="bke-", dir="/tmp"))  # the path of a socket has to be short
    try:
        with simulator(directory / "daemon") as address, proxy(directory / "proxy", address) as running:
            yield running
    finally:
        shutil.rmtree(directory, ignore_errors=True)


async def test_every_build_of_many_succeeds(running: Proxy) -> None:
    """`scripts/soak-proxy` does the same with buildctl and buildkitd."""
    for _ in range(BUILDS):
        async with BuildkitClient.connect(running.address) as client:
            result = await asyncio.wait_for(client.solve(OPTIONS), PATIENCE)
        assert "containerimage.digest" in result.response
