"""OCI distribution: a repository of a registry as a provider, and pushing images into it.

`exporter.content.registry.repository` and `exporter.content.registry.push` do the work. They are not loaded
from here: the HTTP library takes longer to load than all else that many commands need.
"""

from exporter.content.registry.credentials import (
    Credentials,
    CredentialSource,
    DockerCredentials,
    StaticCredentials,
)
from exporter.content.registry.distribution_sources import DistributionSources
from exporter.content.registry.options import RegistryOptions
from exporter.content.registry.retry import RetryPolicy

__all__ = [
    "CredentialSource",
    "Credentials",
    "DistributionSources",
    "DockerCredentials",
    "RegistryOptions",
    "RetryPolicy",
    "StaticCredentials",
]
