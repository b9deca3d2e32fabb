"""The places at which a process can be killed: everything that it changes outside of itself.

In process, since a tracer needs rights that not every machine gives: functions of `os`, `socket.send` and the
messages of gRPC calls are wrapped, counted, and one of them kills the process, before it has happened, after
half of it, or when it has.
"""

from __future__ import annotations

import functools
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc.aio

MODES = ("before", "middle", "after")

_CHANGES = (
    *("mkdir", "rmdir", "unlink", "remove", "rename", "replace", "link", "symlink", "mknod", "mkfifo"),
    *("fsync", "ftruncate", "truncate", "utime", "chmod", "fchmod", "chown", "setxattr"),
)


@dataclass(frozen=True)
class Point:
    """Where to kill: the how many-th change (from 1), and one of `MODES`."""

    number: int
    mode: str


@dataclass
class Counter:
    """Counts the changes of this process, and kills it at one of them.

    Attributes:
        at: Where; None to count only.
        trace: Gets the name of each change, a line each.
    """

    at: Point | None
    trace: Path

    def __post_init__(self) -> None:
        self._count = 0
        self._lock = threading.Lock()
        # Before any function is wrapped.
        self._fd = os.open(self.trace, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC)
        self._write = os.write

    def next(self, name: str, *, halves: bool = False) -> str:
        """Count a change; gives the mode if it is the one, else nothing."""
        with self._lock:
            self._count += 1
            self._write(self._fd, f"{name}{' half' if halves else ''}\n".encode())
            return self.at.mode if self.at is not None and self.at.number == self._count else ""


def die() -> None:
    """End this process like SIGKILL: without handlers, `finally` blocks or exit functions."""
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def install(counter: Counter) -> None:
    """Wrap what changes something outside of this process."""
    for name in _CHANGES:
        setattr(os, name, _wrapped(getattr(os, name), name, counter))
    os.open = _creating(os.open, counter)
    os.write = _halving(os.write, "write", counter)
    socket.socket.send = _halving(socket.socket.send, "send", counter)  # type: ignore[method-assign]
    calls: Any = grpc.aio
    for kind, method in (
        (calls._channel.UnaryUnaryMultiCallable, "__call__"),
        (calls._call._StreamRequestMixin, "write"),
        (calls._call._StreamRequestMixin, "done_writing"),
    ):
        setattr(kind, method, _wrapped(getattr(kind, method), f"gRPC {method}", counter))


def _wrapped(function: Callable[..., Any], name: str, counter: Counter) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*args: Any, **options: Any) -> Any:
        mode = counter.next(name)
        if mode and mode != "after":
            die()
        result = function(*args, **options)
        if mode:
            die()
        return result

    return call


def _creating(function: Callable[..., int], counter: Counter) -> Callable[..., int]:
    wrapped = _wrapped(function, "open", counter)

    @functools.wraps(function)
    def call(path: Any, flags: int, *args: Any, **options: Any) -> int:
        return (wrapped if flags & os.O_CREAT else function)(path, flags, *args, **options)

    return call


def _halving(function: Callable[..., int], name: str, counter: Counter) -> Callable[..., int]:
    @functools.wraps(function)
    def call(target: Any, data: Any, *args: Any) -> int:
        if name == "send" and len(data) == 1:  # asyncio wakes itself up
            return function(target, data, *args)
        mode = counter.next(name, halves=True)
        if mode == "before":
            die()
        if mode == "middle":
            function(target, bytes(data)[: len(data) // 2], *args)
            die()
        result = function(target, data, *args)
        if mode == "after":
            die()
        return result

    return call
