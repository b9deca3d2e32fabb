"""Explaining a registry's failures, and what to do about them."""

from __future__ import annotations

import os
import socket
import ssl
from http import HTTPStatus
from typing import Any

import aiohttp
from yarl import URL

from exporter.errors import (
    ExporterError,
    FailedPreconditionError,
    NotFoundError,
    PermissionDeniedError,
    ResourceExhaustedError,
    UnavailableError,
)
from exporter.remotes.http.answers import json_object
from exporter.remotes.registry.retry import RequestError, parse_retry_after

CONNECTION_ERRORS = (aiohttp.ClientError, OSError, UnicodeError)
"""What aiohttp raises if a connection fails or breaks; the last for names that no host can have."""

CERTIFICATES = "/etc/docker/certs.d"
"""Docker's certificate directory, unless --registry-certs-dir specifies another; for messages."""

INSECURE = "registry.insecure=true (for verify: --registry-insecure)"
"""The options that allow any certificate and plain HTTP; for messages."""

_LONGEST_TEXT = 500
_WANTS_TLS = b"Client sent an HTTP request to an HTTPS server"
"""The response of Go's TLS servers to plain HTTP."""

# Numbers of OpenSSL (X509_V_ERR_*).
_EXPIRED = 10
_OTHER_NAME = {62, 64}
_REDIRECTS = range(300, 400)


def is_certificate_error(error: BaseException) -> bool:
    """Whether the server's certificate was rejected."""
    return isinstance(error, aiohttp.ClientConnectorCertificateError | ssl.SSLCertVerificationError)


def is_tls_error(error: BaseException) -> bool:
    """Whether the connection was established, but TLS failed."""
    return isinstance(error, aiohttp.ClientConnectorSSLError | ssl.SSLError)


def connection_error(error: BaseException, url: URL, what: str) -> RequestError:
    """Explain why a request got no response.

    Args:
        error: One of `CONNECTION_ERRORS`.
        url: The URL of the request.
        what: The purpose of the request.
    """
    origin, host = url.origin(), url.authority
    if is_certificate_error(error):
        reason = _certificate(getattr(error, "certificate_error", error), host)
        return RequestError(FailedPreconditionError(f"{what}: the certificate of {origin} {reason}"))
    if is_tls_error(error):
        return RequestError(FailedPreconditionError(f"{what}: {origin}: {_tls(error, host)}"))
    if isinstance(error, aiohttp.InvalidURL | aiohttp.TooManyRedirects):
        text = f"{what}: {host} leads to an address that cannot be used"
        return RequestError(UnavailableError(text))
    if isinstance(error, aiohttp.ClientResponseError):
        text = f"{what}: what {origin} answered is not HTTP: {_plain(error.message)}"
        return RequestError(UnavailableError(text))
    if _is_unknown_host(error):
        text = f"{what}: unknown host {url.host}: is the name correct?"
        return RequestError(UnavailableError(text))
    return RequestError(
        UnavailableError(f"{what}: no response from {origin}: {_cause(error)}"), may_pass=True
    )


def _certificate(error: BaseException, host: str) -> str:
    code = getattr(error, "verify_code", 0)
    insecure = f"or accept any certificate with {INSECURE}"
    if code in _OTHER_NAME:
        return f"is not valid for {host}: use a name that it is valid for, {insecure}"
    if code == _EXPIRED:
        return f"has expired: have it renewed, {insecure}"
    reason = getattr(error, "verify_message", "") or str(error)
    return (
        f"is not trusted ({reason}): specify its CA certificate with --registry-ca, put it into "
        f"{CERTIFICATES}/{host}/ca.crt, {insecure}"
    )


