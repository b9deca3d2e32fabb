"""Where the server listens: Unix sockets and TCP, the latter with TLS."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import ipaddress
import os
import socket
import ssl
import stat
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path

import grpc
import grpc.aio

from exporter.errors import FailedPreconditionError, InvalidArgumentError
from exporter.rpc.address import Address, TCPAddress, UnixAddress
from exporter.rpc.tls import TLSConfig

SOCKET_MODE = 0o600
"""Whoever can connect can read every blob in the store and have files written: the owner only."""


@asynccontextmanager
async def listening(
    server: grpc.aio.Server, address: Address, tls: TLSConfig | None, *, insecure: bool
) -> AsyncIterator[Address]:
    """Bind `server`, which has not been started, to `address`; a Unix socket's file is removed at the end.

    Args:
        server: The server.
        address: Where to listen.
        tls: Files for TLS, for TCP addresses.
        insecure: Allow plain TCP on other interfaces than loopback.

    Yields:
        The address with the port that it got.

    Raises:
        InvalidArgumentError: certificates cannot be used, or plain TCP was asked for on a public interface.
        FailedPreconditionError: somebody listens there already, or the address is not ours.
    """
    if isinstance(address, UnixAddress):
        async with _unix_socket(address, lambda: _bind(server, address)):
            yield address
        return
    await _check_tcp(address, tls, insecure=insecure)
    credentials = await asyncio.to_thread(_credentials, tls) if tls is not None else None
    yield TCPAddress(address.host, _bind(server, address, credentials))


@asynccontextmanager
async def accepting(
    protocol: Callable[[], asyncio.BaseProtocol], address: Address, tls: TLSConfig | None, *, insecure: bool
) -> AsyncIterator[Address]:
    """Take connections at `address` for a protocol that is no gRPC server's; otherwise as `listening`.

    Args:
        protocol: Makes a protocol for each connection.
        address: Where to listen.
        tls: Files for TLS, for TCP addresses.
        insecure: Allow plain TCP on other interfaces than loopback.
    """
    loop = asyncio.get_running_loop()
    if isinstance(address, UnixAddress):
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with listener:
            # The server is made when the socket has been bound, not before.
            async with _unix_socket(address, lambda: listener.bind(address.path)):
                # Its own way to end waits for the connections, from Python 3.12 on.
                with closing(await loop.create_unix_server(protocol, sock=listener)):
                    yield address
        return
    await _check_tcp(address, tls, insecure=insecure)
    context = None
    if tls is not None:
        context = (await asyncio.to_thread(_load_tls, tls))[0]
        context.set_alpn_protocols(["h2"])
    try:
        server = await loop.create_server(protocol, address.host, address.port, ssl=context)
    except OSError as error:
        raise FailedPreconditionError(f"cannot listen on {address}: {error}", field="addresses") from error
    with closing(server):
        yield TCPAddress(address.host, server.sockets[0].getsockname()[1])


async def _check_tcp(address: TCPAddress, tls: TLSConfig | None, *, insecure: bool) -> None:
    if tls is None and not insecure and not await _is_loopback(address):
        raise InvalidArgumentError(
            f"{address}: without TLS, anybody in the network could read and write images; give a certificate "
            "and key, listen on loopback or on a Unix socket, or allow insecure listening explicitly",
            field="addresses",
        )


def _bind(
    server: grpc.aio.Server, address: Address, credentials: grpc.ServerCredentials | None = None
) -> int:
    try:
        if credentials is not None:
            return server.add_secure_port(address.target, credentials)
        return server.add_insecure_port(address.target)
    except RuntimeError as error:
        raise FailedPreconditionError(f"cannot listen on {address}: {error}", field="addresses") from error


@asynccontextmanager
async def _unix_socket(address: UnixAddress, bind: Callable[[], object]) -> AsyncIterator[None]:
    """Have a socket made, and remove its file at the end."""
    identity = await asyncio.to_thread(_bind_unix, address, bind)
    try:
        yield
    finally:
        await asyncio.to_thread(_remove_socket, address.path, identity)


def _bind_unix(address: UnixAddress, bind: Callable[[], object]) -> tuple[int, int]:
    """Make the socket, in place of one that was left behind.

    gRPC removes any socket file that is in its way, a living one as well. So it is looked at before, under a
    lock on the directory that keeps two starting servers apart.
    """
    path = Path(address.path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with _locked(path.parent):
        _remove_stale(path)
        previous = os.umask(0o777 & ~SOCKET_MODE)
        try:
            bind()
        finally:
            os.umask(previous)
        status = path.lstat()
        return status.st_dev, status.st_ino


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _remove_stale(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise FailedPreconditionError(f"{path} exists and is no socket", field="addresses")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except FileNotFoundError:
            return
        except OSError as error:
            # A full backlog, a time-out: somebody is there, if slow. Without permission we cannot tell.
            if error.errno in {errno.EACCES, errno.EPERM}:
                raise
    raise FailedPreconditionError(f"another process listens on {path}", field="addresses")


def _remove_socket(path: str, identity: tuple[int, int]) -> None:
    """Remove our socket's file, but not one that somebody has put in its place."""
    try:
        status = Path(path).lstat()
    except FileNotFoundError:
        return
    if (status.st_dev, status.st_ino) == identity:
        Path(path).unlink()


async def _is_loopback(address: TCPAddress) -> bool:
    try:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        raise InvalidArgumentError(f"{address}: {error.strerror}", field="addresses") from error
    return all(ipaddress.ip_address(str(info[4][0]).split("%")[0]).is_loopback for info in found)


def _credentials(tls: TLSConfig) -> grpc.ServerCredentials:
    _, chain, key, client_ca = _load_tls(tls)
    return grpc.ssl_server_credentials([(key, chain)], client_ca, require_client_auth=client_ca is not None)


def _load_tls(tls: TLSConfig) -> tuple[ssl.SSLContext, bytes, bytes, bytes | None]:
    """Read and try the files: gRPC itself says nothing of what is wrong with them until a client connects."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        chain, key = tls.cert.read_bytes(), tls.key.read_bytes()
        context.load_cert_chain(tls.cert, tls.key, password=_no_password)
        client_ca = tls.client_ca.read_bytes() if tls.client_ca is not None else None
        if tls.client_ca is not None:
            context.load_verify_locations(tls.client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise InvalidArgumentError(f"cannot use the TLS files: {error}", field="tls") from error
    return context, chain, key, client_ca


def _no_password() -> str:
    raise ValueError("the key is encrypted; the server cannot ask for its password")
