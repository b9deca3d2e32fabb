"""Notifying a supervisor that the server is ready or stopping.

Source of the rules: ``sd_notify(3)`` for ``NOTIFY_SOCKET``. For s6, dinit, other programs and shells, there
is a file descriptor for readiness.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import MutableMapping, Sequence

from exporter.errors import InvalidArgumentError

logger = logging.getLogger(__name__)

_LAST_STANDARD = 2


class Supervisor:
    """The process that has started the server and watches its state.

    Args:
        ready_fd: A file descriptor for the readiness notification, if any: once connections are accepted,
            one line per address is written to it, and it is closed.
        environ: The environment variables; those of the process if None. ``NOTIFY_SOCKET`` is removed, so
            that child processes do not inherit it.

    Raises:
        InvalidArgumentError: the descriptor is not open or not writable; ``field`` is ``ready_fd``.
    """

    def __init__(self, ready_fd: int | None = None, environ: MutableMapping[str, str] | None = None) -> None:
        self._address = (os.environ if environ is None else environ).pop("NOTIFY_SOCKET", "")
        self._ready_fd = ready_fd
        if ready_fd is not None:
            _check(ready_fd)

    def ready(self, addresses: Sequence[object]) -> None:
        """Notify that connections are accepted at these addresses."""
        names = [str(address) for address in addresses]
        self._notify("READY=1", f"STATUS=listening on {', '.join(names)}")
        if self._ready_fd is not None:
            descriptor, self._ready_fd = self._ready_fd, None
            _write_and_close(descriptor, "".join(f"{name}\n" for name in names).encode())

    def status(self, text: str) -> None:
        """Report a one-line status, which ``systemctl status`` shows."""
        self._notify(f"STATUS={text}")

    def stopping(self, text: str) -> None:
        """Notify that shutdown has begun, and what it waits for."""
        self._notify("STOPPING=1", f"STATUS={text}")

    def _notify(self, *assignments: str) -> None:
        """Send one datagram. Best effort: it neither blocks nor fails if nobody receives it."""
        if not self._address.startswith(("/", "@")):
            return
        target = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        # Only addresses are not under our control: their paths could contain a newline.
        message = "\n".join(" ".join(assignment.splitlines()) for assignment in assignments)
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.setblocking(False)
                sender.sendto(message.encode("utf-8", "surrogateescape"), target)
        except OSError as error:
            logger.warning("cannot notify %s: %s", self._address, error.strerror or error)


def _check(descriptor: int) -> None:
    try:
        os.set_inheritable(descriptor, descriptor <= _LAST_STANDARD)
        os.write(descriptor, b"")
    except OSError as error:
        raise InvalidArgumentError(
            f"descriptor {descriptor} cannot be written to: {error.strerror}; in a shell, "
            f"{descriptor}>FILE opens it",
            field="ready_fd",
        ) from error


def _write_and_close(descriptor: int, data: bytes) -> None:
    try:
        os.write(descriptor, data)
    except OSError as error:
        logger.warning("cannot notify readiness on descriptor %d: %s", descriptor, error.strerror)
    if descriptor > _LAST_STANDARD:
        os.close(descriptor)
        return
    # Keep the number in use: if it is that of standard output, the next opened file would take its place.
    nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    os.dup2(nothing, descriptor)
    os.close(nothing)
