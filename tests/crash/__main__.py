"""See ``scripts/crash --help``."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.crash.campaign import Campaign
from tests.crash.destinations import DESTINATIONS
from tests.crash.process import load_everything, run
from tests.integration.containerd_peer import containerd
from tests.integration.registry_peer import docker_registry


@asynccontextmanager
async def peer(name: str, directory: Path) -> AsyncIterator[str]:
    """Run the program that a destination needs; gives its address."""
    if name == "registry":
        async with docker_registry(directory) as address:
            yield address
    elif name == "containerd":
        with containerd() as running:
            yield running.socket
    elif name == "simulator":
        path = directory / "d"
        line = [sys.executable, "-m", "tests.integration.simulator", str(path)]
        process = await asyncio.create_subprocess_exec(*line)
        try:
            while not path.exists():  # noqa: ASYNC110 - it happens in another process
                await asyncio.sleep(0.05)
            yield f"unix://{path}"
        finally:
            process.kill()
            await process.wait()
    else:
        yield ""


async def campaign(name: str, *, sample: int) -> Campaign:
    """Run one."""
    [destination] = [found for found in DESTINATIONS if found.name == name]
    with tempfile.TemporaryDirectory(prefix="crash-") as text:
        directory = Path(text)
        (directory / "peer").mkdir()
        made = run(directory, ["sample", str(directory / "source")], trace=directory / "trace")
        assert made.status == 0, made.text
        async with peer(destination.peer, directory / "peer") as address:
            result = Campaign(destination, directory, directory / "source", address)
            result.run(sample=sample)
            return result


_SHOWN = 10
_PROGRAMS = ("registry", "containerd")


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="scripts/crash",
        description="Kill exports (SIGKILL) before, in the middle of and after everything that they change: "
        "each write, rename, link, directory, message to a peer. Each is repeated then, which must succeed; "
        "verify must pass, what was there before must be whole, and nothing may be left that an export "
        "without a kill does not leave.",
    )
    parser.add_argument("destinations", nargs="*", metavar="DESTINATION", help="only these; see --list")
    parser.add_argument("--list", action="store_true", help="list the destinations")
    parser.add_argument("--sample", type=int, default=0, metavar="N", help="at N points of each, not at all")
    parser.add_argument("--no-peers", action="store_true", help="leave out those that need other programs")
    options = parser.parse_args()
    chosen = [
        found
        for found in DESTINATIONS
        if found.name in (options.destinations or [found.name])
        and not (options.no_peers and found.peer in _PROGRAMS)
    ]
    if options.list:
        print(*(found.name for found in chosen), sep="\n")
        return 0
    load_everything()
    kills, failures = 0, 0
    for destination in chosen:
        began = time.monotonic()
        result = asyncio.run(campaign(destination.name, sample=options.sample))
        kills += result.kills
        failures += len(result.problems)
        seconds = time.monotonic() - began
        print(
            f"{destination.name:36} {result.kills:5} kills {len(result.problems):4} problems {seconds:6.0f} s"
        )
        for problem in result.problems[:_SHOWN]:
            print(f"  {problem}")
        sys.stdout.flush()
    print(f"{'all':36} {kills:5} kills {failures:4} problems")
    return 1 if failures or not kills else 0


if __name__ == "__main__":
    sys.exit(main())
