"""Where a registry is, and how to get there: addresses, certificates, proxies."""

from __future__ import annotations

import ipaddress
import ssl
from urllib.request import getproxies, proxy_bypass

from yarl import URL

from exporter.errors import InvalidArgumentError
from exporter.image.reference import DEFAULT_DOMAIN
from exporter.remotes.http.tls import client_context
from exporter.remotes.registry.options import RegistryOptions

_HUB = "registry-1.docker.io"


def endpoints(host: str, options: RegistryOptions, *, insecure: bool) -> list[URL]:
    """The addresses that a registry may be at, in the order in which to try them.

    A registry on this machine speaks plain HTTP, as for containerd, unless docker's directory of certificates
    has something for it. Any other speaks HTTPS. With `insecure`, plain HTTP is the second choice.

    Args:
        host: The registry, as in a reference.
        options: See `RegistryOptions`.
        insecure: ``registry.insecure=true``.
    """
    address = _HUB if host == DEFAULT_DOMAIN else host
    try:
        secure, plain = URL(f"https://{address}"), URL(f"http://{address}")
    except ValueError as error:
        raise InvalidArgumentError(
            f"{host} is no address of a registry: {error}", field="attrs[name]"
        ) from None
    if insecure:
        return [secure, plain]
    return [plain] if is_loopback(host) and not (options.certs_dir / host).is_dir() else [secure]


def is_loopback(host: str) -> bool:
    """Whether `host`, with or without a port, is this machine."""
    name = URL(f"//{host}").host or host
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def proxy_for(url: URL) -> URL | None:
    """The proxy that the environment has for an address; never one for this machine, as in Go.

    aiohttp's own way to the environment also reads ``.netrc``, which must not answer for a registry.
    """
    if is_loopback(url.authority) or proxy_bypass(url.host or ""):
        return None
    proxy = getproxies().get(url.scheme, "")
    return URL(proxy if "://" in proxy else f"http://{proxy}") if proxy else None


def tls_context(host: str, options: RegistryOptions, *, insecure: bool) -> ssl.SSLContext:
    """Say whom to trust and what to show of ourselves, as docker's directory of certificates has it. Blocks.

    Raises:
        InvalidArgumentError: a certificate or key is missing or cannot be used.
    """
    context = client_context()
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    directory = options.certs_dir / host
    path = directory
    try:
        for path in (*options.ca_files, *sorted(directory.glob("*.crt"))):
            context.load_verify_locations(path)
        for path in sorted(directory.glob("*.cert")):
            context.load_cert_chain(path, path.with_suffix(".key"))
    except OSError as error:
        hint = "; an authority's certificate must be called *.crt" if path.suffix == ".cert" else ""
        raise InvalidArgumentError(f"certificate {path} cannot be used: {error}{hint}") from error
    return context
