"""Flags that several commands share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from exporter.cli.commands.base import OPTIONS, Args, Flag, Switch
from exporter.cli.commands.values import complete_directory, complete_file, count, seconds

DEFAULT_BUILDKITD = "unix:///run/buildkit/buildkitd.sock"
DEFAULT_HOOK_TIMEOUT = 600.0
DEFAULT_LAYER_CACHE_BYTES = 10 << 30
DEFAULT_MAX_CONTENT_BYTES = 128 << 30
DEFAULT_SHUTDOWN_GRACE = 30.0
PROGRESS_MODES = ("auto", "plain", "tty", "rawjson", "quiet")

_STORE = "Image store"
_HOOKS = "Hooks"
_REGISTRIES = "Registries"
_CONNECTION = "Connection"


@dataclass(frozen=True, kw_only=True)
class ContainerdArgs(Args):
    """Flags for containerd.

    Attributes:
        containerd: The path of its socket, or its address; None to not use containerd.
        containerd_namespace: The namespace, if given.
        containerd_snapshotter: The snapshotter for unpacking layers, if given.
    """

    containerd: str | None
    containerd_namespace: str | None
    containerd_snapshotter: str | None = None


@dataclass(frozen=True, kw_only=True)
class RegistryArgs(Args):
    """Flags for registries.

    Attributes:
        registry_config: Docker's configuration file; the user's own if None.
        registry_ca: Additional CA certificates.
        registry_certs_dir: Certificates for individual registries; in the usual place if None.
    """

    registry_config: Path | None
    registry_ca: tuple[Path, ...]
    registry_certs_dir: Path | None


@dataclass(frozen=True, kw_only=True)
class WorkplaceArgs(ContainerdArgs, RegistryArgs):
    """Flags for exports in this process.

    Attributes:
        root: The directory of the embedded image store; None for the default.
        layer_cache_bytes: The size limit of the cache of converted layers; None for the default.
        max_content_bytes: The limit for the total size of a result's files; None for the default.
        exporter_module: Python files with exporters.
        hook: Hooks, as ``NAME=COMMAND``.
        hook_timeout: Seconds that a hook may take; None for the default.
    """

    exporter_module: tuple[Path, ...]
    hook: tuple[str, ...]
    hook_timeout: float | None
    root: Path | None
    layer_cache_bytes: int | None
    max_content_bytes: int | None


@dataclass(frozen=True, kw_only=True)
class ClientArgs(Args):
    """Flags for the server that a command talks to.

    Attributes:
        addr: Its address, if given.
        tlsservername: The name that its certificate must have; the host of the address if None.
        tlscacert: CA certificates to verify it with.
        tlscert: The client certificate.
        tlskey: The private key of the client certificate.
        timeout: The timeout for connecting, in seconds.
    """

    addr: str | None
    tlsservername: str | None
    tlscacert: Path | None
    tlscert: Path | None
    tlskey: Path | None
    timeout: float


@dataclass(frozen=True, kw_only=True)
class ListenerArgs(Args):
    """Flags for a server's listeners.

    Attributes:
        addr: The addresses to listen at; the default one if empty.
        tlscert: The certificate for TCP.
        tlskey: The private key of the certificate.
        tlscacert: The CAs of client certificates.
        insecure_listen: Whether to allow TCP without TLS on interfaces other than loopback.
        metrics_addr: The address for metrics, if any.
        log_format: ``text`` or ``json``.
        ready_fd: A file descriptor for the readiness notification, if any.
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
    """Flags for reporting on an export or build.

    Attributes:
        metadata_file: The file for the response, as JSON.
        progress: The progress mode, one of `PROGRESS_MODES`.
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
    """A flag whose value is a number of seconds. Its help includes the default."""
    return Flag(
        name,
        metavar="SECONDS",
        type=seconds,
        default=default,
        help=f"{help} (default: {default:g})",
        section=section,
    )


def count_flag(name: str, *, default: int, least: int, help: str, section: str = OPTIONS) -> Flag:
    """A flag whose value is a whole number. Its help includes the default."""
    return Flag(
        name,
        metavar="N",
        type=count(least),
        default=default,
        help=f"{help} (default: {default})",
        section=section,
    )


def reporting_flags() -> list[Flag]:
    """The flags of `ReportingArgs`."""
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


def exporter_module_flag() -> Flag:
    """The flag that names Python files with exporters."""
    return file_flag(
        "--exporter-module",
        help="also offer the exporters that this Python file defines; it runs with your rights; repeatable",
        multiple=True,
    )


def root_flag(section: str = OPTIONS) -> Flag:
    """The flag for the directory of the embedded image store."""
    return directory_flag(
        "--root",
        help="directory of the embedded image store (default: $XDG_DATA_HOME/buildkit-exporter, else "
        "~/.local/share/buildkit-exporter)",
        section=section,
    )


def containerd_flags(help: str, *, with_snapshotter: bool, section: str) -> list[Flag]:
    """The flags of `ContainerdArgs`.

    Args:
        help: The help of ``--containerd``.
        with_snapshotter: Whether to include the flag for the snapshotter.
        section: The heading.
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
    """The flags of `RegistryArgs`."""
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
    """The flags of `WorkplaceArgs`."""
    return [
        exporter_module_flag(),
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
        Flag(
            "--hook",
            metavar="NAME=COMMAND",
            multiple=True,
            help="command that outputs with before-publish=NAME need: it gets an OCI layout "
            "($BUILDKIT_EXPORTER_LAYOUT, _DIGEST, _NAME), and nothing is published if it fails; repeatable",
            section=_HOOKS,
        ),
        Flag(
            "--hook-timeout",
            metavar="SECONDS",
            type=seconds,
            help=f"how long a hook may take (default: {DEFAULT_HOOK_TIMEOUT:g})",
            section=_HOOKS,
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
    """The flags of `ClientArgs`."""
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
    """The flags of `ListenerArgs`."""
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
    """TLS flags for one of several servers that a command talks to.

    Args:
        prefix: The prefix of their names.
        peer: The name of the server in help.
        section: The heading.
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
