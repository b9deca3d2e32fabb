"""Listeners of a server: Unix sockets, TCP with and without TLS, and inherited sockets."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from exporter.errors import InvalidArgumentError
from exporter.rpc.activation import InheritedSocket, ListenAddress
from exporter.rpc.address import Address, TCPAddress, UnixAddress
from exporter.rpc.front import taking
from exporter.rpc.sockets import bind_tcp, resolve, unix_socket
from exporter.rpc.tls import TLSConfig, server_context

_KEEPALIVE = (
    (socket.TCP_KEEPIDLE, 60),
    (socket.TCP_KEEPINTVL, 10),
    (socket.TCP_KEEPCNT, 2),
    (socket.TCP_USER_TIMEOUT, 80_000),  # milliseconds, for unacknowledged data
)


@asynccontextmanager
async def accepting(
    protocol: Callable[[], asyncio.BaseProtocol],
    address: ListenAddress,
    tls: TLSConfig | None,
    *,
    insecure: bool,
) -> AsyncIterator[Address]:
    """Accept connections at `address`. A Unix socket's file is removed at the end.

    Args:
        protocol: Creates the protocol of a connection.
        address: The address.
        tls: The TLS files, for TCP addresses.
        insecure: Allow plain TCP on interfaces other than loopback.

    Yields:
        The address with the actual port.

    Raises:
        InvalidArgumentError: a certificate is invalid, or plain TCP was requested on a public interface.
        FailedPreconditionError: the address is in use, or does not belong to this machine.
    """
    if isinstance(address, UnixAddress):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            # Create the server only after the socket has been bound.
            async with (
                unix_socket(address, lambda: listener.bind(address.path)),
                taking(protocol, [listener], None),
            ):
                yield address
        return
    listeners, context, bound = await _open(address, tls, insecure=insecure)
    async with taking(protocol, listeners, context):
        yield bound


async def _open(
    address: TCPAddress | InheritedSocket, tls: TLSConfig | None, *, insecure: bool
) -> tuple[list[socket.socket], ssl.SSLContext | None, Address]:
    """Open the sockets; returns them, the TLS context, and the address with the actual port."""
    where = address.address if isinstance(address, InheritedSocket) else address
    context = None
    if isinstance(where, TCPAddress):
        await _check_tcp(where, tls, insecure=insecure)
        context = await asyncio.to_thread(server_context, tls) if tls is not None else None
    if isinstance(address, InheritedSocket):
        listener = socket.socket(fileno=address.descriptor)
        listener.setblocking(False)
        if isinstance(where, TCPAddress):
            _watch_peers(listener)
        return [listener], context, where
    listeners = await bind_tcp(address)
    for listener in listeners:
        _watch_peers(listener)
    return listeners, context, TCPAddress(address.host, listeners[0].getsockname()[1])


async def _check_tcp(address: TCPAddress, tls: TLSConfig | None, *, insecure: bool) -> None:
    if tls is None and not insecure and not await _is_loopback(address):
        raise InvalidArgumentError(
            f"{address}: without TLS, anybody on the network could read and write images; give a certificate "
            "and key, listen on loopback or on a Unix socket, or allow it with --insecure-listen",
            field="addresses",
        )


async def _is_loopback(address: TCPAddress) -> bool:
    found = await resolve(address)
    return all(ipaddress.ip_address(host.split("%")[0]).is_loopback for _, (host, _) in found)


def _watch_peers(listener: socket.socket) -> None:
    """Make the kernel close connections whose peers have disappeared. Accepted connections inherit this."""
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEPALIVE:
        listener.setsockopt(socket.IPPROTO_TCP, option, value)
