"""Our listeners: accepted connections, and log messages about failed ones."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from contextlib import suppress
from pathlib import Path

import pytest

from exporter.errors import FailedPreconditionError
from exporter.remotes.http.tls import client_context
from exporter.rpc.address import TCPAddress
from exporter.rpc.front import taking
from exporter.rpc.sockets import bind_tcp
from exporter.rpc.tls import TLSConfig, server_context
from tests.certificates import make_certificates
from tests.sessions import until


class Echo(asyncio.Protocol):
    """Sends back what it gets."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


async def test_connections_are_accepted_at_all_sockets_until_the_end() -> None:
    listeners = await bind_tcp(TCPAddress("localhost", 0))
    port = listeners[0].getsockname()[1]
    assert {listener.getsockname()[1] for listener in listeners} == {port}
    async with taking(Echo, listeners, None):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"PRI")
        assert await reader.readexactly(3) == b"PRI"
        writer.close()
    with pytest.raises(OSError):
        await asyncio.open_connection("127.0.0.1", port)


@pytest.mark.parametrize(
    ("client", "said"),
    [
        ("plain", "the client does not speak TLS"),
        ("no certificate", "the client shows no certificate, which --tlscacert asks for"),
        ("no trust", "the client does not trust this server's certificate"),
        ("good", None),
    ],
)
async def test_a_failed_tls_handshake_is_logged_with_its_reason(
    client: str, said: str | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make_certificates(tmp_path)
    context = server_context(TLSConfig(tmp_path / "server.pem", tmp_path / "server.key", tmp_path / "ca.pem"))
    listeners = await bind_tcp(TCPAddress("127.0.0.1", 0))
    host, port = listeners[0].getsockname()
    caplog.set_level(logging.WARNING)
    async with taking(Echo, listeners, context):
        ours = client_context(None if client == "no trust" else tmp_path / "ca.pem")
        ours.set_alpn_protocols(["h2"])
        if client != "no certificate":
            ours.load_cert_chain(tmp_path / "client.pem", tmp_path / "client.key")
        answer = await asyncio.to_thread(greet, host, port, None if client == "plain" else ours)
        if said is None:
            assert answer == b"PRI"
            assert caplog.messages == []
            return
        await until(lambda: bool(caplog.messages))
    [message] = caplog.messages
    assert message.startswith("no TLS with 127.0.0.1:")
    assert message.endswith(f": {said}")


async def test_handshakes_that_are_not_completed_keep_nobody_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exporter.rpc.front.MAX_HANDSHAKES", 4)
    make_certificates(tmp_path)
    context = server_context(TLSConfig(tmp_path / "server.pem", tmp_path / "server.key"))
    listeners = await bind_tcp(TCPAddress("127.0.0.1", 0))
    host, port = listeners[0].getsockname()
    async with taking(Echo, listeners, context):
        silent = [await asyncio.open_connection(host, port) for _ in range(8)]
        for reader, _ in silent[:4]:
            async with asyncio.timeout(30):
                with suppress(ConnectionError):
                    assert await reader.read(1) == b""
        ours = client_context(tmp_path / "ca.pem")
        ours.set_alpn_protocols(["h2"])
        assert await asyncio.to_thread(greet, host, port, ours) == b"PRI"
        for _, writer in silent:
            writer.close()


async def test_a_handshake_that_takes_too_long_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("exporter.rpc.front.HANDSHAKE_SECONDS", 0.05)
    make_certificates(tmp_path)
    context = server_context(TLSConfig(tmp_path / "server.pem", tmp_path / "server.key"))
    listeners = await bind_tcp(TCPAddress("127.0.0.1", 0))
    async with taking(Echo, listeners, context):
        reader, writer = await asyncio.open_connection(*listeners[0].getsockname())
        async with asyncio.timeout(30):
            with suppress(ConnectionError):
                assert await reader.read(1) == b""
        writer.close()


async def test_a_port_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(FailedPreconditionError) as caught:
            await bind_tcp(TCPAddress("127.0.0.1", port))
    assert str(caught.value) == (
        f"cannot listen on tcp://127.0.0.1:{port}: another process listens on port {port} "
        f"(`ss -ltnp sport = :{port}` tells which); end it, or choose another port"
    )
    with pytest.raises(FailedPreconditionError, match="does not have that address"):
        await bind_tcp(TCPAddress("192.0.2.1", 0))


def greet(host: str, port: int, context: ssl.SSLContext | None) -> bytes:
    """Send the HTTP/2 preface; returns the beginning of the response. asyncio sends no alerts of TLS."""
    try:
        plain = socket.create_connection((host, port), timeout=30)
        with plain if context is None else context.wrap_socket(plain, server_hostname=host) as connection:
            connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            return connection.recv(3)
    except OSError:
        return b""
