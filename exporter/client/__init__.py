"""A client of buildkitd, and of the BuildKit that is embedded in Docker engines."""

from exporter.client.client import BuildkitClient
from exporter.client.failure import SolveError
from exporter.client.gateway import BuildFunction, Gateway
from exporter.client.options import DOCKERFILE_FRONTEND, CachePlace, Export, OurExport, SolveOptions
from exporter.client.solving import SolveResult
from exporter.client.sources import BuildSource, SourceFile, SourcePosition, SourceRange
from exporter.daemon.connection import DEFAULT_ADDRESS
from exporter.daemon.records import BuildRecord, CacheRecord, Version, Worker
from exporter.daemon.services.secrets import Secret
from exporter.daemon.ssh.agents import SSHAgent

__all__ = [
    "DEFAULT_ADDRESS",
    "DOCKERFILE_FRONTEND",
    "BuildFunction",
    "BuildRecord",
    "BuildSource",
    "BuildkitClient",
    "CachePlace",
    "CacheRecord",
    "Export",
    "Gateway",
    "OurExport",
    "SSHAgent",
    "Secret",
    "SolveError",
    "SolveOptions",
    "SolveResult",
    "SourceFile",
    "SourcePosition",
    "SourceRange",
    "Version",
    "Worker",
]
