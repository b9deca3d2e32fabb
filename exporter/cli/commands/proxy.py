"""``proxy``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from exporter.cli.commands.base import Command, Flag, Switch
from exporter.cli.commands.shared import (
    DEFAULT_BUILDKITD,
    DEFAULT_SHUTDOWN_GRACE,
    ListenerArgs,
    OperatorArgs,
    WorkplaceArgs,
    directory_flag,
    listener_flags,
    operator_flag,
    peer_flags,
    seconds_flag,
    workplace_flags,
)
from exporter.cli.commands.values import complete_types

DEFAULT_PROXY_ADDRESS = "unix:///run/buildkit-exporter/buildkitd.sock"


@dataclass(frozen=True, slots=True)
class PeerTLS:
    """The TLS flags for one of the servers that the proxy talks to.

    Attributes:
        prefix: The prefix of the flags.
        name: The name that the server's certificate must have; the host of the address if None.
        ca: CA certificates to verify it with.
        cert: The client certificate.
        key: Its private key.
    """

    prefix: str
    name: str | None
    ca: Path | None
    cert: Path | None
    key: Path | None


@dataclass(frozen=True, kw_only=True)
class ProxyArgs(ListenerArgs, WorkplaceArgs, OperatorArgs):
    """The arguments.

    Attributes:
        buildkitd: The daemon's address.
        exporter: Types on plugin servers: ``TYPE=ADDRESS``.
        take: Types that run here although the daemon has them, separated by commas.
        strict: Whether a config that differs from the daemon's is an error.
        output_dir: The directory below which clients may request files.
        save_source: The directory below which build results are saved.
        shutdown_grace: How long running builds may take to end after SIGTERM, in seconds.
    """

    buildkitd: str
    buildkitd_tlsservername: str | None
    buildkitd_tlscacert: Path | None
    buildkitd_tlscert: Path | None
    buildkitd_tlskey: Path | None
    exporter: tuple[str, ...]
    exporter_tlsservername: str | None
    exporter_tlscacert: Path | None
    exporter_tlscert: Path | None
    exporter_tlskey: Path | None
    take: tuple[str, ...]
    strict: bool
    output_dir: Path | None
    save_source: Path | None
    shutdown_grace: float

    @property
    def buildkitd_tls(self) -> PeerTLS:
        """TLS to the daemon."""
        return PeerTLS(
            "buildkitd",
            self.buildkitd_tlsservername,
            self.buildkitd_tlscacert,
            self.buildkitd_tlscert,
            self.buildkitd_tlskey,
        )

    @property
    def exporter_tls(self) -> PeerTLS:
        """TLS to plugin servers."""
        return PeerTLS(
            "exporter",
            self.exporter_tlsservername,
            self.exporter_tlscacert,
            self.exporter_tlscert,
            self.exporter_tlskey,
        )


PROXY = Command(
    "proxy",
    ProxyArgs,
    "exporter.cli.proxy:run_proxy",
    usage="[OPTIONS]",
    params=[
        Flag(
            "--buildkitd",
            metavar="ADDRESS",
            default=DEFAULT_BUILDKITD,
            help=f"the daemon, unix:///PATH or tcp://HOST:PORT (default: {DEFAULT_BUILDKITD})",
        ),
        Flag(
            "--exporter",
            metavar="TYPE=ADDRESS",
            multiple=True,
            help="run this type on the plugin server at this address; repeatable (default: all run in this "
            "process)",
        ),
        Flag(
            "--take",
            metavar="TYPE,...",
            multiple=True,
            help="run these types here although buildkitd has them, e.g. image,oci; any type can be asked "
            "for as plugin.TYPE without that",
            shell_complete=complete_types,
        ),
        Switch("--strict", help="fail if buildkitd's image config differs from the one computed here"),
        directory_flag(
            "--output-dir",
            help="let outputs with the attribute proxy-dest write files below this directory (default: off)",
        ),
        directory_flag("--save-source", help="save each build result in a directory below this one"),
        seconds_flag(
            "--shutdown-grace",
            default=DEFAULT_SHUTDOWN_GRACE,
            help="how long running builds may take to end after SIGTERM",
        ),
        *listener_flags(
            "where to listen for clients of the daemon, unix:///PATH, tcp://HOST:PORT or, for systemd's "
            f"sockets, fd://; repeatable (default: {DEFAULT_PROXY_ADDRESS})"
        ),
        *peer_flags("buildkitd", "the daemon", "TLS to the daemon"),
        *peer_flags("exporter", "plugin servers", "TLS to plugin servers"),
        *workplace_flags(),
        operator_flag(),
    ],
)
