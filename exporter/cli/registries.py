"""Options about how registries are reached."""

from __future__ import annotations

import argparse
import ssl
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from exporter.cli.failures import UsageError

if TYPE_CHECKING:
    from exporter.remotes.registry import RegistryOptions

REGISTRY_OPTIONS = ("registry_config", "registry_ca", "registry_certs_dir")
"""Their names in what the parser gives."""


def add_registry_options(parser: argparse.ArgumentParser) -> None:
    """Let a command have these options."""
    parser.add_argument(
        "--registry-config",
        type=Path,
        metavar="FILE",
        help="docker's configuration, with the credentials for registries (default: "
        "$DOCKER_CONFIG/config.json, else ~/.docker/config.json)",
    )
    parser.add_argument(
        "--registry-ca",
        type=Path,
        action="append",
        metavar="FILE",
        help="CA certificates that vouch for registries, besides the system's (PEM); repeatable",
    )
    parser.add_argument(
        "--registry-certs-dir",
        type=Path,
        metavar="DIR",
        help="certificates for single registries, in HOST:PORT/*.crt, *.cert and *.key "
        "(default: /etc/docker/certs.d)",
    )


def registry_options(options: argparse.Namespace) -> RegistryOptions | None:
    """How the options want registries to be reached; None if they want nothing.

    Raises:
        UsageError: a file is missing, or is not what it should be.
    """
    if all(getattr(options, name) is None for name in REGISTRY_OPTIONS):
        return None
    # Only here: it takes a moment to import.
    from exporter.remotes.registry import DockerCredentials, RegistryOptions

    config, certs_dir = options.registry_config, options.registry_certs_dir
    if config is not None and not config.is_file():
        raise UsageError(f"--registry-config: there is no file {config}")
    if certs_dir is not None and not certs_dir.is_dir():
        raise UsageError(f"--registry-certs-dir: there is no directory {certs_dir}")
    ca_files = tuple(options.registry_ca or ())
    for path in ca_files:
        _check_ca(path)
    chosen = RegistryOptions(credentials=DockerCredentials(config), ca_files=ca_files)
    return chosen if certs_dir is None else replace(chosen, certs_dir=certs_dir)


def _check_ca(path: Path) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except OSError as error:
        raise UsageError(f"--registry-ca: {path} cannot be used: {error}") from error
