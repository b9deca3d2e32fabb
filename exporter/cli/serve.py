"""The command ``serve``."""

from __future__ import annotations

import asyncio
from pathlib import Path

from exporter.cli.commands.serve import DEFAULT_ADDRESS, ServeArgs
from exporter.cli.commands.shared import ListenerArgs
from exporter.cli.failures import ExitCode, UsageError
from exporter.cli.installed import registry_with
from exporter.cli.logs import configure_logging
from exporter.cli.registries import operator_credentials
from exporter.cli.workplace import workplace_config
from exporter.errors import InvalidArgumentError
from exporter.server import ServerConfig, TLSConfig, serve

_OPTIONS = {
    "addresses": "--addr",
    "allow_endpoints": "--allow-endpoint",
    "metrics_address": "--metrics-addr",
    "tls": "--tlscert",
}
"""Flags whose names differ from the fields of the configuration."""


def run_serve(options: ServeArgs) -> int:
    """Run the server until a signal stops it.

    Raises:
        UsageError: the value of an option is invalid.
        ExporterError, OSError: the server cannot listen at an address, or cannot use its root.
    """
    configure_logging(options.log_format, debug=options.debug)
    config = _config(options)
    registry = registry_with(options.exporter_module)
    if not options.addr:
        make_socket_directory(DEFAULT_ADDRESS)
    try:
        asyncio.run(serve(config, registry=registry))
    except InvalidArgumentError as error:
        if error.field is None:
            raise
        name = _OPTIONS.get(error.field, f"--{error.field.replace('_', '-')}")
        raise UsageError(f"{name}: {error.message}") from error
    return ExitCode.OK


def _config(options: ServeArgs) -> ServerConfig:
    return ServerConfig(
        addresses=options.addr or (DEFAULT_ADDRESS,),
        workplace=workplace_config(options),
        tls=listener_tls(options),
        insecure_listen=options.insecure_listen,
        allow_endpoints=options.allow_endpoint,
        operator=operator_credentials(options),
        max_concurrent_exports=options.max_concurrent_exports,
        max_queued_exports=options.max_queued_exports,
        max_message_bytes=options.max_message_bytes,
        session_timeout=options.session_timeout,
        finalize_ttl=options.finalize_ttl,
        shutdown_grace=options.shutdown_grace,
        metrics_address=options.metrics_addr,
        ready_fd=options.ready_fd,
    )


def make_socket_directory(default: str) -> None:
    """Create the directory of the default address, accessible only to its owner.

    Directories of other addresses are the operator's responsibility.

    Raises:
        UsageError: it cannot be created.
    """
    directory = Path(default.removeprefix("unix://")).parent
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"cannot make {directory}, where the default address is: {error.strerror}; "
            "choose an address with --addr"
        ) from error


def listener_tls(options: ListenerArgs) -> TLSConfig | None:
    """Return the TLS configuration for listeners, if any.

    Raises:
        UsageError: an option is missing.
    """
    if (options.tlscert is None) != (options.tlskey is None):
        raise UsageError("--tlscert and --tlskey belong together: give both, or neither")
    if options.tlscert is not None and options.tlskey is not None:
        return TLSConfig(options.tlscert, options.tlskey, options.tlscacert)
    if options.tlscacert is not None:
        raise UsageError("--tlscacert asks clients for certificates, which needs --tlscert and --tlskey")
    return None
