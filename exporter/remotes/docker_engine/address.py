"""Finding the Docker engine: ``DOCKER_HOST``, docker contexts, or the local socket.

The order is docker's own: an explicit context, ``DOCKER_HOST``, ``DOCKER_CONTEXT``, the current context in
``config.json``, the default.
"""

from __future__ import annotations

import hashlib
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yarl import URL

from exporter.errors import InvalidArgumentError, NotFoundError, os_error_text
from exporter.remotes.http.tls import client_context, loading_problem

DEFAULT_HOST = "unix:///var/run/docker.sock"

_DEFAULT_CONTEXT = "default"
_CERTIFICATES = ("ca.pem", "cert.pem", "key.pem")
_PORTS = {"http": 2375, "https": 2376}


@dataclass(frozen=True, slots=True)
class TLSFiles:
    """Docker's certificates for an engine: ``ca.pem``, ``cert.pem`` and ``key.pem``, all of them optional.

    `verify` is False if any certificate of the engine is acceptable.
    """

    directory: Path
    verify: bool = True

    def context(self) -> ssl.SSLContext:
        """Load the certificates. Blocks.

        Raises:
            InvalidArgumentError: a certificate cannot be used.
        """
        authority, certificate, key = (self.directory / name for name in _CERTIFICATES)
        try:
            context = client_context(authority if authority.exists() else None)
            if not self.verify:
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            if certificate.exists():
                context.load_cert_chain(certificate, key)
        except OSError as error:
            raise InvalidArgumentError(
                f"the certificates for the Docker engine in {self.directory} cannot be used: "
                f"{loading_problem(error)}"
            ) from error
        return context


@dataclass(frozen=True, slots=True)
class EngineAddress:
    """The address of an engine: a socket path or a URL, exactly one of which is set."""

    socket: Path | None = None
    url: URL | None = None
    tls: TLSFiles | None = None

    def __str__(self) -> str:
        return f"unix://{self.socket}" if self.socket is not None else str(self.url)

    @classmethod
    def parse(cls, host: str, tls: TLSFiles | None = None) -> EngineAddress:
        """Parse an address in docker's format: ``unix://PATH``, ``tcp://HOST[:PORT]``.

        Raises:
            InvalidArgumentError: it is malformed, or its scheme is not supported.
        """
        scheme, separator, rest = host.partition("://")
        if scheme == "unix" and rest:
            return cls(socket=Path(rest))
        if scheme == "ssh":
            raise InvalidArgumentError(
                f"Docker engine {host}: SSH is not supported; forward the engine's socket (ssh -L SOCKET:"
                "/var/run/docker.sock HOST) and set DOCKER_HOST=unix://SOCKET"
            )
        if scheme not in {"tcp", "http", "https"} or not separator:
            raise InvalidArgumentError(f"Docker engine {host}: use unix:// or tcp://")
        try:
            url = URL(f"{'https' if tls or scheme == 'https' else 'http'}://{rest}")
            port = url.explicit_port or _PORTS[url.scheme]
        except ValueError as error:
            raise InvalidArgumentError(f"Docker engine {host}: {error}") from error
        if not url.host:
            raise InvalidArgumentError(f"Docker engine {host}: the host is missing")
        return cls(url=url.with_port(port).with_path(url.path.rstrip("/")), tls=tls)


def find_engine(context: str | None = None, *, environ: Mapping[str, str]) -> EngineAddress:
    """Find the engine that the user's docker client would use. Blocks.

    Args:
        context: The name of a docker context; None for the usual choice.
        environ: The environment variables.

    Raises:
        NotFoundError: there is no such context.
        InvalidArgumentError: a configuration file or address is invalid.
    """
    config = _config_directory(environ)
    host = environ.get("DOCKER_HOST", "")
    if context:
        named_by = ""
    elif host:
        context, named_by = _DEFAULT_CONTEXT, ""
    elif context := environ.get("DOCKER_CONTEXT"):
        named_by = "DOCKER_CONTEXT"
    else:
        context, named_by = _current_context(config), str(config / "config.json")
    if context != _DEFAULT_CONTEXT:
        return _from_context(config, context, named_by)
    tls = None
    if environ.get("DOCKER_TLS_VERIFY") or environ.get("DOCKER_TLS"):
        directory = environ.get("DOCKER_CERT_PATH")
        tls = TLSFiles(Path(directory) if directory else config, bool(environ.get("DOCKER_TLS_VERIFY")))
    return _parse(host or DEFAULT_HOST, tls, "DOCKER_HOST")


def _config_directory(environ: Mapping[str, str]) -> Path:
    directory = environ.get("DOCKER_CONFIG")
    return Path(directory) if directory else Path(environ.get("HOME") or Path.home()) / ".docker"


def _current_context(config: Path) -> str:
    path = config / "config.json"
    if not path.exists():
        return _DEFAULT_CONTEXT
    name = _read_object(path).get("currentContext")
    return name if isinstance(name, str) and name else _DEFAULT_CONTEXT


def _from_context(config: Path, name: str, named_by: str) -> EngineAddress:
    directory = hashlib.sha256(name.encode()).hexdigest()
    meta = config / "contexts" / "meta" / directory / "meta.json"
    if not meta.exists():
        why = f", which {named_by} refers to" if named_by else ""
        raise NotFoundError(f"there is no docker context {name!r}{why}; `docker context ls` lists them")
    endpoints = _read_object(meta).get("Endpoints")
    endpoint = endpoints.get("docker") if isinstance(endpoints, dict) else None
    host = endpoint.get("Host") if isinstance(endpoint, dict) else None
    if not isinstance(endpoint, dict) or not isinstance(host, str):
        raise InvalidArgumentError(f"docker context {name!r} has no address of a Docker engine ({meta})")
    files = TLSFiles(config / "contexts" / "tls" / directory / "docker", not endpoint.get("SkipTLSVerify"))
    has_files = any((files.directory / file).exists() for file in _CERTIFICATES)
    return _parse(host or DEFAULT_HOST, files if has_files else None, f"docker context {name!r}")


def _parse(host: str, tls: TLSFiles | None, origin: str) -> EngineAddress:
    try:
        return EngineAddress.parse(host, tls)
    except InvalidArgumentError as error:
        raise InvalidArgumentError(f"{error.message} (from {origin})") from error


def _read_object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise InvalidArgumentError(f"cannot read docker's configuration: {os_error_text(error)}") from error
    except ValueError as error:
        raise InvalidArgumentError(f"{path} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise InvalidArgumentError(f"{path} is not a JSON object")
    return value
