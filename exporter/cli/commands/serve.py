"""``serve``."""

from __future__ import annotations

from dataclasses import dataclass

from exporter.cli.commands.base import Command, Flag
from exporter.cli.commands.shared import (
    DEFAULT_SHUTDOWN_GRACE,
    ListenerArgs,
    OperatorArgs,
    WorkplaceArgs,
    count_flag,
    listener_flags,
    operator_flag,
    seconds_flag,
    workplace_flags,
)

DEFAULT_ADDRESS = "unix:///run/buildkit-exporter/exporter.sock"

_LIMITS = "Limits"


@dataclass(frozen=True, kw_only=True)
class ServeArgs(ListenerArgs, WorkplaceArgs, OperatorArgs):
    """The arguments; see `exporter.server.ServerConfig` for their meaning."""

    allow_endpoint: tuple[str, ...]
    max_concurrent_exports: int
    max_queued_exports: int
    max_message_bytes: int
    session_timeout: float
    finalize_ttl: float
    shutdown_grace: float


SERVE = Command(
    "serve",
    ServeArgs,
    "exporter.cli.serve:run_serve",
    usage="[OPTIONS]",
    params=[
        *listener_flags(
            "where to listen, unix:///PATH, tcp://HOST:PORT or, for systemd's sockets, fd://; repeatable "
            f"(default: {DEFAULT_ADDRESS})"
        ),
        Flag(
            "--allow-endpoint",
            metavar="PATTERN",
            multiple=True,
            help="addresses that the server may dial for refs if a request asks it to: "
            "unix:///run/*.sock, tcp://10.0.0.0/24:*, tcp://10.0.0.*:1234 (addresses only), tcp://*.example.com:1234"
            " (names only, label by label); repeatable (default: none)",
            section=_LIMITS,
        ),
        count_flag(
            "--max-concurrent-exports",
            default=32,
            least=1,
            help="how many exports run at once",
            section=_LIMITS,
        ),
        count_flag(
            "--max-queued-exports",
            default=1024,
            least=0,
            help="how many more may wait in line",
            section=_LIMITS,
        ),
        count_flag(
            "--max-message-bytes",
            default=128 << 20,
            least=1,
            help="largest request that is accepted",
            section=_LIMITS,
        ),
        seconds_flag(
            "--session-timeout",
            default=5.0,
            help="how long to wait for the session that a request names",
            section=_LIMITS,
        ),
        seconds_flag(
            "--finalize-ttl",
            default=600.0,
            help="how long a finalize token stays valid after its last use",
            section=_LIMITS,
        ),
        seconds_flag(
            "--shutdown-grace",
            default=DEFAULT_SHUTDOWN_GRACE,
            help="how long running exports may take to end after SIGTERM",
            section=_LIMITS,
        ),
        *workplace_flags(),
        operator_flag(),
    ],
)
