"""TLS of listeners."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class TLSConfig:
    """Files of PEM blocks for a TCP listener.

    Attributes:
        cert: The server's certificate chain.
        key: Its private key.
        client_ca: Certificates that sign client certificates. If given, clients must show one (mutual TLS).
    """

    cert: Path
    key: Path
    client_ca: Path | None = None
