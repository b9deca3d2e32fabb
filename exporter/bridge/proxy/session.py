"""Sessions on their way through the proxy."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio

from exporter.bridge.proxy.builds import Builds
from exporter.bridge.proxy.client import FILE_SEND_METHOD, FIND_EXPORTERS_METHOD, SessionClient
from exporter.bridge.proxy.forward import Context, Metadata, forward, forwarded_metadata
from exporter.bridge.proxy.handlers import RawHandler, raw_server
from exporter.bridge.proxy.session_services import ADDED_METHODS, SessionServices
from exporter.bridge.sessions import SESSION_ID, SESSION_METHOD
from exporter.bridge.tunnel import TUNNEL_OPTIONS, connect_server, open_channel, pump_bytes
from exporter.pb.moby.buildkit.v1 import control_pb2, control_pb2_grpc

SESSION_METHOD_NAME = "/moby.buildkit.v1.Control/Session"


class SessionProxy:
    """Handles the streams with which clients attach themselves.

    Args:
        daemon: Reaches the daemon.
        builds: Where builds are found.
    """

    def __init__(self, daemon: grpc.aio.Channel, builds: Builds) -> None:
        self._daemon = daemon
        self._builds = builds

    async def session(self, context: Context) -> None:
        """Attach a client to the daemon, and the proxy between them."""
        metadata = forwarded_metadata(context.invocation_metadata())
        call = control_pb2_grpc.ControlStub(self._daemon).Session(metadata=_announce(metadata))
        try:
            await context.send_initial_metadata(())
            async with open_channel(_RawStream(context)) as (channel, client_pump):
                client = _client(metadata, channel)
                services = SessionServices(client, self._builds, self._daemon)
                server = raw_server(_dispatch(services, channel), TUNNEL_OPTIONS)
                async with connect_server(server) as (reader, writer):
                    daemon_pump = asyncio.create_task(pump_bytes(call, reader, writer))
                    try:
                        await asyncio.wait((client_pump, daemon_pump), return_when=asyncio.FIRST_COMPLETED)
                    finally:
                        daemon_pump.cancel()
                        await asyncio.wait((daemon_pump,))
        finally:
            call.cancel()


def _dispatch(services: SessionServices, channel: grpc.aio.Channel) -> Any:
    def find(method: str) -> RawHandler:
        if method == FIND_EXPORTERS_METHOD:
            return services.find_exporters
        if method == FILE_SEND_METHOD:
            return services.send_file
        return lambda context: forward(channel, method, context)

    return find


def _client(metadata: Metadata, channel: grpc.aio.Channel) -> SessionClient:
    ids = [str(value) for key, value in metadata if key == SESSION_ID]
    methods = frozenset(str(value).lower() for key, value in metadata if key == SESSION_METHOD)
    return SessionClient(ids[0] if ids else "", channel, methods)


def _announce(metadata: Metadata) -> Metadata:
    """Add the methods that the proxy answers itself to those of the client."""
    announced = {str(value).lower() for key, value in metadata if key == SESSION_METHOD}
    added = [(SESSION_METHOD, method) for method in ADDED_METHODS if method.lower() not in announced]
    return (*metadata, *added)


class _RawStream:
    def __init__(self, context: Context) -> None:
        self._context = context

    async def read(self) -> object:
        data = await self._context.read()
        return data if data is grpc.aio.EOF else control_pb2.BytesMessage.FromString(data)

    async def write(self, message: control_pb2.BytesMessage, /) -> None:
        await self._context.write(message.SerializeToString())
