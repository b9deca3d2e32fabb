"""Flags that several commands have."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from exporter.cli.commands.base import OPTIONS, Args, Flag, Switch
from exporter.cli.commands.values import complete_directory, complete_file, count, seconds

DEFAULT_BUILDKITD = "unix:///run/buildkit/buildkitd.sock"
DEFAULT_LAYER_CACHE_BYTES = 10 << 30
DEFAULT_MAX_CONTENT_BYTES = 128 << 30
DEFAULT_SHUTDOWN_GRACE = 30.0
PROGRESS_MODES = ("auto", "plain", "tty", "rawjson", "quiet")

_STORE = "Image store"
_REGISTRIES = "Registries"
_CONNECTION = "Connection"


@dataclass(frozen=True, kw_only=True)
class ContainerdArgs(Args):
    """Flags about a containerd.

    Attributes:
        containerd: The path of its socket, or its address; None for no containerd.
        containerd_namespace: Its namespace, if one was named.
        containerd_snapshotter: Where it unpacks layers, if that was named.
    """

    containerd: str | None
    containerd_namespace: str | None
    containerd_snapshotter: str | None = None


@dataclass(frozen=True, kw_only=True)
class RegistryArgs(Args):
    """Flags about how registries are reached.

    Attributes:
        registry_config: Docker's configuration, if not the user's own.
        registry_ca: Further CA certificates.
        registry_certs_dir: Certificates for single registries, if not in the usual place.
    """

    registry_config: Path | None
    registry_ca: tuple[Path, ...]
    registry_certs_dir: Path | None


@dataclass(frozen=True, kw_only=True)
class WorkplaceArgs(ContainerdArgs, RegistryArgs):
    """Flags about what exports in this process work with.

    Attributes:
        root: Directory of the embedded image store; None for the default.
        layer_cache_bytes: Size of the cache of converted layers; None for the default.
        max_content_bytes: Largest sum of the sizes of a result's files; None for the default.
    """

    root: Path | None
    layer_cache_bytes: int | None
    max_content_bytes: int | None


@dataclass(frozen=True, kw_only=True)
class ClientArgs(Args):
    """Flags about the server that a command talks to.

    Attributes:
        addr: Its address, if there is one.
        tlsservername: The name that its certificate must have, if not the address's.
        tlscacert: CA certificates that vouch for it.
        tlscert: The client's certificate.
        tlskey: Its private key.
        timeout: Seconds that connecting may take.
    """

    addr: str | None
    tlsservername: str | None
    tlscacert: Path | None
    tlscert: Path | None
    tlskey: Path | None
    timeout: float


@dataclass(frozen=True, kw_only=True)
class ListenerArgs(Args):
    """Flags about where a server listens.

    Attributes:
        addr: Addresses; the default one if empty.
        tlscert: Certificate for TCP.
        tlskey: Its private key.
        tlscacert: CAs of client certificates.
        insecure_listen: Whether TCP may go without TLS on other interfaces than loopback.
        metrics_addr: Where metrics are shown; None for nowhere.
        log_format: ``text`` or ``json``.
        ready_fd: A descriptor that is told when connections are taken; None for none.
    """

    addr: tuple[str, ...]
    tlscert: Path | None
    tlskey: Path | None
    tlscacert: Path | None
    insecure_listen: bool
    metrics_addr: str | None
    log_format: str
    ready_fd: int | None


@dataclass(frozen=True, kw_only=True)
class OperatorArgs(RegistryArgs):
    """Flags about the credentials of whoever runs a server.

    Attributes:
        operator_credentials: Registries, separated by commas, for which clients are lent them.
    """

    operator_credentials: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class ReportingArgs(Args):
    """Flags about what is told of an export or build.

    Attributes:
        metadata_file: Where the response goes, as JSON.
        progress: How progress is shown, one of `PROGRESS_MODES`.
    """

    metadata_file: Path | None
    progress: str


def file_flag(*names: str, help: str, section: str = OPTIONS, multiple: bool = False) -> Flag:
    """A flag whose value is the path of a file."""
    return Flag(
        *names,
        metavar="FILE",
        help=help,
        section=section,
        type=Path,
        multiple=multiple,
        shell_complete=complete_file,
    )


def directory_flag(*names: str, help: str, section: str = OPTIONS) -> Flag:
    """A flag whose value is the path of a directory."""
    return Flag(
        *names, metavar="DIR", help=help, section=section, type=Path, shell_complete=complete_directory
    )


def seconds_flag(name: str, *, default: float, help: str, section: str = OPTIONS) -> Flag:
    """A flag whose value is a number of seconds. Its help says the default."""
    return Flag(
        name,
        metavar="SECONDS",
        type=seconds,
        default=default,
        help=f"{help} (default: {default:g})",
        section=section,
    )


def count_flag(name: str, *, default: int, least: int, help: str, section: str = OPTIONS) -> Flag:
    """A flag whose value is a whole number. Its help says the default."""
    return Flag(
        name,
        metavar="N",
        type=count(least),
        default=default,
        help=f"{help} (default: {default})",
        section=section,
    )


def reporting_flags() -> list[Flag]:
    """Those of `ReportingArgs`."""
    return [
        file_flag("--metadata-file", help="write the exporters' response to this file, as JSON"),
        Flag(
            "--progress",
            metavar="MODE",
            default="auto",
            choices=PROGRESS_MODES,
            help=f"{'|'.join(PROGRESS_MODES)} (default: auto, or $BUILDKIT_PROGRESS)",
        ),
    ]


def root_flag(section: str = OPTIONS) -> Flag:
    """The flag that says where the embedded image store is."""
    return directory_flag(
        "--root",
        help="directory of the embedded image store (default: $XDG_DATA_HOME/buildkit-exporter, else "
        "~/.local/share/buildkit-exporter)",
        section=section,
    )


def containerd_flags(help: str, *, with_snapshotter: bool, section: str) -> list[Flag]:
    """Those of `ContainerdArgs`.

    Args:
        help: What the containerd is for.
        with_snapshotter: Whether anything is unpacked there.
        section: Heading.
    """
    flags = [
        Flag("--containerd", metavar="ADDRESS", help=help, section=section, shell_complete=complete_file),
        Flag(
            "--containerd-namespace",
            metavar="NAME",
            help="its namespace (default: $CONTAINERD_NAMESPACE, else default)",
            section=section,
        ),
    ]
    if with_snapshotter:
        flags.append(
            Flag(
                "--containerd-snapshotter",
                metavar="NAME",
                help="snapshotter that unpack=true unpacks layers with "
                "(default: $CONTAINERD_SNAPSHOTTER, else overlayfs)",
                section=section,
            )
        )
    return flags


def registry_flags() -> list[Flag]:
    """Those of `RegistryArgs`."""
    return [
        file_flag(
            "--registry-config",
            help="Docker's configuration file, which has the credentials for registries (default: "
            "$DOCKER_CONFIG/config.json, else ~/.docker/config.json)",
            section=_REGISTRIES,
        ),
        file_flag(
            "--registry-ca",
            help="CA certificates to verify registries with, besides the system's (PEM); repeatable",
            section=_REGISTRIES,
            multiple=True,
        ),
        directory_flag(
            "--registry-certs-dir",
            help="certificates for individual registries, in HOST:PORT/*.crt, *.cert and *.key "
            "(default: /etc/docker/certs.d)",
            section=_REGISTRIES,
        ),
    ]


def operator_flag() -> Flag:
    """That of `OperatorArgs`."""
    return Flag(
        "--operator-credentials",
        metavar="HOST,...",
        multiple=True,
        help="use the credentials of --registry-config for these registries, whoever asks, e.g. "
        "registry.example.com:5000, or * for all; repeatable (default: none, clients' own are used)",
        section=_REGISTRIES,
    )


def workplace_flags() -> list[Flag]:
    """Those of `WorkplaceArgs`."""
    return [
        root_flag(_STORE),
        *containerd_flags(
            "store images in this containerd, given by the path of its socket (default: the embedded store)",
            with_snapshotter=True,
            section=_STORE,
        ),
        Flag(
            "--layer-cache-bytes",
            metavar="N",
            type=count(0),
            help="size limit of the cache of converted layers, below the root "
            f"(default: {DEFAULT_LAYER_CACHE_BYTES}; 0 turns it off)",
            section=_STORE,
        ),
        Flag(
            "--max-content-bytes",
            metavar="N",
            type=count(1),
            help="largest sum of the sizes of a result's files, holes included, for tar and local "
            f"(default: {DEFAULT_MAX_CONTENT_BYTES})",
            section=_STORE,
        ),
        *registry_flags(),
    ]


def client_flags(
    addr_help: str,
    *,
    required: bool = False,
    timeout: float = 5.0,
    timeout_help: str = "how long to try to connect",
) -> list[Flag]:
    """Those of `ClientArgs`."""
    return [
        Flag("--addr", metavar="ADDRESS", help=addr_help, section=_CONNECTION, required=required),
        Flag(
            "--tlsservername",
            metavar="NAME",
            help="name that the server's certificate must be for",
            section=_CONNECTION,
        ),
        file_flag("--tlscacert", help="CA certificates to verify the server with (PEM)", section=_CONNECTION),
        file_flag("--tlscert", help="client certificate (PEM)", section=_CONNECTION),
        file_flag("--tlskey", help="its private key (PEM)", section=_CONNECTION),
        seconds_flag("--timeout", default=timeout, help=timeout_help, section=_CONNECTION),
    ]


def listener_flags(addr_help: str) -> list[Flag]:
    """Those of `ListenerArgs`."""
    section = "Listening"
    return [
        Flag(
            "--metrics-addr",
            metavar="HOST:PORT",
            help="serve Prometheus metrics, /healthz and /readyz at this address (default: off)",
        ),
        Flag(
            "--log-format",
            metavar="FORMAT",
            default="text",
            choices=("text", "json"),
            help="text or json (default: text)",
        ),
        Flag(
            "--ready-fd",
            metavar="N",
            type=count(0),
            help="once connections are accepted, write the addresses to this file descriptor and close it",
        ),
        Flag("--addr", metavar="ADDRESS", multiple=True, help=addr_help, section=section),
        file_flag("--tlscert", help="certificate for TCP addresses (PEM)", section=section),
        file_flag("--tlskey", help="its private key (PEM)", section=section),
        file_flag(
            "--tlscacert", help="require client certificates signed by these CAs (PEM)", section=section
        ),
        Switch(
            "--insecure-listen",
            help="allow TCP without TLS on interfaces other than loopback",
            section=section,
        ),
    ]


def peer_flags(prefix: str, peer: str, section: str) -> list[Flag]:
    """Flags about TLS to a server, of several that a command talks to.

    Args:
        prefix: What their names begin with.
        peer: What help calls the server.
        section: Heading.
    """
    return [
        Flag(
            f"--{prefix}-tlsservername",
            metavar="NAME",
            help=f"name that the certificate of {peer} must be for",
            section=section,
        ),
        file_flag(
            f"--{prefix}-tlscacert", help=f"CA certificates to verify {peer} with (PEM)", section=section
        ),
        file_flag(f"--{prefix}-tlscert", help=f"certificate to show to {peer} (PEM)", section=section),
        file_flag(f"--{prefix}-tlskey", help="its private key (PEM)", section=section),
    ]
