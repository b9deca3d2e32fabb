"""TLS for clients."""

from __future__ import annotations

import ssl
from pathlib import Path

from exporter.errors import os_error_text


def client_context(ca: Path | None = None) -> ssl.SSLContext:
    """Create a context that verifies servers as Go programs and gRPC do. Blocks.

    Args:
        ca: A file with CA certificates to trust, instead of the system's.

    Raises:
        OSError: the file cannot be read, or contains no certificate.
    """
    context = ssl.create_default_context(cafile=ca)
    # Python 3.13 enables this by default. It requires extensions that many self-made CA certificates lack.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


def loading_problem(error: OSError) -> str:
    """Say why a certificate or key cannot be loaded, without OpenSSL's numbers and source lines."""
    if not isinstance(error, ssl.SSLError):
        return os_error_text(error)
    match error.reason or "":  # OpenSSL does not always say
        case "KEY_VALUES_MISMATCH":
            return "the key belongs to another certificate"
        case "" | "NO_CERTIFICATE_OR_CRL_FOUND" | "NO_START_LINE":
            return "not in PEM form"
        case reason:
            return reason.lower().replace("_", " ")
