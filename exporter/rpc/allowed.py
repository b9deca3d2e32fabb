"""The addresses that an operator allows requests to name."""

from __future__ import annotations

import fnmatch
import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass

from exporter.errors import InvalidArgumentError, PermissionDeniedError
from exporter.rpc.address import Address, TCPAddress, UnixAddress
from exporter.rpc.sockets import resolve

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_OCTETS = re.compile(r"[0-9*?]+(\.[0-9*?]+){3}")
_ANY = "*"
_WILDCARDS = frozenset("*?[")


@dataclass(frozen=True, slots=True)
class AddressPattern:
    """Matches addresses part by part.

    ``*``, ``?`` and ``[abc]`` match within one part: a component of a path, a label of a name, an octet of an
    IPv4 address, the port. A pattern must not allow more than its author intended:

    - A pattern of a name (``*.example.com``) matches names, label by label, and not addresses.
    - A pattern of addresses (``10.0.0.*``, ``10.0.0.0/24``, ``fd00::/8``) matches addresses, and not names.
    - The host ``*`` matches all names and all addresses.

    Attributes:
        scheme: ``unix`` or ``tcp``.
        parts: Components of the path, labels of the name, or octets.
        port: The pattern for the port of TCP addresses.
        network: The addresses that a TCP pattern matches; None if `parts` are used.
    """

    scheme: str
    parts: tuple[str, ...]
    port: str = ""
    network: _Network | None = None

    @classmethod
    def parse(cls, text: str, *, field: str) -> AddressPattern:
        """Parse a pattern.

        Raises:
            InvalidArgumentError: the pattern is malformed; names `field`.
        """
        if text.startswith("unix:///"):
            return cls("unix", tuple(text.removeprefix("unix://").split("/")))
        if text.startswith("tcp://"):
            host, colon, port = text.removeprefix("tcp://").rpartition(":")
            if colon and host and port:
                return cls._of_host(host.lower(), port, text, field)
        raise InvalidArgumentError(
            f"{text!r} is not an address pattern; write unix:///run/x.sock or tcp://host:port, * and ? "
            "allowed",
            field=field,
        )

    @classmethod
    def _of_host(cls, host: str, port: str, text: str, field: str) -> AddressPattern:
        is_bracketed = host.startswith("[") and host.endswith("]") and ":" in host
        if is_bracketed or ":" in host or "/" in host:
            try:
                network = ipaddress.ip_network(host[1:-1] if is_bracketed else host)
            except ValueError as error:
                raise InvalidArgumentError(
                    f"{text!r}: {error}; write networks as 10.0.0.0/24 or [fd00::/8]", field=field
                ) from None
            return cls("tcp", (), port, network)
        if _OCTETS.fullmatch(host):
            return cls("tcp", tuple(host.split(".")), port)
        return cls("tcp", tuple(host.removesuffix(".").split(".")), port)

    def matches(self, address: Address) -> bool:
        """Whether `address` matches. This does not look up names."""
        if isinstance(address, UnixAddress):
            return self.scheme == "unix" and _match_all(address.path.split("/"), self.parts)
        literal = literal_address(address.host)
        if literal is not None:
            return self.matches_ip(literal, address.port)
        return self._has_port(address.port) and (
            self.parts == (_ANY,)
            or (
                not self._is_of_addresses
                and _match_all(address.host.removesuffix(".").split("."), self.parts)
            )
        )

    def matches_ip(self, address: IPAddress, port: int) -> bool:
        """Whether an IP address and a port match."""
        if not self._has_port(port):
            return False
        if self.network is not None:
            return address in self.network
        if self.parts == (_ANY,):
            return True
        return (
            self._is_of_addresses and address.version == 4 and _match_all(str(address).split("."), self.parts)
        )

    def names(self, address: TCPAddress) -> bool:
        """Whether the pattern is exactly the address's name. Then the operator trusts what it resolves to."""
        name = ".".join(self.parts)
        return not _WILDCARDS & set(name) and self.matches(address)

    @property
    def _is_of_addresses(self) -> bool:
        return self.network is not None or bool(_OCTETS.fullmatch(".".join(self.parts)))

    def _has_port(self, port: int) -> bool:
        return self.scheme == "tcp" and fnmatch.fnmatchcase(str(port), self.port)


async def allowed_target(address: Address, allowed: Sequence[AddressPattern], *, field: str) -> str:
    """Resolve an address that a pattern matches to a gRPC target.

    A name is looked up once, and the resulting addresses are dialled, because a second lookup might return
    others (DNS rebinding). The owner of the DNS zone behind a wildcard must not be able to choose this
    machine or its link (cloud metadata), so such addresses need a separate pattern.

    Args:
        address: The address.
        allowed: The operator's patterns.
        field: The field to name in errors.

    Returns:
        The gRPC target.

    Raises:
        PermissionDeniedError: the name resolves to addresses that are not allowed.
        InvalidArgumentError: the name does not resolve.
    """
    if isinstance(address, UnixAddress) or literal_address(address.host) is not None:
        return address.target
    found = await resolve(address, field)
    family = found[0][0]
    addresses = [ipaddress.ip_address(host) for other, (host, _) in found if other == family]
    if not any(pattern.names(address) for pattern in allowed):
        for item in addresses:
            if _is_local(_plain(item)) and not any(p.matches_ip(_plain(item), address.port) for p in allowed):
                raise PermissionDeniedError(
                    f"{address.host} leads to {item}, which a pattern with wildcards does not allow: "
                    "allow that address, or the name without wildcards (--allow-endpoint)",
                    field=field,
                )
    version = addresses[0].version
    targets = [TCPAddress(str(item), address.port).target for item in addresses]
    return f"ipv{version}:{','.join(dict.fromkeys(targets))}"


def literal_address(host: str) -> IPAddress | None:
    """Parse a host as an IP address; None if it is a name. IPv4-mapped IPv6 addresses become IPv4."""
    try:
        return _plain(ipaddress.ip_address(host))
    except ValueError:
        return None


def _plain(address: IPAddress) -> IPAddress:
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _is_local(address: IPAddress) -> bool:
    return address.is_loopback or address.is_link_local or address.is_multicast or address.is_unspecified


def _match_all(parts: Sequence[str], patterns: Sequence[str]) -> bool:
    return len(parts) == len(patterns) and all(map(fnmatch.fnmatchcase, parts, patterns))
