"""The plugin server: `buildkit.exporter.v1.ExporterService` over grpc.aio.

Listeners, sessions, TLS, health, reflection and metrics are here; exports are run by `exporter.engine`.

Three names matter to a command line::

    from exporter.server import ServerConfig, WorkplaceConfig, serve

    workplace = WorkplaceConfig(root=Path("/var/lib/…"))
    config = ServerConfig(addresses=("unix:///run/buildkit-exporter/exporter.sock",), workplace=workplace)
    await serve(config)        # returns when SIGTERM or SIGINT has been obeyed

The configs (all keyword-only; units and defaults are told there) check nothing. `serve` raises
`InvalidArgumentError` for a value that cannot be used (its `field` is the config field's name), and
`FailedPreconditionError` or `OSError` if it cannot listen there. `serve` calls `on_ready(bound addresses)`,
if given, once connections are accepted.
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
    # gRPC takes its time to load; whoever only asks for the flags need not wait for it.
    if name == "serve":
        from exporter.server.lifecycle import serve

        return serve
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
