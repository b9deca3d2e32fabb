"""OCI distribution: a repository of a registry as a provider, and pushing images into it.

`exporter.remotes.registry.repository` and `exporter.remotes.registry.push` do the work. They are not loaded
from here: the HTTP library takes longer to load than everything else that many commands need.
"""

from exporter.remotes.registry.credentials import (
    Credentials,
    CredentialSource,
    DockerCredentials,
    StaticCredentials,
)
from exporter.remotes.registry.distribution_sources import DistributionSources
from exporter.remotes.registry.options import RegistryHost, RegistryOptions
from exporter.remotes.registry.puller import RegistryPuller
from exporter.remotes.registry.retry import RetryPolicy
from exporter.remotes.registry.tokens import Token, TokenCache

__all__ = [
    "CredentialSource",
    "Credentials",
    "DistributionSources",
    "DockerCredentials",
    "RegistryHost",
    "RegistryOptions",
    "RegistryPuller",
    "RetryPolicy",
    "StaticCredentials",
    "Token",
    "TokenCache",
]