def _tls(error: BaseException, host: str) -> str:
    cause = getattr(error, "os_error", error)
    reason = getattr(cause, "reason", None) or ""
    if reason in {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"}:
        return f"it does not use TLS; if it uses plain HTTP, set {INSECURE}"
    if "CERTIFICATE_REQUIRED" in reason or "BAD_CERTIFICATE" in reason:
        return (
            "it requires a client certificate, or rejects the one that was sent: put one into "
            f"{CERTIFICATES}/{host}, as client.cert and client.key"
        )
    return f"TLS failed: {reason.lower().replace('_', ' ') or cause}"


def status_error(response: aiohttp.ClientResponse, body: bytes, what: str) -> RequestError:
    """Explain a response with an unexpected status.

    Args:
        response: The response.
        body: Its body, or the beginning of it.
        what: The purpose of the request.
    """
    if response.status == 400 and response.url.scheme == "http" and _WANTS_TLS in body:
        host = response.url.authority
        return RequestError(
            FailedPreconditionError(
                f"{what}: it uses TLS, but local registries are accessed with plain HTTP by default; create "
                f"the directory {CERTIFICATES}/{host} with its CA certificate as ca.crt, or set {INSECURE}"
            )
        )
    status = response.status
    message = f"{what}: {response.url.authority} answered {status} {_reason(response)}"
    if text := error_text(body):
        message += f": {text}"
    may_pass = status in {408, 429} or status >= 500
    return RequestError(
        _meaning(status, message),
        may_pass=may_pass,
        retry_after=parse_retry_after(response.headers.get("Retry-After")),
        status=status,
        challenges=tuple(response.headers.getall("WWW-Authenticate", ())),
    )


def _meaning(status: int, message: str) -> ExporterError:
    if status in {401, 403}:
        return PermissionDeniedError(message)
    if status == 404:
        return NotFoundError(message)
    if status == 413:
        return ResourceExhaustedError(
            f"{message}; the registry, or a proxy in front of it, accepts no larger requests"
        )
    if status == 429:
        return ResourceExhaustedError(f"{message}; there were too many requests: try again later")
    if status == 408 or status >= 500:
        return UnavailableError(message)
    if status in _REDIRECTS:
        return UnavailableError(f"{message}; a streamed upload cannot follow a redirect")
    return FailedPreconditionError(message)


def _is_unknown_host(error: BaseException) -> bool:
    """Whether the host does not exist, as opposed to a failure of the name server."""
    if isinstance(error, UnicodeError):
        return True
    if not isinstance(error, aiohttp.ClientConnectorDNSError):
        return False
    causes = (error.os_error, error.os_error.__cause__)
    return any(isinstance(cause, socket.gaierror) and cause.errno == socket.EAI_NONAME for cause in causes)


def _cause(error: BaseException) -> str:
    if isinstance(error, aiohttp.ClientConnectorError):
        error = error.os_error
    if isinstance(error, TimeoutError):
        return "it took too long"
    text: str | None = str(error)
    if isinstance(error, OSError):
        # asyncio's own text only adds the address, which is already in the message.
        text = os.strerror(error.errno) if error.errno is not None and error.errno > 0 else error.strerror
    return text or str(error) or type(error).__name__


def _reason(response: aiohttp.ClientResponse) -> str:
    try:
        return response.reason or HTTPStatus(response.status).phrase
    except ValueError:
        return ""


def error_text(body: bytes) -> str:
    """The text of an error: the specification's ``errors``, a token server's ``details`` or text."""
    answer = json_object(body)
    if answer is None:
        # Proxies send HTML, which adds nothing to the status.
        return "" if body.lstrip()[:1] == b"<" else _plain(body.decode("utf-8", "replace"))
    errors = answer.get("errors")
    if isinstance(errors, list):
        texts = [_one(error) for error in errors if isinstance(error, dict)]
        return _plain("; ".join(text for text in texts if text))
    values = (answer.get(key) for key in ("error_description", "details", "message", "error"))
    return _plain(next((text for text in values if isinstance(text, str)), ""))


def _one(error: dict[str, Any]) -> str:
    code, message = str(error.get("code") or ""), str(error.get("message") or "")
    return f"{code}: {message}" if code and message else code or message


def _plain(text: str) -> str:
    """The text as a single line without control characters, safe for a terminal."""
    line = " ".join(text.split())
    return "".join(c for c in line if c.isprintable())[:_LONGEST_TEXT]
