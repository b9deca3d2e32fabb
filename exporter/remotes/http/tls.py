"""TLS towards servers."""

from __future__ import annotations

import ssl
from pathlib import Path


def client_context(ca: Path | None = None) -> ssl.SSLContext:
    """Make a context that checks servers as Go's programs and gRPC do. Blocks.

    Args:
        ca: Certificates that vouch for the server, instead of the system's.

    Raises:
        OSError: the file cannot be read, or has no certificate.
    """
    context = ssl.create_default_context(cafile=ca)
    # On by default from Python 3.13 on: authorities need extensions that many which were made by hand lack.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context
