"""Certificates for tests of TLS."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.peers import require

SERVER_NAME = "exporter.test"
"""A name that the server's certificate has, beside ``localhost`` and 127.0.0.1."""


def make_certificates(directory: Path) -> None:
    """Make a CA (``ca.pem``), and certificates and keys that it vouches for: ``server.pem``, ``server.key``,
    ``client.pem``, ``client.key``.
    """
    openssl = require("openssl", "openssl")

    def run(*arguments: str) -> None:
        subprocess.run([openssl, *arguments], cwd=directory, check=True, capture_output=True)

    new_key = ("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    run(*new_key, "-x509", "-days", "1", "-subj", "/CN=ca", "-keyout", "ca.key", "-out", "ca.pem")
    (directory / "names").write_text(f"subjectAltName=DNS:{SERVER_NAME},DNS:localhost,IP:127.0.0.1\n")
    for name in ("server", "client"):
        run(*new_key, "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        run(
            *("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"),
            *("-days", "1", "-extfile", "names", "-out", f"{name}.pem"),
        )
