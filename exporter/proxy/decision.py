"""Builds and their watchers: whether they are the daemon's affair alone."""

from __future__ import annotations

import asyncio
from typing import TypeVar

from google.protobuf.message import DecodeError

from exporter.pb.moby.buildkit.v1 import control_pb2
from exporter.proxy.builds import MAX_REF_LENGTH, Builds
from exporter.proxy.metrics import ProxyMetrics
from exporter.rpc.answering import Answer, Answering
from exporter.rpc.http2.connection import Connection
from exporter.rpc.http2.peek import Peek
from exporter.takeover.plan import Routes, plan_exports

UNDECIDED_SECONDS = 0.05
"""How long a build's watcher waits for the build to show whether it has exports of ours. Clients ask for both
at once. Later the proxy answers itself, which does for either."""


_REMEMBERED_BUILDS = 4096

M = TypeVar("M", control_pb2.SolveRequest, control_pb2.StatusRequest)


class BuildRouter:
    """Passes the calls Solve and Status on: to the daemon if the build has no exports of ours.

    A build without them passes frame by frame; what is answered here goes through messages.

    Args:
        routes: Where exporters run.
        builds: Knows whether builds are taken at all; if not, they are refused here.
        answering: Runs the answers of the proxy.
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
        """Pass a build on."""
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
        """Pass a watcher on, when it is known what it watches."""
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
    """Read a message; None if there is none, or not of this kind. Whoever gets the call then says so."""
    if message is None:
        return None
    try:
        return kind.FromString(message)
    except DecodeError:
        return None
