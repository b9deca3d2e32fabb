"""What an operator can set."""

from __future__ import annotations

from dataclasses import dataclass, field

from exporter.engine.config import WorkplaceConfig
from exporter.remotes.registry.operator import OperatorCredentials
from exporter.rpc.limits import MAX_MESSAGE_BYTES
from exporter.rpc.tls import TLSConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """An operator's choices.

    Attributes:
        addresses: Where to listen: ``unix:///absolute/path`` (mode 0600), ``tcp://host:port`` (port 0: any
            free one), or ``fd://`` for the sockets that systemd has opened.
        workplace: What exports work with.
        tls: Makes TCP listeners speak TLS.
        insecure_listen: Allow plain TCP on other interfaces than loopback.
        allow_endpoints: Patterns of addresses that a request may have the server dial
            (``unix:///run/*/refs.sock``, ``tcp://10.0.0.5:*``); ``*`` and ``?`` match within one path
            element, host or port. None by default.
        operator: The credentials for registries that the operator lends to clients; None for none.
        max_concurrent_exports: Exports that run at once; more wait in line.
        max_queued_exports: Exports that may wait in line; more are refused with ``RESOURCE_EXHAUSTED``.
        max_message_bytes: Largest request.
        session_timeout: Seconds that an export waits for the session it names to attach (BuildKit: 5).
        finalize_ttl: Seconds that a finalize token stays valid after its export, or after its last use.
        shutdown_grace: Seconds that running exports get to end after the first SIGTERM or SIGINT.
        metrics_address: ``host:port`` of the Prometheus endpoint; None for no endpoint.
        ready_fd: A descriptor that is told when connections are taken; None for none.
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
