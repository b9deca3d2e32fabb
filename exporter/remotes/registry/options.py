"""Options for access to registries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from exporter.content.copy import CONCURRENCY
from exporter.remotes.registry.credentials import CredentialSource, DockerCredentials
from exporter.remotes.registry.retry import RetryPolicy
from exporter.remotes.registry.tokens import TokenCache


@dataclass(frozen=True, slots=True)
class RegistryHost:
    """How to reach a registry (BuildKit: a table ``registry."HOST"`` of ``buildkitd.toml``).

    Attributes:
        plain_http: Use HTTP only.
        insecure: Accept any certificate, and plain HTTP if there is no TLS.
        ca_certificates: PEM texts of CA certificates, in addition to the system's.
    """

    plain_http: bool = False
    insecure: bool = False
    ca_certificates: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RegistryOptions:
    """Options for access to registries.

    Attributes:
        credentials: The source of user names and passwords.
        certs_dir: Docker's certificate directory: ``HOST[:PORT]/*.crt`` are CA certificates, ``*.cert`` with
            ``*.key`` are client certificates.
        ca_files: Additional CA certificates, for all hosts.
        hosts: How to reach registries, by host as in references. An entry in `certs_dir` has precedence.
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
    hosts: Mapping[str, RegistryHost] = field(default_factory=dict)
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    concurrency: int = CONCURRENCY
    chunk_size: int | None = None
    stall_seconds: float = 300.0
    tokens: TokenCache = field(default_factory=TokenCache, init=False, repr=False, compare=False)

    def host(self, host: str) -> RegistryHost:
        """How to reach a registry. Blocks.

        Args:
            host: As in a reference (``docker.io``).
        """
        found = self.hosts.get(host)
        return RegistryHost() if found is None or (self.certs_dir / host).is_dir() else found
