"""BuildKit's own programs, for tests that hold us against them."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest


def require_buildkit(program: str) -> str:
    """Find ``buildctl`` or ``buildkitd``, or skip the test. No distribution that we know of packages them."""
    path = shutil.which(program)
    if path is None:
        pytest.skip(f"{program} is not in PATH: get it from github.com/moby/buildkit/releases")
    return path


@asynccontextmanager
async def buildkitd(directory: Path) -> AsyncIterator[str]:
    """A daemon of our own; skips the test where none can run.

    Args:
        directory: For its state. Its socket has to fit into 107 bytes.

    Yields:
        Its address.
    """
    program = require_buildkit("buildkitd")
    if os.geteuid() != 0:
        pytest.skip("buildkitd needs root")
    socket = directory / "b.sock"
    with (directory / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            program, "--root", str(directory / "root"), "--addr", f"unix://{socket}", stdout=log, stderr=log
        )
    try:
        async with asyncio.timeout(60):
            while not socket.exists():
                if process.returncode is not None:
                    pytest.skip("buildkitd cannot run here: " + (directory / "log").read_text()[-500:])
                await asyncio.sleep(0.1)
        yield f"unix:{socket}"
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
