"""Addresses as BuildKit spells them: ``unix:///run/x.sock`` and ``tcp://host:port``."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from urllib.parse import urlsplit

from exporter.errors import InvalidArgumentError
from exporter.rpc.target import unix_target

MAX_UNIX_PATH = 107
"""The maximum length of a socket's path on Linux in bytes (``sun_path`` without its NUL)."""


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """A Unix socket. `path` is absolute and normal: no ``..``, no double slash."""

    path: str

    @property
    def target(self) -> str:
        """As gRPC spells it."""
        return unix_target(self.path)

    def __str__(self) -> str:
        return f"unix://{self.path}"


@dataclass(frozen=True, slots=True)
class TCPAddress:
    """A host (name, IPv4, or IPv6 without brackets) in lower case, and a port."""

    host: str
    port: int

    @property
    def target(self) -> str:
        """As gRPC spells it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        return f"tcp://{self.target}"


Address = UnixAddress | TCPAddress


def parse_address(text: str, *, field: str, also: str = "") -> Address:
    """Read ``unix:///path`` (also ``unix:/path``) or ``tcp://host:port`` (also gRPC's ``dns:///host:port``).

    Args:
        text: The address.
        field: The field to name in errors.
        also: Other accepted forms, for the message.

    Raises:
        InvalidArgumentError: it is neither; names `field`.
    """
    scheme, colon, rest = text.partition(":")
    if colon and scheme == "unix":
        return _unix(rest, text, field)
    if colon and scheme == "tcp" and rest.startswith("//"):
        return _tcp(rest.removeprefix("//"), text, field)
    if colon and scheme == "dns" and rest.startswith("///"):
        return _tcp(rest.removeprefix("///"), text, field)
    hint = f"; write unix:///absolute/path or tcp://host:port{also}"
    if text.startswith("/"):
        hint = f"; did you mean unix://{text}?"
    elif colon and scheme and rest.isdecimal():
        hint = f"; did you mean tcp://{text}?"
    raise InvalidArgumentError(f"{text!r} is not an address{hint}", field=field)


def parse_host_port(text: str, *, field: str) -> TCPAddress:
    """Read ``host:port``, or ``[host]:port`` for IPv6.

    Raises:
        InvalidArgumentError: it is not that; names `field`.
    """
    return _tcp(text, text, field)


def _unix(rest: str, text: str, field: str) -> UnixAddress:
    path = rest.removeprefix("//") if rest.startswith("///") else rest
    if not path.startswith("/") or path.startswith("//") or "\0" in path or path.endswith("/"):
        raise InvalidArgumentError(f"{text!r}: a Unix socket needs an absolute path", field=field)
    path = posixpath.normpath(path)
    length = len(path.encode("utf-8", "surrogateescape"))
    if length > MAX_UNIX_PATH:
        raise InvalidArgumentError(
            f"{text!r}: the path has {length} bytes, and a socket's can have {MAX_UNIX_PATH} at most: "
            "choose a shorter one",
            field=field,
        )
    return UnixAddress(path)


def _tcp(netloc: str, text: str, field: str) -> TCPAddress:
    try:
        parts = urlsplit(f"//{netloc}")
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise InvalidArgumentError(f"{text!r}: {error}", field=field) from None
    plain = parts.netloc == netloc and parts.username is None and parts.password is None
    if not plain or not host or port is None or not netloc.isascii():
        raise InvalidArgumentError(f"{text!r}: write host:port, with an IPv6 host in brackets", field=field)
    return TCPAddress(host, port)
