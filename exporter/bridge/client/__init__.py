"""A client of buildkitd, and of the BuildKit that is embedded in Docker engines."""

from exporter.bridge.client.client import BuildkitClient
from exporter.bridge.client.connection import DEFAULT_ADDRESS
from exporter.bridge.client.gateway import BuildFunction, Gateway
from exporter.bridge.client.options import DOCKERFILE_FRONTEND, CachePlace, Export, OurExport, SolveOptions
from exporter.bridge.client.records import BuildRecord, CacheRecord, Version, Worker
from exporter.bridge.client.solving import SolveResult
from exporter.bridge.services.secrets import Secret

__all__ = [
    "DEFAULT_ADDRESS",
    "DOCKERFILE_FRONTEND",
    "BuildFunction",
    "BuildRecord",
    "BuildkitClient",
    "CachePlace",
    "CacheRecord",
    "Export",
    "Gateway",
    "OurExport",
    "Secret",
    "SolveOptions",
    "SolveResult",
    "Version",
    "Worker",
]
