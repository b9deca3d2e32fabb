"""TLS for clients."""

from __future__ import annotations

import ssl
from pathlib import Path


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
