"""What an operator can set, and the limits that the server has."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from exporter.layer.cache import DEFAULT_LIMIT

if TYPE_CHECKING:
    # Those of the command line, which has the defaults from here, load neither unless they need it.
    from exporter.remotes.containerd import ContainerdConfig
    from exporter.remotes.registry import RegistryOptions

MIB = 1 << 20

MAX_MESSAGE_BYTES = 128 * MIB
"""Largest request that the server takes. A request carries the result's metadata and attestations, and SBOMs
of several platforms come to tens of MiB; layers never travel in it. Finite, since a message is held in memory
whole."""

MAX_SEND_BYTES = 128 * MIB
"""Largest answer. A descriptor can embed its blob (``data``), nothing else in an answer is large."""

METADATA_SOFT_BYTES = 512 << 10
METADATA_HARD_BYTES = 1 * MIB
"""Headers and trailers. A session announces each of its methods, a file transfer carries response keys (a
descriptor with all its annotations in base64), and gRPC puts error texts there. Beyond the hard limit, and at
random from the soft one on, gRPC resets the stream; its defaults are 16 and 8 KiB."""

PEER_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_SEND_BYTES),
    ("grpc.max_metadata_size", METADATA_SOFT_BYTES),
    ("grpc.absolute_max_metadata_size", METADATA_HARD_BYTES),
)
"""Options of channels to endpoints."""


@dataclass(frozen=True, slots=True)
class TLSConfig:
    """Files of PEM blocks for a TCP listener.

    Attributes:
        cert: The server's certificate chain.
        key: Its private key.
        client_ca: Certificates that sign client certificates. If given, clients must show one (mutual TLS).
    """

    cert: Path
    key: Path
    client_ca: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkplaceConfig:
    """An operator's choices about what exports work with.

    Attributes:
        root: Directory of the embedded image store, of scratch space and of the cache of converted layers.
        containerd: Where images go in place of the embedded store, if anywhere. Requests cannot choose.
        registries: How registries are reached; None for the ways of the Docker configuration of the user who
            runs us.
        layer_cache_bytes: Largest size of the cache of converted layers; 0 for no cache.
    """

    root: Path
    containerd: ContainerdConfig | None = None
    registries: RegistryOptions | None = None
    layer_cache_bytes: int = DEFAULT_LIMIT


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """An operator's choices.

    Attributes:
        addresses: Where to listen: ``unix:///absolute/path`` (mode 0600) or ``tcp://host:port`` (port 0: any
            free one).
        workplace: What exports work with.
        tls: Makes TCP listeners speak TLS.
        insecure_listen: Allow plain TCP on other interfaces than loopback.
        allow_endpoints: Patterns of addresses that a request may have the server dial
            (``unix:///run/*/refs.sock``, ``tcp://10.0.0.5:*``); ``*`` and ``?`` match within one path
            element, host or port. None by default.
        max_concurrent_exports: Exports that run at once; more wait in line.
        max_queued_exports: Exports that may wait in line; more are refused with ``RESOURCE_EXHAUSTED``.
        max_message_bytes: Largest request.
        session_timeout: Seconds that an export waits for the session it names to attach (BuildKit: 5).
        finalize_ttl: Seconds that a finalize token stays valid after its export, or after its last use.
        shutdown_grace: Seconds that running exports get to end after the first SIGTERM or SIGINT.
        metrics_address: ``host:port`` of the Prometheus endpoint; None for no endpoint.
    """

    addresses: tuple[str, ...]
    workplace: WorkplaceConfig
    tls: TLSConfig | None = None
    insecure_listen: bool = False
    allow_endpoints: tuple[str, ...] = field(default=())
    max_concurrent_exports: int = 32
    max_queued_exports: int = 1024
    max_message_bytes: int = MAX_MESSAGE_BYTES
    session_timeout: float = 5.0
    finalize_ttl: float = 600.0
    shutdown_grace: float = 30.0
    metrics_address: str | None = None
