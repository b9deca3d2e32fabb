"""Runs the simulator: ``python -m tests.integration.simulator SOCKET``."""

from __future__ import annotations

import asyncio
import sys

from tests.integration.simulator.daemon import serve

asyncio.run(serve(sys.argv[1]))
