"""Names of registries: those in references, and those for which daemons request credentials."""

from __future__ import annotations

from exporter.errors import ImageError, InvalidArgumentError
from exporter.image import Reference
from exporter.image.reference import DEFAULT_DOMAIN

EVERY_HOST = "*"
"""Stands for all registries in lists of them."""

HUB = "registry-1.docker.io"
"""The host of the registry whose images are called ``docker.io/…``."""

_HUB_NAMES = frozenset({HUB, "index.docker.io"})


def address_of(host: str) -> str:
    """Where a registry is: ``host[:port]``.

    Args:
        host: As in a reference (``docker.io``).
    """
    return HUB if host == DEFAULT_DOMAIN else host


def host_at(address: str) -> str:
    """The name of a registry in references, from where it is."""
    return DEFAULT_DOMAIN if address in _HUB_NAMES else address


def parse_host(text: str) -> str:
    """Read the name of a registry, as in a reference, or `EVERY_HOST`.

    Raises:
        InvalidArgumentError: it is something else, such as a URL.
    """
    if text == EVERY_HOST:
        return text
    try:
        domain = Reference.parse(f"{text}/any").domain
    except ImageError:
        domain = ""
    host = host_at(text)
    if not text or host_at(domain) != host:
        raise InvalidArgumentError(f"{text!r} is not a registry's host, such as registry.example.com:5000")
    return host
