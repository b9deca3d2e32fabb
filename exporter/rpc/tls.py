"""TLS of listeners: the operator's files, and explaining clients' failed handshakes."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from exporter.errors import InvalidArgumentError


@dataclass(frozen=True, slots=True)
class TLSConfig:
    """The PEM files for a TCP listener.

    Attributes:
        cert: The server's certificate chain.
        key: Its private key.
        client_ca: The CAs of client certificates. If given, clients must present one (mutual TLS).
    """

    cert: Path
    key: Path
    client_ca: Path | None = None


def server_context(tls: TLSConfig) -> ssl.SSLContext:
    """Load the files. Blocks.

    Raises:
        InvalidArgumentError: a file is invalid; ``field`` is ``tls``.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        for path in (tls.cert, tls.key, *([] if tls.client_ca is None else [tls.client_ca])):
            path.open("rb").close()
    except OSError as error:
        raise InvalidArgumentError(f"cannot read {error.filename}: {error.strerror}", field="tls") from error
    load_certificate(context, tls.cert, tls.key)
    if tls.client_ca is not None:
        try:
            context.load_verify_locations(tls.client_ca)
        except OSError as error:
            raise InvalidArgumentError(
                f"{tls.client_ca} has no certificates in PEM that could vouch for clients", field="tls"
            ) from error
        context.verify_mode = ssl.CERT_REQUIRED
    context.set_alpn_protocols(["h2"])
    return context


def load_certificate(context: ssl.SSLContext, cert: Path, key: Path) -> None:
    """Load a certificate into a context. Blocks.

    Raises:
        InvalidArgumentError: a readable file is invalid; ``field`` is ``tls``.
    """
    try:
        context.load_cert_chain(cert, key, password=_no_password)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise InvalidArgumentError(_why_not(cert, key, error), field="tls") from error


def handshake_failure(error: BaseException) -> str:
    """Explain a client's failed handshake."""
    reason = getattr(error, "reason", None) or ""
    match reason:
        case "PEER_DID_NOT_RETURN_A_CERTIFICATE":
            return "the client shows no certificate, which --tlscacert asks for"
        case "HTTP_REQUEST" | "WRONG_VERSION_NUMBER" | "HTTPS_PROXY_REQUEST":
            return "the client does not speak TLS"
        case "TLSV1_ALERT_UNKNOWN_CA" | "SSLV3_ALERT_BAD_CERTIFICATE" | "SSLV3_ALERT_CERTIFICATE_UNKNOWN":
            return "the client does not trust this server's certificate"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the client's certificate is not accepted: {error.verify_message}"
    if isinstance(error, TimeoutError):
        return "the client took too long"
    return reason.lower().replace("_", " ") or str(error) or type(error).__name__


def _why_not(cert: Path, key: Path, error: Exception) -> str:
    """Explain which file is invalid, since OpenSSL does not say so."""
    if not isinstance(error, ssl.SSLError):
        return f"{key}: {error}"
    if error.reason == "KEY_VALUES_MISMATCH":
        return f"the key {key} does not belong to the certificate {cert}"
    if b"-----BEGIN CERTIFICATE-----" not in cert.read_bytes():
        return f"{cert} is not a certificate in PEM"
    if b"PRIVATE KEY-----" not in key.read_bytes():
        return f"{key} is not a private key in PEM"
    return f"{cert} and {key} cannot be used: {(error.reason or str(error)).lower().replace('_', ' ')}"


def _no_password() -> str:
    raise ValueError("the key is encrypted, and there is nobody to ask for its password: decrypt it")
