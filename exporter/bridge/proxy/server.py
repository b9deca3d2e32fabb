"""The proxy as a whole."""

from __future__ import annotations

import grpc
import grpc.aio

from exporter.bridge.proxy.build import BuildOptions
from exporter.bridge.proxy.builds import Builds
from exporter.bridge.proxy.control import SOLVE_METHOD, STATUS_METHOD, ControlProxy
from exporter.bridge.proxy.forward import forward
from exporter.bridge.proxy.handlers import RawHandler, raw_server
from exporter.bridge.proxy.plan import Routes
from exporter.bridge.proxy.session import SESSION_METHOD_NAME, SessionProxy

_MAX_METADATA_BYTES = 16 << 20

PROXY_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # A build's error has its Dockerfile in it, with the place that is to blame.
    ("grpc.max_metadata_size", _MAX_METADATA_BYTES),
    ("grpc.absolute_max_metadata_size", _MAX_METADATA_BYTES),
    # Go measures bandwidth with pings, which gRPC's C core takes for misuse.
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.so_reuseport", 0),
)
"""Of the proxy's server."""


def proxy_server(daemon: grpc.aio.Channel, routes: Routes, options: BuildOptions) -> grpc.aio.Server:
    """Make the proxy's server; it has no address yet.

    Args:
        daemon: Reaches the daemon.
        routes: Where exporters run.
        options: The operator's.
    """
    builds = Builds()
    control = ControlProxy(daemon, routes, builds, options)
    sessions = SessionProxy(daemon, builds)
    changed: dict[str, RawHandler] = {
        SOLVE_METHOD: control.solve,
        STATUS_METHOD: control.status,
        SESSION_METHOD_NAME: sessions.session,
    }

    def find(method: str) -> RawHandler:
        return changed.get(method) or (lambda context: forward(daemon, method, context))

    return raw_server(find, PROXY_OPTIONS)
