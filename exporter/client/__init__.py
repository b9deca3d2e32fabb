"""BuildKit from Python: builds, their events and records, on a buildkitd or in a Docker engine.

This package is public: names here are stable. It does not know flags or the proxy, and does not print.
`exporter.takeover` runs our exports inside a build.
"""

from exporter.client.client import BuildkitClient
from exporter.client.failure import SolveError
from exporter.client.gateway import BuildFunction, Gateway
from exporter.client.options import DOCKERFILE_FRONTEND, CachePlace, Export, OurExport, SolveOptions
from exporter.client.solving import SolveResult
from exporter.client.sources import BuildSource, SourceFile, SourcePosition, SourceRange
from exporter.daemon.connection import DEFAULT_ADDRESS
from exporter.daemon.records import BuildRecord, CacheRecord, Version, Worker
from exporter.daemon.services.receive_directory import ReceivedDirectory
from exporter.daemon.services.secrets import Secret
from exporter.daemon.ssh.agents import SSHAgent
from exporter.remotes.session.content import ContentClient
from exporter.rpc.session.attach import Attachable, SessionDialer
from exporter.rpc.session.tunnel import MessageStream

__all__ = [
    "DEFAULT_ADDRESS",
    "DOCKERFILE_FRONTEND",
    "Attachable",
    "BuildFunction",
    "BuildRecord",
    "BuildSource",
    "BuildkitClient",
    "CachePlace",
    "CacheRecord",
    "ContentClient",
    "Export",
    "Gateway",
    "MessageStream",
    "OurExport",
    "ReceivedDirectory",
    "SSHAgent",
    "Secret",
    "SessionDialer",
    "SolveError",
    "SolveOptions",
    "SolveResult",
    "SourceFile",
    "SourcePosition",
    "SourceRange",
    "Version",
    "Worker",
]
