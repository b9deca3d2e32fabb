"""Routing builds and their watchers: through to the daemon, or to the proxy."""

from __future__ import annotations

import asyncio
from typing import TypeVar

from exporter.errors import InvalidArgumentError, ResourceExhaustedError
from exporter.pb.moby.buildkit.v1 import control_pb2
from exporter.proxy.builds import MAX_REF_LENGTH, Builds
from exporter.proxy.metrics import ProxyMetrics
from exporter.rpc.answering import Answer, Answering
from exporter.rpc.http2.connection import Connection
from exporter.rpc.http2.peek import Peek
from exporter.rpc.parsing import parse
from exporter.takeover.plan import Routes, plan_exports

UNDECIDED_SECONDS = 0.05
"""How long a watcher waits until it is known whether its build has exports of ours. Clients send both calls
at once. After that the proxy answers, which works in either case."""


_REMEMBERED_BUILDS = 4096

M = TypeVar("M", control_pb2.SolveRequest, control_pb2.StatusRequest)


class BuildRouter:
    """Routes the calls Solve and Status: to the daemon if the build does not have exports of ours.

    Such builds are passed through frame by frame; the proxy answers the others message by message.

    Args:
        routes: Where exporters run.
        builds: Knows whether builds are accepted; if not, they are rejected here.
        answering: Runs the proxy's handlers.
        solve: Answers Solve.
        status: Answers Status.
        metrics: Counts builds.
    """

    def __init__(
        self,
        routes: Routes,
        builds: Builds,
        answering: Answering,
        *,
        solve: Answer,
        status: Answer,
        metrics: ProxyMetrics,
    ) -> None:
        self._routes = routes
        self._builds = builds
        self._answering = answering
        self._solve, self._status = solve, status
        self._metrics = metrics
        self._is_plain: dict[str, bool] = {}
        self._waiting: dict[str, list[_Watcher]] = {}

    def solve(self, call: Peek, message: bytes | None, daemon: Connection) -> None:
        """Route a build."""
        request = _parse(message, control_pb2.SolveRequest)
        is_plain = False
        if request is not None:
            is_plain = not self._builds.is_closed and not plan_exports(request, self._routes)
            self._remember(request.Ref, is_plain)
            self._metrics.build(has_our_exports=not is_plain)
            for watcher in self._waiting.pop(request.Ref, []):
                watcher.pass_on(is_plain)
        if is_plain:
            call.pass_on(daemon)
        else:
            call.answer(self._answering, self._solve)

    def status(self, call: Peek, message: bytes | None, daemon: Connection) -> None:
        """Route a watcher as soon as its build is known."""
        request = _parse(message, control_pb2.StatusRequest)
        watcher = _Watcher(call, daemon, self._answering, self._status)
        if request is None:
            watcher.pass_on(is_plain=False)
        elif request.Ref in self._is_plain:
            watcher.pass_on(self._is_plain[request.Ref])
        else:
            ref = request.Ref
            self._waiting.setdefault(ref, []).append(watcher)
            asyncio.get_running_loop().call_later(UNDECIDED_SECONDS, self._give_up, ref, watcher)

    def _remember(self, ref: str, is_plain: bool) -> None:
        if len(ref) <= MAX_REF_LENGTH:
            self._is_plain[ref] = is_plain
        if len(self._is_plain) > _REMEMBERED_BUILDS:
            del self._is_plain[next(iter(self._is_plain))]

    def _give_up(self, ref: str, watcher: _Watcher) -> None:
        waiting = self._waiting.get(ref, [])
        if watcher in waiting:
            waiting.remove(watcher)
            if not waiting:
                del self._waiting[ref]
            watcher.pass_on(is_plain=False)


class _Watcher:
    def __init__(self, call: Peek, daemon: Connection, answering: Answering, status: Answer) -> None:
        self._call = call
        self._daemon = daemon
        self._answering = answering
        self._status = status

    def pass_on(self, is_plain: bool) -> None:
        if is_plain:
            self._call.pass_on(self._daemon)
        else:
            self._call.answer(self._answering, self._status)


def _parse(message: bytes | None, kind: type[M]) -> M | None:
    """Parse a message; None if it is missing, malformed or has too many fields.

    The handler of the call then reports that.
    """
    if message is None:
        return None
    try:
        return parse(kind, message)
    except (InvalidArgumentError, ResourceExhaustedError):
        return None
