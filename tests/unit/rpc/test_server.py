from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio
import pytest

from exporter.rpc.server import open_server

PATIENCE = 30.0


class Tidier:
    """A handler that takes its time when it is cancelled."""

    def __init__(self) -> None:
        self.began = asyncio.Event()
        self.is_tidy = False

    async def handle(self, _: object, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        self.began.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.2)
            self.is_tidy = True

    async def call(self, kind: str) -> None:
        """Call the handler, and stop the server while it runs."""
        make = getattr(grpc, f"{kind}_rpc_method_handler")
        async with open_server() as server:
            server.add_generic_rpc_handlers(
                (grpc.method_handlers_generic_handler("t", {"m": make(self.handle)}),)
            )
            port = server.add_insecure_port("127.0.0.1:0")
            await server.start()
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                start: Any = getattr(channel, kind)("/t/m")
                call = start(b"") if kind == "unary_unary" else start()
                async with asyncio.timeout(PATIENCE):
                    await self.began.wait()
                call.cancel()


@pytest.mark.parametrize("kind", ["unary_unary", "stream_stream"])
def test_handlers_have_ended_when_the_server_has(kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    async def run() -> bool:
        tidier = Tidier()
        await tidier.call(kind)
        return tidier.is_tidy

    assert asyncio.run(run())
    # gRPC prints a traceback of each call whose handler still runs when the program cancels what is left.
    assert "Traceback" not in capfd.readouterr().err


async def test_a_server_that_was_never_started_can_be_left() -> None:
    async with open_server([("grpc.so_reuseport", 0)]):
        pass
