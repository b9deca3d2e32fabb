from __future__ import annotations

import asyncio
import socket
import stat
from pathlib import Path

import pytest

from exporter.errors import FailedPreconditionError, InvalidArgumentError
from exporter.rpc.address import TCPAddress, UnixAddress
from exporter.rpc.listen import accepting
from exporter.rpc.sockets import bind_tcp
from exporter.rpc.tls import TLSConfig
from tests.certificates import make_certificates


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def bind(path: Path) -> None:
    async with accepting(asyncio.Protocol, UnixAddress(str(path)), None, insecure=False):
        assert mode(path) == 0o600


async def test_a_socket_is_created_and_removed(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "s"
    await bind(path)
    assert not path.exists()
    await bind(path)


async def test_a_dead_socket_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(path))
    await bind(path)


async def test_a_living_socket_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        with pytest.raises(FailedPreconditionError, match="another process listens"):
            await bind(path)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))


@pytest.mark.parametrize("kind", ["file", "directory", "link"])
async def test_something_else_is_not_replaced(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "s"
    if kind == "file":
        path.touch()
    elif kind == "directory":
        path.mkdir()
    else:
        path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FailedPreconditionError, match="is not a socket"):
        await bind(path)
    assert path.lstat()


async def test_another_servers_socket_is_not_removed_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "s"
    async with accepting(asyncio.Protocol, UnixAddress(str(path)), None, insecure=False):
        path.unlink()
        other = socket.socket(socket.AF_UNIX)
        other.bind(str(path))
    assert path.exists()
    other.close()


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
async def test_public_addresses_need_tls_or_consent(host: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        async with accepting(asyncio.Protocol, TCPAddress(host, 0), None, insecure=False):
            pass
    assert caught.value.field == "addresses"
    make_certificates(tmp_path)
    tls = TLSConfig(tmp_path / "server.pem", tmp_path / "server.key")
    for choice in (None, tls):
        async with accepting(asyncio.Protocol, TCPAddress(host, 0), choice, insecure=choice is None) as bound:
            assert isinstance(bound, TCPAddress)
            assert bound.port > 0


async def test_a_host_without_address(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError):
        async with accepting(asyncio.Protocol, TCPAddress("host.invalid", 0), None, insecure=False):
            pass


@pytest.mark.parametrize(
    ("cert", "key", "ca"),
    [
        ("missing", "server.key", None),
        ("server.pem", "client.key", None),
        ("server.key", "server.key", None),
        ("server.pem", "server.key", "server.key"),
    ],
)
async def test_unusable_certificates(tmp_path: Path, cert: str, key: str, ca: str | None) -> None:
    make_certificates(tmp_path)
    tls = TLSConfig(tmp_path / cert, tmp_path / key, tmp_path / ca if ca else None)
    with pytest.raises(InvalidArgumentError) as caught:
        async with accepting(asyncio.Protocol, TCPAddress("127.0.0.1", 0), tls, insecure=False):
            pass
    assert caught.value.field == "tls"


async def test_localhost_needs_no_resolver(monkeypatch: pytest.MonkeyPatch) -> None:
    async def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", unknown)
    (listener,) = await bind_tcp(TCPAddress("localhost", 0))
    with listener:
        assert listener.getsockname()[0] == "127.0.0.1"
    with pytest.raises(InvalidArgumentError, match="the host localhost.example is not known"):
        await bind_tcp(TCPAddress("localhost.example", 0))
