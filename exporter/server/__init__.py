"""The plugin server: `buildkit.exporter.v1.ExporterService` over grpc.aio.

Listeners, sessions, TLS, health, reflection and metrics live here; `exporter.engine` runs the exports.

A command line needs three names::

    from exporter.server import ServerConfig, WorkplaceConfig, serve

    workplace = WorkplaceConfig(root=Path("/var/lib/…"))
    config = ServerConfig(addresses=("unix:///run/buildkit-exporter/exporter.sock",), workplace=workplace)
    await serve(config)        # returns after SIGTERM or SIGINT

The config classes (keyword-only; they document units and defaults) do not validate. `serve` raises
`InvalidArgumentError` for an invalid value (its `field` is the config field's name), and
`FailedPreconditionError` or `OSError` if it cannot listen at an address. If given,
`on_ready(bound addresses)` is called once connections are accepted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.engine.config import WorkplaceConfig
from exporter.rpc.tls import TLSConfig
from exporter.server.config import ServerConfig

if TYPE_CHECKING:
    from exporter.server.lifecycle import serve

__all__ = ["ServerConfig", "TLSConfig", "WorkplaceConfig", "serve"]


def __getattr__(name: str) -> object:
    # Importing gRPC is slow, and those who only need the configuration should not wait for it.
    if name == "serve":
        from exporter.server.lifecycle import serve

        return serve
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
