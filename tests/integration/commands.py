"""Running other programs."""

from __future__ import annotations

import asyncio
import subprocess


async def run(*command: str) -> bytes:
    """Run a program that must succeed; returns its standard output."""
    done = await asyncio.to_thread(subprocess.run, command, check=False, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout
