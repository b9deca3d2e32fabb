"""Options for access to registries."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from exporter.content.copy import CONCURRENCY
from exporter.remotes.registry.credentials import CredentialSource, DockerCredentials
from exporter.remotes.registry.retry import RetryPolicy
from exporter.remotes.registry.tokens import TokenCache


@dataclass(frozen=True, slots=True)
class RegistryOptions:
    """Options for access to registries.

    Attributes:
        credentials: The source of user names and passwords.
        certs_dir: Docker's certificate directory: ``HOST[:PORT]/*.crt`` are CA certificates, ``*.cert`` with
            ``*.key`` are client certificates.
        ca_files: Additional CA certificates, for all hosts.
        retry: When to retry.
        concurrency: The number of concurrent uploads in a push.
        chunk_size: Maximum size of an upload request; None for no limit. A request that is rejected as too
            large is retried with smaller ones in any case.
        stall_seconds: How long a registry may neither accept nor send data before it counts as unavailable.
        tokens: The tokens that `credentials` gave access to. Copies of these options have none of them.
    """

    credentials: CredentialSource = field(default_factory=DockerCredentials)
    certs_dir: Path = Path("/etc/docker/certs.d")
    ca_files: tuple[Path, ...] = ()
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    concurrency: int = CONCURRENCY
    chunk_size: int | None = None
    stall_seconds: float = 300.0
    tokens: TokenCache = field(default_factory=TokenCache, init=False, repr=False, compare=False)
