"""Certificates made for a test."""

from __future__ import annotations

from pathlib import Path

from tests.integration.commands import run
from tests.peers import require


async def make_certificate(directory: Path, name: str) -> None:
    """A key and a self-signed certificate for this machine."""
    openssl = require("openssl", "openssl")
    key, certificate = directory / f"{name}.key", directory / f"{name}.crt"
    command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}"]
    extensions = ["-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:TRUE"]
    await run(*command, *extensions, "-keyout", str(key), "-out", str(certificate))
