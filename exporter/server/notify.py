"""Telling those who started us that we are ready, or about to end.

Source of the rules: ``sd_notify(3)`` for ``NOTIFY_SOCKET``. A descriptor to write to when ready is what s6
and dinit use, and any program or shell can.
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
    """Whoever has started us, and wants to know how we are.

    Args:
        ready_fd: A descriptor that gets one line for each address once connections are taken, and is closed
            then; None for none.
        environ: The environment variables; those of the process if None. ``NOTIFY_SOCKET`` is removed: it is
            not meant for programs that we start.

    Raises:
        InvalidArgumentError: the descriptor is not open, or cannot be written to; ``field`` is ``ready_fd``.
    """

    def __init__(self, ready_fd: int | None = None, environ: MutableMapping[str, str] | None = None) -> None:
        self._address = (os.environ if environ is None else environ).pop("NOTIFY_SOCKET", "")
        self._ready_fd = ready_fd
        if ready_fd is not None:
            _check(ready_fd)

    def ready(self, addresses: Sequence[object]) -> None:
        """Say that connections are taken at these addresses."""
        names = [str(address) for address in addresses]
        self._notify("READY=1", f"STATUS=listening on {', '.join(names)}")
        if self._ready_fd is not None:
            descriptor, self._ready_fd = self._ready_fd, None
            _write_and_close(descriptor, "".join(f"{name}\n" for name in names).encode())

    def status(self, text: str) -> None:
        """Say in a line of text what is going on; ``systemctl status`` shows it."""
        self._notify(f"STATUS={text}")

    def stopping(self, text: str) -> None:
        """Say that the end has begun, and what is waited for."""
        self._notify("STOPPING=1", f"STATUS={text}")

    def _notify(self, *assignments: str) -> None:
        """Send one datagram. That nobody takes it is no reason to fail, or to wait."""
        if not self._address.startswith(("/", "@")):
            return
        target = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        # What we say is ours but for addresses, whose paths could have a newline.
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
        logger.warning("nobody reads that we are ready (descriptor %d): %s", descriptor, error.strerror)
    if descriptor > _LAST_STANDARD:
        os.close(descriptor)
        return
    # Something has to stay there: the next file that is opened would take the place of standard output.
    nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    os.dup2(nothing, descriptor)
    os.close(nothing)
