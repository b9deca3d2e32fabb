"""Builds and their watchers: whether they are the daemon's affair alone."""

from __future__ import annotations

import asyncio
from typing import TypeVar

from google.protobuf.message import DecodeError

from exporter.pb.moby.buildkit.v1 import control_pb2
from exporter.proxy.builds import Builds
from exporter.proxy.metrics import ProxyMetrics
from exporter.rpc.http2.connection import Connection
from exporter.rpc.http2.peek import Peek
from exporter.takeover.plan import Routes, plan_exports

UNDECIDED_SECONDS = 0.05
"""How long a build's watcher waits for the build to show whether it has exports of ours. Clients ask for both
at once. Later it is passed to the proxy's own server, which can handle either."""


_REMEMBERED_BUILDS = 4096

M = TypeVar("M", control_pb2.SolveRequest, control_pb2.StatusRequest)


class BuildRouter:
    """Passes the calls Solve and Status on: to the daemon if the build has no exports of ours.

    A build without them is as fast as it can be; the proxy's own server makes messages of everything.

    Args:
        routes: Where exporters run.
        builds: Knows whether builds are taken at all; the proxy's own server refuses them.
        own: The connection to the proxy's own server.
        metrics: Counts builds.
    """

    def __init__(self, routes: Routes, builds: Builds, own: Connection, metrics: ProxyMetrics) -> None:
        self._routes = routes
        self._builds = builds
        self._own = own
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
        call.pass_on(daemon if is_plain else self._own)

    def status(self, call: Peek, message: bytes | None, daemon: Connection) -> None:
        """Pass a watcher on, when it is known what it watches."""
        request = _parse(message, control_pb2.StatusRequest)
        watcher = _Watcher(call, daemon, self._own)
        if request is None:
            watcher.pass_on(is_plain=False)
        elif request.Ref in self._is_plain:
            watcher.pass_on(self._is_plain[request.Ref])
        else:
            ref = request.Ref
            self._waiting.setdefault(ref, []).append(watcher)
            asyncio.get_running_loop().call_later(UNDECIDED_SECONDS, self._give_up, ref, watcher)

    def _remember(self, ref: str, is_plain: bool) -> None:
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
    def __init__(self, call: Peek, daemon: Connection, own: Connection) -> None:
        self._call = call
        self._daemon = daemon
        self._own = own

    def pass_on(self, is_plain: bool) -> None:
        self._call.pass_on(self._daemon if is_plain else self._own)


def _parse(message: bytes | None, kind: type[M]) -> M | None:
    """Read a message; None if there is none, or not of this kind. Whoever gets the call then says so."""
    if message is None:
        return None
    try:
        return kind.FromString(message)
    except DecodeError:
        return None
