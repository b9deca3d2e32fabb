"""Listeners of our own: what they pass on, and what they say of those who do not get in."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from exporter.errors import FailedPreconditionError
from exporter.remotes.http.tls import client_context
from exporter.rpc.address import TCPAddress
from exporter.rpc.front import relaying
from exporter.rpc.sockets import bind_tcp
from exporter.rpc.tls import TLSConfig, server_context
from tests.certificates import make_certificates
from tests.sessions import until

MIB = 1 << 20


@pytest.fixture
async def echo(tmp_path: Path) -> AsyncIterator[str]:
    """A server that sends back what it gets, and ends with the client."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(64 << 10):
            writer.write(data)
            await writer.drain()
        writer.close()

    server = await asyncio.start_unix_server(serve, tmp_path / "echo")
    yield str(tmp_path / "echo")
    server.close()


async def test_bytes_are_passed_on_in_both_directions(echo: str) -> None:
    listeners = await bind_tcp(TCPAddress("localhost", 0))
    port = listeners[0].getsockname()[1]
    assert {listener.getsockname()[1] for listener in listeners} == {port}
    async with relaying(echo, listeners, None):
        for _ in range(3):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            sent = bytes(range(256)) * (4 * MIB // 256)
            writing = asyncio.create_task(write(writer, sent))
            assert await reader.readexactly(len(sent)) == sent
            await writing
            writer.close()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with pytest.raises(OSError):
        await asyncio.open_connection("127.0.0.1", port)
    assert await reader.read() == b"", "connections end with the listener"
    writer.close()


async def test_a_server_that_is_gone_ends_the_connection(tmp_path: Path) -> None:
    listeners = await bind_tcp(TCPAddress("127.0.0.1", 0))
    async with relaying(str(tmp_path / "nobody"), listeners, None):
        reader, writer = await asyncio.open_connection(*listeners[0].getsockname())
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)
        writer.close()


@pytest.mark.parametrize(
    ("client", "said"),
    [
        ("plain", "the client does not speak TLS"),
        ("no certificate", "the client shows no certificate, which --tlscacert asks for"),
        ("no trust", "the client does not trust this server's certificate"),
        ("good", None),
    ],
)
async def test_why_there_is_no_tls(
    client: str, said: str | None, echo: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make_certificates(tmp_path)
    context = server_context(TLSConfig(tmp_path / "server.pem", tmp_path / "server.key", tmp_path / "ca.pem"))
    listeners = await bind_tcp(TCPAddress("127.0.0.1", 0))
    host, port = listeners[0].getsockname()
    caplog.set_level(logging.WARNING)
    async with relaying(echo, listeners, context):
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
    """Greet as HTTP/2 clients do; gives the beginning of the answer. asyncio sends no alerts of TLS."""
    try:
        plain = socket.create_connection((host, port), timeout=30)
        with plain if context is None else context.wrap_socket(plain, server_hostname=host) as connection:
            connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            return connection.recv(3)
    except OSError:
        return b""


async def write(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(data)
    await writer.drain()
