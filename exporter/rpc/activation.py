"""Sockets inherited from the parent process (systemd's socket activation).

Source of the rules: ``sd_listen_fds(3)``. ``LISTEN_PID`` is the process that the sockets are for,
``LISTEN_FDS`` their number, from descriptor 3 on, and ``LISTEN_FDNAMES`` their names in the unit file. As in
buildkitd and dockerd, ``fd://`` means these sockets.
"""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass

from exporter.errors import FailedPreconditionError, InvalidArgumentError
from exporter.rpc.address import Address, TCPAddress, UnixAddress, parse_address

SCHEME = "fd://"

_FIRST = 3
_VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")


@dataclass(frozen=True, slots=True)
class InheritedSocket:
    """A listening socket.

    Attributes:
        descriptor: Its file descriptor. The code that listens on it closes it.
        name: Its name in the unit file (``FileDescriptorName=``).
        address: The address it listens at.
    """

    descriptor: int
    name: str
    address: Address

    def __str__(self) -> str:
        return str(self.address)


ListenAddress = Address | InheritedSocket
"""An address to listen at, or an inherited socket."""


def listen_addresses(
    texts: Sequence[str], *, field: str, environ: MutableMapping[str, str] | None = None
) -> list[ListenAddress]:
    """Parse the addresses of a server's listeners.

    Args:
        texts: Addresses as for `parse_address`; or ``fd://`` for all inherited sockets, ``fd://NAME`` for
            those of that name, ``fd://3`` for that descriptor.
        field: The field to name in errors.
        environ: The environment variables; those of the process if None. If sockets are used, the variables
            about them are removed, because child processes must not inherit them.

    Raises:
        InvalidArgumentError: an address is invalid; names `field`.
        FailedPreconditionError: a socket does not exist.
    """
    found: list[ListenAddress] = []
    wanted = [text.startswith(SCHEME) for text in texts]
    inherited = inherited_sockets(os.environ if environ is None else environ, field) if any(wanted) else []
    for text, is_inherited in zip(texts, wanted, strict=True):
        if is_inherited:
            found += _select(inherited, text, field)
        else:
            found.append(_parse(text, field))
    used = [item.descriptor for item in found if isinstance(item, InheritedSocket)]
    if len(used) != len(set(used)):
        raise InvalidArgumentError(f"{', '.join(texts)}: a socket is named twice", field=field)
    return found


def inherited_sockets(environ: MutableMapping[str, str], field: str) -> list[InheritedSocket]:
    """The inherited sockets. Their variables are removed from `environ`.

    Raises:
        FailedPreconditionError: one of them does not listen, or has an unsupported type.
    """
    pid, count, names = (environ.pop(name, "") for name in _VARIABLES)
    if pid != str(os.getpid()) or not count.isdecimal():
        return []
    labels = names.split(":") if names else []
    labels += [""] * (int(count) - len(labels))
    return [
        InheritedSocket(descriptor, name, _address_of(descriptor, field))
        for descriptor, name in enumerate(labels[: int(count)], _FIRST)
    ]


def _select(inherited: Sequence[InheritedSocket], text: str, field: str) -> list[InheritedSocket]:
    if not inherited:
        raise FailedPreconditionError(
            f"{text}: no sockets were handed over; that is what systemd does for a service that has a "
            ".socket unit (LISTEN_FDS, LISTEN_PID). Without one, write unix:///absolute/path or "
            "tcp://host:port",
            field=field,
        )
    name = text.removeprefix(SCHEME)
    chosen = [item for item in inherited if name in {"", item.name, str(item.descriptor)}]
    if not chosen:
        known = ", ".join(f"fd://{item.name or item.descriptor} ({item.address})" for item in inherited)
        raise FailedPreconditionError(
            f"{text}: no socket of that name was handed over; there is {known}", field=field
        )
    return chosen


def _parse(text: str, field: str) -> Address:
    return parse_address(text, field=field, also=", or fd:// for systemd's sockets")


def _address_of(descriptor: int, field: str) -> Address:
    try:
        listener = socket.socket(fileno=os.dup(descriptor))
    except OSError as error:
        raise FailedPreconditionError(
            f"descriptor {descriptor}, which LISTEN_FDS promises, is not a socket: {error.strerror}",
            field=field,
        ) from error
    with listener:
        os.set_inheritable(descriptor, False)
        if listener.type != socket.SOCK_STREAM or not listener.getsockopt(
            socket.SOL_SOCKET, socket.SO_ACCEPTCONN
        ):
            raise FailedPreconditionError(
                f"descriptor {descriptor} is not a listening stream socket: write ListenStream= into the "
                ".socket unit, and Accept=no",
                field=field,
            )
        return socket_address(listener, field)


def socket_address(listener: socket.socket, field: str) -> Address:
    """The address of a socket.

    Raises:
        FailedPreconditionError: the socket is neither a Unix nor a TCP socket.
    """
    name = listener.getsockname()
    if listener.family == socket.AF_UNIX:
        path = os.fsdecode(name)
        return UnixAddress(f"@{path[1:]}" if path.startswith("\0") else path)
    if listener.family in {socket.AF_INET, socket.AF_INET6}:
        return TCPAddress(str(name[0]), int(name[1]))
    raise FailedPreconditionError(
        f"a socket of the family {listener.family.name} was handed over: unix sockets and TCP can be used",
        field=field,
    )
