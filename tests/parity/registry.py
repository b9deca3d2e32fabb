"""A registry for commands that run in this thread."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

from tests.integration.registry_peer import docker_registry


@contextlib.contextmanager
def running_registry(directory: Path) -> Iterator[str]:
    """Run a registry in another thread, because this one has event loops of its own; yields ``host:port``."""
    host: Future[str] = Future()
    loop = asyncio.new_event_loop()
    end = asyncio.Event()

    async def serve() -> None:
        try:
            async with docker_registry(directory) as address:
                host.set_result(address)
                await end.wait()
        except BaseException as error:
            if not host.done():
                host.set_exception(error)
            raise

    def run() -> None:
        with contextlib.suppress(BaseException):  # told through `host`
            loop.run_until_complete(serve())

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield host.result()
    finally:
        loop.call_soon_threadsafe(end.set)
        thread.join()
        loop.close()
