"""Connections that others have opened: how many there may be, and how long one may leave things unfinished.

A connection costs file descriptors, here and at the daemon. Without a limit, peers that connect and say
nothing would use them all up, and files of running exports could no longer be opened.
"""

from __future__ import annotations

import asyncio
import logging
import resource
from collections.abc import Callable
from typing import Protocol

UNFINISHED_SECONDS = 20.0
"""The timeout in seconds for the peer's preface and settings, and for each header block."""

_RESERVED_FILES = 256
"""The file descriptors that are not for guests: files of exports, registries, listeners."""

_LARGEST_NUMBER = 16384

logger = logging.getLogger(__name__)


def guest_limit(files: int) -> int:
    """The number of connections that the limit of open files allows.

    Args:
        files: The file descriptors that one takes.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return _LARGEST_NUMBER
    return min(max((soft - _RESERVED_FILES) // files, soft // 4 // files, 1), _LARGEST_NUMBER)


class Guest(Protocol):
    """A connection that another has opened."""

    @property
    def unfinished(self) -> int:
        """A number for what the peer has begun and not finished; 0 if there is nothing. Each has another."""
        ...

    @property
    def is_idle(self) -> bool:
        """Whether no call is in flight."""
        ...

    def abort(self) -> None:
        """Close the connection at once."""
        ...


class Guests:
    """The connections that others have opened.

    Beyond the limit, the oldest one that has not sent its settings is closed, else the oldest one without
    calls, because gRPC's clients connect again when they need to. If all have calls, the new one is closed.

    Args:
        limit: How many there may be.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._guests: dict[Guest, asyncio.TimerHandle | None] = {}
        self._has_warned = False

    def __len__(self) -> int:
        return len(self._guests)

    def enter(self, guest: Guest) -> bool:
        """Count a new connection. Returns whether it may stay; if not, it has been closed."""
        if len(self._guests) >= self.limit and not self._make_room():
            if not self._has_warned:
                self._has_warned = True
                logger.warning("%d connections are in use; further ones are refused", self.limit)
            guest.abort()
            return False
        self._guests[guest] = None
        self.watch(guest)
        return True

    def leave(self, guest: Guest) -> None:
        """Stop counting a connection that is closed."""
        timer = self._guests.pop(guest, None)
        if timer is not None:
            timer.cancel()

    def watch(self, guest: Guest) -> None:
        """Close a connection if what its peer has begun is still unfinished in `UNFINISHED_SECONDS`."""
        number = guest.unfinished
        if number and guest in self._guests and self._guests[guest] is None:
            later = asyncio.get_running_loop().call_later
            self._guests[guest] = later(UNFINISHED_SECONDS, self._check, guest, number)

    def _check(self, guest: Guest, number: int) -> None:
        self._guests[guest] = None
        if guest.unfinished == number:
            logger.debug("a peer has not finished what it began")
            self._close(guest)
        else:
            self.watch(guest)

    def _make_room(self) -> bool:
        conditions: tuple[Callable[[Guest], bool], ...] = (_is_new, lambda guest: guest.is_idle)
        for condition in conditions:
            found = next(filter(condition, self._guests), None)
            if found is not None:
                self._close(found)
                return True
        return False

    def _close(self, guest: Guest) -> None:
        self.leave(guest)
        guest.abort()


def _is_new(guest: Guest) -> bool:
    return guest.unfinished == 1
