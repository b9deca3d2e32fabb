"""Creating listening sockets, and explaining failures."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import socket
import stat
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path

from exporter.errors import FailedPreconditionError, InvalidArgumentError
from exporter.rpc.address import TCPAddress, UnixAddress

SOCKET_MODE = 0o600
"""Only the owner may connect, because a client can read every blob in the store and have files written."""

_BACKLOG = 128
_PRIVILEGED = 1024


async def resolve(
    address: TCPAddress, field: str = "addresses"
) -> list[tuple[socket.AddressFamily, tuple[str, int]]]:
    """Resolve a name.

    As in RFC 6761, ``localhost`` is loopback even if no resolver knows it: a chroot may lack /etc/hosts.

    Raises:
        InvalidArgumentError: the name does not resolve.
    """
    try:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except socket.gaierror as error:
        if address.host.lower().rstrip(".") == "localhost":
            return [(socket.AF_INET, ("127.0.0.1", address.port))]
        raise InvalidArgumentError(
            f"{address}: the host {address.host} is not known: {error.strerror}", field=field
        ) from error
    unique = {(family, (str(name[0]), int(name[1]))): None for family, _, _, _, name in found}
    return list(unique)


async def bind_tcp(address: TCPAddress, field: str = "addresses") -> list[socket.socket]:
    """Listen at all addresses of a host, on the same port. The caller closes the sockets.

    Args:
        address: The host, and the port; 0 for any free one.
        field: The field to name in errors.

    Raises:
        FailedPreconditionError: the address is in use, or does not belong to this machine.
        InvalidArgumentError: the host does not resolve.
    """
    port = address.port
    with ExitStack() as stack:
        listeners: list[socket.socket] = []
        for family, (host, _) in await resolve(address, field):
            try:
                listener = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
            except OSError:  # an address family that this machine does not support
                continue
            listener.setblocking(False)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                listener.bind((host, port))
                listener.listen(_BACKLOG)
            except OSError as error:
                raise FailedPreconditionError(
                    f"cannot listen on {address}: {why_not(error, port)}", field=field
                ) from error
            port = listener.getsockname()[1]
            listeners.append(listener)
        if not listeners:
            raise FailedPreconditionError(
                f"cannot listen on {address}: this machine does not have such addresses", field=field
            )
        stack.pop_all()
    return listeners


def why_not(error: OSError, port: int) -> str:
    """Explain why a port is not available, and what to do."""
    match error.errno:
        case errno.EADDRINUSE:
            return (
                f"another process listens on port {port} (`ss -ltnp sport = :{port}` tells which); "
                "end it, or choose another port"
            )
        case errno.EADDRNOTAVAIL:
            return "this machine does not have that address (`ip addr` lists those that it has)"
        case errno.EACCES if port < _PRIVILEGED:
            return (
                f"port {port} is for root, or for whoever has CAP_NET_BIND_SERVICE: choose one from 1024 on"
            )
    return error.strerror or str(error)


@asynccontextmanager
async def unix_socket(address: UnixAddress, bind: Callable[[], object]) -> AsyncIterator[None]:
    """Create a socket, and remove its file at the end.

    Args:
        address: The address.
        bind: Creates the socket.

    Raises:
        FailedPreconditionError: the address is in use, or the socket cannot be created.
    """
    identity = await asyncio.to_thread(_bind_unix, address, bind)
    try:
        yield
    finally:
        await asyncio.to_thread(_remove_socket, address.path, identity)


def _bind_unix(address: UnixAddress, bind: Callable[[], object]) -> tuple[int, int]:
    """Create the socket, replacing a stale one.

    gRPC removes any existing socket file, even one in use. So we check it first, under a lock on the
    directory that serializes servers which start at the same time.
    """
    path = Path(address.path)
    _check_directory(path.parent, address)
    with _locked(path.parent):
        _remove_stale(path)
        previous = os.umask(0o777 & ~SOCKET_MODE)
        try:
            bind()
        finally:
            os.umask(previous)
        status = path.lstat()
        return status.st_dev, status.st_ino


def _check_directory(directory: Path, address: UnixAddress) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FailedPreconditionError(
            f"cannot listen on {address}: its directory {directory} is missing and cannot be made: "
            f"{error.strerror}",
            field="addresses",
        ) from error
    if not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
        raise FailedPreconditionError(
            f"cannot listen on {address}: no permission to make a socket in {directory}; choose a directory "
            "of your own, such as $XDG_RUNTIME_DIR",
            field="addresses",
        )


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
        raise FailedPreconditionError(
            f"cannot listen on unix://{path}: a file that is not a socket is in the way; remove it, or "
            "choose another path",
            field="addresses",
        )
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
            # A full backlog or a timeout means that a slow server is there. Without permission we cannot
            # tell.
            if error.errno in {errno.EACCES, errno.EPERM}:
                raise FailedPreconditionError(
                    f"cannot listen on unix://{path}: there is a socket of another user, perhaps in use; "
                    "remove it, or choose another path",
                    field="addresses",
                ) from error
    raise FailedPreconditionError(
        f"cannot listen on unix://{path}: another process listens there (`ss -lxp src {path}` tells which); "
        "end it, or choose another path",
        field="addresses",
    )


def _remove_socket(path: str, identity: tuple[int, int]) -> None:
    """Remove our socket's file, unless another process has replaced it."""
    try:
        status = Path(path).lstat()
    except FileNotFoundError:
        return
    if (status.st_dev, status.st_ino) == identity:
        Path(path).unlink()
