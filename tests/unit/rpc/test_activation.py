from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from exporter.errors import ExporterError, FailedPreconditionError, InvalidArgumentError
from exporter.rpc import activation
from exporter.rpc.activation import InheritedSocket, inherited_sockets, listen_addresses
from exporter.rpc.address import TCPAddress, UnixAddress
from exporter.rpc.listen import accepting
from exporter.rpc.session.services import SessionServices
from exporter.rpc.tls import TLSConfig
from exporter.server.calls import CallServer
from tests.certificates import make_certificates


def unix_listener(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    return listener


@pytest.fixture
def handed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """Two adjacent sockets, and the variables that describe them."""
    listeners = [unix_listener(tmp_path / "s"), socket.create_server(("127.0.0.1", 0))]
    first = max(listener.fileno() for listener in listeners) + 50
    for number, listener in enumerate(listeners, first):
        os.dup2(listener.fileno(), number)
        listener.close()
    monkeypatch.setattr(activation, "_FIRST", first)
    yield {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "2", "LISTEN_FDNAMES": "local:net", "PATH": "/bin"}
    for number in (first, first + 1):
        with suppress(OSError):
            os.close(number)


def test_all_inherited_sockets_are_used(handed_over: dict[str, str], tmp_path: Path) -> None:
    local, net = listen_addresses(["fd://"], field="addresses", environ=handed_over)
    assert isinstance(local, InheritedSocket)
    assert isinstance(net, InheritedSocket)
    assert (local.name, local.address) == ("local", UnixAddress(f"{tmp_path}/s"))
    assert net.name == "net"
    assert isinstance(net.address, TCPAddress)
    assert net.address.host == "127.0.0.1"
    assert net.descriptor == local.descriptor + 1
    assert not os.get_inheritable(local.descriptor)
    assert handed_over == {"PATH": "/bin"}, "programs that we start do not get them"


def test_sockets_are_taken_by_name_and_by_number(handed_over: dict[str, str]) -> None:
    known = inherited_sockets(dict(handed_over), "addresses")
    for text in ("fd://net", f"fd://{known[1].descriptor}"):
        assert listen_addresses([text], field="addresses", environ=dict(handed_over)) == [known[1]]
    both = listen_addresses(["fd://net", "unix:///x"], field="addresses", environ=dict(handed_over))
    assert both == [known[1], UnixAddress("/x")]
    with pytest.raises(InvalidArgumentError, match="named twice"):
        listen_addresses(["fd://", "fd://net"], field="addresses", environ=dict(handed_over))
    with pytest.raises(FailedPreconditionError, match="there is fd://local"):
        listen_addresses(["fd://other"], field="addresses", environ=dict(handed_over))


@pytest.mark.parametrize(
    "change", [{"LISTEN_PID": "1"}, {"LISTEN_PID": ""}, {"LISTEN_FDS": "0"}, {"LISTEN_FDS": "many"}]
)
def test_sockets_for_another_process_are_ignored(handed_over: dict[str, str], change: dict[str, str]) -> None:
    with pytest.raises(FailedPreconditionError, match="no sockets were handed over"):
        listen_addresses(["fd://"], field="addresses", environ={**handed_over, **change})


def test_sockets_that_do_not_listen_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = socket.socketpair()
    with one, other:
        monkeypatch.setattr(activation, "_FIRST", one.fileno())
        environ = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
        with pytest.raises(FailedPreconditionError, match="not a listening stream socket"):
            listen_addresses(["fd://"], field="addresses", environ=environ)
    monkeypatch.setattr(activation, "_FIRST", 900)
    environ = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
    with pytest.raises(FailedPreconditionError, match="descriptor 900, which LISTEN_FDS promises"):
        listen_addresses(["fd://"], field="addresses", environ=environ)


async def test_a_server_answers_at_inherited_sockets(handed_over: dict[str, str], tmp_path: Path) -> None:
    make_certificates(tmp_path)
    tls = TLSConfig(tmp_path / "server.pem", tmp_path / "server.key", tmp_path / "ca.pem")
    local, net = listen_addresses(["fd://"], field="addresses", environ=handed_over)
    health_service = health.aio.HealthServicer()
    services = SessionServices.of([partial(health_pb2_grpc.add_HealthServicer_to_server, health_service)])
    async with (
        CallServer.open(services, max_message_bytes=1 << 20) as server,
        accepting(server.protocol, local, tls, insecure=False) as first,
        accepting(server.protocol, net, tls, insecure=False) as second,
    ):
        assert first == UnixAddress(f"{tmp_path}/s")
        async with grpc.aio.insecure_channel(first.target) as channel:
            assert await is_serving(channel)
        credentials = grpc.ssl_channel_credentials(
            *((tmp_path / name).read_bytes() for name in ("ca.pem", "client.key", "client.pem"))
        )
        async with grpc.aio.secure_channel(second.target, credentials) as channel:
            assert await is_serving(channel)
        async with grpc.aio.insecure_channel(second.target) as channel:
            with pytest.raises(grpc.aio.AioRpcError):
                await is_serving(channel)
    assert (tmp_path / "s").exists(), "it is not ours to remove"


async def test_an_inherited_public_port_needs_tls_as_well(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with socket.create_server(("0.0.0.0", 0)) as listener:
        monkeypatch.setattr(activation, "_FIRST", listener.fileno())
        environ = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
        [address] = listen_addresses(["fd://"], field="addresses", environ=environ)
        with pytest.raises(ExporterError, match="without TLS"):
            async with accepting(asyncio.Protocol, address, None, insecure=False):
                pass


async def is_serving(channel: grpc.aio.Channel) -> bool:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=10)
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
