"""OCI distribution: a repository of a registry as a provider, and pushing images into it."""

from exporter.content.registry.credentials import (
    Credentials,
    CredentialSource,
    DockerCredentials,
    StaticCredentials,
)
from exporter.content.registry.distribution_sources import DistributionSources
from exporter.content.registry.options import RegistryOptions
from exporter.content.registry.push import push
from exporter.content.registry.repository import Repository, open_repository
from exporter.content.registry.retry import RetryPolicy

__all__ = [
    "CredentialSource",
    "Credentials",
    "DistributionSources",
    "DockerCredentials",
    "RegistryOptions",
    "Repository",
    "RetryPolicy",
    "StaticCredentials",
    "open_repository",
    "push",
]
