"""Options for registries."""

from __future__ import annotations

import ssl
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from exporter.cli.commands.shared import OperatorArgs, RegistryArgs
from exporter.cli.failures import UsageError
from exporter.errors import InvalidArgumentError, os_error_text

if TYPE_CHECKING:
    from exporter.remotes.registry import RegistryOptions
    from exporter.remotes.registry.operator import OperatorCredentials


def registry_options(options: RegistryArgs) -> RegistryOptions | None:
    """Return the configuration for registries; None if no option was given.

    Raises:
        UsageError: a file or directory is missing, or a file has the wrong format.
    """
    config, certs_dir = options.registry_config, options.registry_certs_dir
    if config is None and certs_dir is None and not options.registry_ca:
        return None
    # Imported late, because it takes a moment.
    from exporter.remotes.registry import DockerCredentials, RegistryOptions

    if config is not None and not config.is_file():
        raise UsageError(f"--registry-config: there is no file {config}")
    if certs_dir is not None and not certs_dir.is_dir():
        raise UsageError(f"--registry-certs-dir: there is no directory {certs_dir}")
    for path in options.registry_ca:
        _check_ca(path)
    chosen = RegistryOptions(credentials=DockerCredentials(config), ca_files=options.registry_ca)
    return chosen if certs_dir is None else replace(chosen, certs_dir=certs_dir)


def operator_credentials(options: OperatorArgs) -> OperatorCredentials | None:
    """What is lent to clients; None for nothing.

    Raises:
        UsageError: a registry is not named as in references, or there are credentials for nobody's use.
    """
    names = [name for text in options.operator_credentials for name in text.split(",") if name]
    if not names:
        if options.registry_config is not None:
            raise UsageError(
                "--registry-config: clients use their own credentials, and the operator's only for the "
                "registries that --operator-credentials names"
            )
        return None
    from exporter.remotes.registry import DockerCredentials
    from exporter.remotes.registry.hosts import parse_host
    from exporter.remotes.registry.operator import OperatorCredentials

    try:
        hosts = frozenset(parse_host(name) for name in names)
    except InvalidArgumentError as error:
        raise UsageError(f"--operator-credentials: {error.message}") from error
    return OperatorCredentials(DockerCredentials(options.registry_config), hosts)


def _check_ca(path: Path) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except ssl.SSLError as error:
        raise UsageError(
            f"--registry-ca: {path} cannot be used: it has no certificates in PEM form"
        ) from error
    except OSError as error:
        raise UsageError(f"--registry-ca: {path} cannot be used: {os_error_text(error)}") from error
