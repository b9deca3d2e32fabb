"""What a registry's failures mean, and what to do about them."""

from __future__ import annotations

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

CONNECTION_ERRORS = (aiohttp.ClientError, OSError)
"""What aiohttp raises when there is no connection, or no longer."""

_LONGEST_TEXT = 500
_REDIRECTS = range(300, 400)


def is_certificate_error(error: BaseException) -> bool:
    """Whether the other side's certificate was not accepted."""
    return isinstance(error, aiohttp.ClientConnectorCertificateError | ssl.SSLCertVerificationError)


def is_tls_error(error: BaseException) -> bool:
    """Whether there was a connection but no TLS on it."""
    return isinstance(error, aiohttp.ClientConnectorSSLError | ssl.SSLError)


def connection_error(error: BaseException, url: URL, what: str) -> RequestError:
    """Say what it means that a request got no answer.

    Args:
        error: One of `CONNECTION_ERRORS`.
        url: Where the request went.
        what: What was being done.
    """
    origin, host = url.origin(), url.authority
    if is_certificate_error(error):
        reason = getattr(error, "certificate_error", error)
        return RequestError(
            FailedPreconditionError(
                f"{what}: the certificate of {origin} is not trusted: {reason}; put its authority's one into "
                f"/etc/docker/certs.d/{host}/ca.crt, or accept any with registry.insecure=true"
            )
        )
    if is_tls_error(error):
        return RequestError(
            FailedPreconditionError(
                f"{what}: no TLS with {origin}: {error}; if it speaks plain HTTP, set registry.insecure=true"
            )
        )
    return RequestError(UnavailableError(f"{what}: no answer of {origin}: {_cause(error)}"), may_pass=True)


def status_error(response: aiohttp.ClientResponse, body: bytes, host: str, what: str) -> RequestError:
    """Say what an answer means whose status is not what was hoped for.

    Args:
        response: The answer.
        body: Its body, or the beginning of that.
        host: The registry, as in a reference; perhaps it is another host that answered.
        what: What was being done.
    """
    status = response.status
    message = f"{what}: {response.url.authority} answered {status} {_reason(response)}"
    if text := error_text(body):
        message += f": {text}"
    may_pass = status in {408, 429} or status >= 500
    return RequestError(
        _meaning(status, message, host),
        may_pass=may_pass,
        retry_after=parse_retry_after(response.headers.get("Retry-After")),
        status=status,
        challenges=tuple(response.headers.getall("WWW-Authenticate", ())),
    )


def _meaning(status: int, message: str, host: str) -> ExporterError:
    if status in {401, 403}:
        return PermissionDeniedError(
            f"{message}; log in with `docker login {host}`, "
            "and check the repository's name and your rights to it"
        )
    if status == 404:
        return NotFoundError(message)
    if status == 413:
        return ResourceExhaustedError(
            f"{message}; the registry, or a proxy before it, takes no larger requests"
        )
    if status == 429:
        return ResourceExhaustedError(f"{message}; there have been too many requests: try again later")
    if status == 408 or status >= 500:
        return UnavailableError(message)
    if status in _REDIRECTS:
        return UnavailableError(f"{message}; an upload that was begun cannot follow a redirection")
    return FailedPreconditionError(message)


def _cause(error: BaseException) -> str:
    if isinstance(error, aiohttp.ClientConnectorError):
        error = error.os_error
    if isinstance(error, TimeoutError):
        return "it took too long"
    text = error.strerror if isinstance(error, OSError) else str(error)
    return text or str(error) or type(error).__name__


def _reason(response: aiohttp.ClientResponse) -> str:
    try:
        return response.reason or HTTPStatus(response.status).phrase
    except ValueError:
        return ""


def error_text(body: bytes) -> str:
    """The text of an error: the specification's ``errors``, a token server's ``details``, or plain."""
    answer = json_object(body)
    if answer is None:
        # Proxies answer in HTML, which says nothing that the status does not.
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
    """On one line, without what would move a terminal's cursor."""
    line = " ".join(text.split())
    return "".join(c for c in line if c.isprintable())[:_LONGEST_TEXT]
