"""A build on the simulated daemon, as a command."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from exporter.client import BuildkitClient, Export, SolveOptions
from tests.integration.simulator import BEHAVIOUR, SCENARIO

COMMAND = "simulated-build"


def build(words: Sequence[str]) -> int:
    """Build, with one export.

    Args:
        words: The address, the type, and the attributes as KEY=VALUE.
    """
    address, kind, *attrs = words
    asyncio.run(_build(address, Export(kind, dict(attr.split("=", 1) for attr in attrs))))
    return 0


async def _build(address: str, export: Export) -> None:
    async with BuildkitClient.connect(address) as client:
        attrs = {SCENARIO: "run-chain", BEHAVIOUR: ""}
        await client.solve(SolveOptions(frontend="simulated", frontend_attrs=attrs, exports=[export]))
