"""The operator's configuration of a server."""

from __future__ import annotations

from dataclasses import dataclass, field

from exporter.engine.config import WorkplaceConfig
from exporter.remotes.registry.operator import OperatorCredentials
from exporter.rpc.limits import MAX_MESSAGE_BYTES
from exporter.rpc.tls import TLSConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """An operator's configuration.

    Attributes:
        addresses: Where to listen: ``unix:///absolute/path`` (mode 0600), ``tcp://host:port`` (port 0: any
            free one), or ``fd://`` for the sockets that systemd has opened.
        workplace: The image store, registries and limits of exports.
        tls: Enables TLS for TCP listeners.
        insecure_listen: Allow plain TCP on interfaces other than loopback.
        allow_endpoints: Patterns of addresses that the server may dial on behalf of a request
            (``unix:///run/*/refs.sock``, ``tcp://10.0.0.5:*``); ``*`` and ``?`` match within one path
            element, host or port. None by default.
        operator: The credentials for registries that the operator lends to clients; None for none.
        max_concurrent_exports: The maximum number of exports that run at once; more are queued.
        max_queued_exports: The length of the queue; further exports fail with ``RESOURCE_EXHAUSTED``.
        max_message_bytes: The maximum size of a request.
        session_timeout: How long an export waits for its session to attach, in seconds (BuildKit: 5).
        finalize_ttl: How long a finalize token stays valid after its export or its last use, in seconds.
        shutdown_grace: How long running exports may take after the first SIGTERM or SIGINT, in seconds.
        metrics_address: ``host:port`` of the Prometheus endpoint, if any.
        ready_fd: A file descriptor for the readiness notification, if any.
    """

    addresses: tuple[str, ...]
    workplace: WorkplaceConfig
    tls: TLSConfig | None = None
    insecure_listen: bool = False
    allow_endpoints: tuple[str, ...] = field(default=())
    operator: OperatorCredentials | None = None
    max_concurrent_exports: int = 32
    max_queued_exports: int = 1024
    max_message_bytes: int = MAX_MESSAGE_BYTES
    session_timeout: float = 5.0
    finalize_ttl: float = 600.0
    shutdown_grace: float = 30.0
    metrics_address: str | None = None
    ready_fd: int | None = None
