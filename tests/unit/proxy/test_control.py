from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import grpc
import grpc.aio

from exporter.pb.moby.buildkit.v1 import control_pb2, control_pb2_grpc
from exporter.progress.model import StatusUpdate, Vertex
from exporter.proxy.builds import Builds
from exporter.proxy.control import STATUS_METHOD, ControlProxy
from exporter.rpc.answering import Answering
from exporter.rpc.http2.connection import Connection
from exporter.rpc.http2.sockets import Scheduler
from exporter.rpc.http2.sockets import serving as http2
from exporter.takeover.build import BuildOptions
from exporter.takeover.plan import Routes
from tests.sessions import PATIENCE, serving

OURS = StatusUpdate(vertexes=(Vertex(digest="sha256:ours", name="exporting"),))


class Daemon:
    """Reports one step of a build on request."""

    def __init__(self) -> None:
        self.is_watched = asyncio.Event()
        self.go_on = asyncio.Event()

    def register(self, server: grpc.aio.Server) -> None:
        _, service, method = STATUS_METHOD.split("/")
        handlers: dict[str, Any] = {method: grpc.stream_stream_rpc_method_handler(self._status)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))

    async def _status(self, _: object, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        self.is_watched.set()
        await self.go_on.wait()
        message = control_pb2.StatusResponse(vertexes=[control_pb2.Vertex(digest="sha256:theirs")])
        await context.write(message.SerializeToString())


@asynccontextmanager
async def proxied(daemon: Daemon, builds: Builds) -> AsyncIterator[control_pb2_grpc.ControlStub]:
    """A daemon, reached through the proxy's handlers."""
    async with serving(daemon.register) as channel:
        control = ControlProxy(channel, cast(Routes, None), builds, BuildOptions())
        async with Answering.open() as answering:

            def accept(connection: Connection) -> None:
                connection.on_stream = lambda stream, headers, end: answering.answer(
                    stream, headers, control.status, end=end
                )

            loop = asyncio.get_running_loop()
            server = await loop.create_server(http2(Scheduler(), accept), "127.0.0.1", 0)
            async with server:
                port = server.sockets[0].getsockname()[1]
                async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as to_proxy:
                    yield control_pb2_grpc.ControlStub(to_proxy)


async def test_late_watchers_get_past_progress_before_the_daemon_answers() -> None:
    daemon, builds = Daemon(), Builds()
    with builds.progress("build") as progress:
        progress.put(OURS)
        async with proxied(daemon, builds) as control, asyncio.timeout(PATIENCE):
            call = control.Status(control_pb2.StatusRequest(Ref="build"))
            await daemon.is_watched.wait()
            daemon.go_on.set()
            shown = [vertex.digest async for message in call for vertex in message.vertexes]
    assert sorted(shown) == ["sha256:ours", "sha256:theirs"]
