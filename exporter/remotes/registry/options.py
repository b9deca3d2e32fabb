"""How registries are reached."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from exporter.content.copy import CONCURRENCY
from exporter.remotes.registry.credentials import CredentialSource, DockerCredentials
from exporter.remotes.registry.retry import RetryPolicy


@dataclass(frozen=True, slots=True)
class RegistryOptions:
    """How registries are reached.

    Attributes:
        credentials: Where to find user names and passwords.
        certs_dir: Docker's directory of certificates: ``HOST[:PORT]/*.crt`` are authorities to trust,
            ``*.cert`` with ``*.key`` is what to show of ourselves.
        ca_files: More authorities, for all hosts.
        retry: When to try again.
        concurrency: Blobs of one push that are on their way at once.
        chunk_size: Bytes of the largest upload request; None for no limit. One that is refused for its size
            is sent again in smaller ones anyhow.
        stall_seconds: How long a registry may take no bytes, or give none, before it counts as gone.
    """

    credentials: CredentialSource = field(default_factory=DockerCredentials)
    certs_dir: Path = Path("/etc/docker/certs.d")
    ca_files: tuple[Path, ...] = ()
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    concurrency: int = CONCURRENCY
    chunk_size: int | None = None
    stall_seconds: float = 300.0
