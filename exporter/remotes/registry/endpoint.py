"""How to reach a registry: addresses, certificates, proxies."""

from __future__ import annotations

import ipaddress
import ssl
from urllib.request import getproxies, proxy_bypass

from yarl import URL

from exporter.errors import InvalidArgumentError
from exporter.remotes.http.tls import client_context, loading_problem
from exporter.remotes.registry.hosts import address_of
from exporter.remotes.registry.options import RegistryOptions


def endpoints(host: str, options: RegistryOptions, *, insecure: bool) -> list[URL]:
    """The possible addresses of a registry, in the order in which to try them.

    As in containerd, a registry on this machine uses plain HTTP, unless docker's certificate directory has an
    entry for it. Any other uses HTTPS. With `insecure`, plain HTTP is the fallback.

    Args:
        host: The registry, as in a reference.
        options: See `RegistryOptions`.
        insecure: ``registry.insecure=true``.
    """
    address = address_of(host)
    try:
        secure, plain = URL(f"https://{address}"), URL(f"http://{address}")
    except ValueError as error:
        raise InvalidArgumentError(
            f"{host} is not the address of a registry: {error}", field="attrs[name]"
        ) from None
    known = options.host(host)
    if known.plain_http:
        return [plain]
    if insecure or known.insecure:
        return [secure, plain]
    return [plain] if is_loopback(host) and not (options.certs_dir / host).is_dir() else [secure]


def server_url(text: str, base: URL | None = None) -> URL | None:
    """Read an address that a registry has sent; None if it is not one that can be asked.

    Args:
        text: Absolute, or relative to `base`. What is encoded in it stays as it is: it may be signed.
        base: Where it was sent from; None for absolute addresses only.
    """
    if not text.isascii() or not text.isprintable() or " " in text:
        return None
    try:
        url = URL(text, encoded=True)
        if base is not None:
            url = base.join(url)
        name = (url.host or "").encode("idna")
        # Credentials in an address would take the place of ours.
        is_http = url.scheme in {"http", "https"} and bool(name)
        has_port = bool(url.port) and url.explicit_port != 0  # yarl before 1.18 takes 0 for none
        has_user = url.user is not None or url.password is not None
        return url if is_http and has_port and not has_user else None
    except ValueError:  # UnicodeError is one
        return None


def is_loopback(host: str) -> bool:
    """Whether `host`, with or without a port, is a loopback address."""
    name = URL(f"//{host}").host or host
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def proxy_for(url: URL) -> URL | None:
    """The proxy for a URL according to the environment. As in Go, loopback addresses never use a proxy.

    aiohttp's `trust_env` would also use credentials from ``.netrc``, which are not for registries.
    """
    if is_loopback(url.authority) or proxy_bypass(url.host or ""):
        return None
    proxy = getproxies().get(url.scheme, "")
    return URL(proxy if "://" in proxy else f"http://{proxy}") if proxy else None


def tls_context(host: str, options: RegistryOptions, *, insecure: bool) -> ssl.SSLContext:
    """The CAs and client certificates for a registry, from docker's certificate directory. Blocks.

    Raises:
        InvalidArgumentError: a certificate or key is missing or invalid.
    """
    context = client_context()
    known = options.host(host)
    if insecure or known.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    try:
        for text in known.ca_certificates:
            context.load_verify_locations(cadata=text)
    except (OSError, ValueError) as error:
        problem = loading_problem(error) if isinstance(error, OSError) else "not in PEM form"
        raise InvalidArgumentError(
            f"a CA certificate for {host} cannot be used: {problem}",
            field=f"build.registries[{host}].ca_certificates",
        ) from error
    directory = options.certs_dir / host
    path = directory
    try:
        for path in (*options.ca_files, *sorted(directory.glob("*.crt"))):
            context.load_verify_locations(path)
        for path in sorted(directory.glob("*.cert")):
            context.load_cert_chain(path, path.with_suffix(".key"))
    except OSError as error:
        hint = "; a CA certificate must have the extension .crt" if path.suffix == ".cert" else ""
        raise InvalidArgumentError(
            f"certificate {path} cannot be used: {loading_problem(error)}{hint}"
        ) from error
    return context
