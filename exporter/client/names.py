"""The public names of `exporter.client`."""

from exporter.client.client import BuildkitClient
from exporter.client.connecting import DOCKER, TLS
from exporter.client.contexts import Context, MemoryFile, MemoryFiles, NamedContext
from exporter.client.credentials import Auth, CredentialFunction, Login
from exporter.client.events import (
    Event,
    Step,
    StepChanged,
    StepOutput,
    StepProgress,
    StepState,
    StepWarning,
)
from exporter.client.facade import Client
from exporter.client.failure import BuildCancelledError, BuildError, SolveError
from exporter.client.gateway import BuildFunction, Gateway
from exporter.client.opened import FileInfo, FileKind, OpenedBuild, ResultTree
from exporter.client.options import DOCKERFILE_FRONTEND, CachePlace, Export, OurExport, SolveOptions
from exporter.client.outputs import (
    AnyOutput,
    DirectoryOutput,
    DockerOutput,
    ExporterOutput,
    FilePlace,
    ImageOutput,
    NamedOutput,
    OCIOutput,
    TarOutput,
)
from exporter.client.processes import Completed, ProcessError
from exporter.client.request import AttestationOption, BuildOptions, SecretSource, SSHSource
from exporter.client.results import AttestationDocument, BuildResult, OutputResult
from exporter.client.running import Build, EventHandler
from exporter.client.solving import SolveResult
from exporter.client.sources import BuildSource, SourceFile, SourcePosition, SourceRange
from exporter.daemon.connection import DEFAULT_ADDRESS
from exporter.daemon.records import (
    BuildRecord,
    CacheRecord,
    HistoryChange,
    RecordedBlob,
    RecordedResult,
    Version,
    Worker,
)
from exporter.daemon.services.receive_directory import ReceivedDirectory
from exporter.daemon.services.secrets import Secret, SecretProvider
from exporter.daemon.ssh.agents import SSHAgent
from exporter.remotes.registry import Credentials, CredentialSource, RegistryHost, RegistryOptions
from exporter.remotes.session.content import ContentClient
from exporter.rpc.session.attach import Attachable, SessionDialer
from exporter.rpc.session.tunnel import MessageStream

__all__ = [
    "DEFAULT_ADDRESS",
    "DOCKER",
    "DOCKERFILE_FRONTEND",
    "TLS",
    "AnyOutput",
    "Attachable",
    "AttestationDocument",
    "AttestationOption",
    "Auth",
    "Build",
    "BuildCancelledError",
    "BuildError",
    "BuildFunction",
    "BuildOptions",
    "BuildRecord",
    "BuildResult",
    "BuildSource",
    "BuildkitClient",
    "CachePlace",
    "CacheRecord",
    "Client",
    "Completed",
    "ContentClient",
    "Context",
    "CredentialFunction",
    "CredentialSource",
    "Credentials",
    "DirectoryOutput",
    "DockerOutput",
    "Event",
    "EventHandler",
    "Export",
    "ExporterOutput",
    "FileInfo",
    "FileKind",
    "FilePlace",
    "Gateway",
    "HistoryChange",
    "ImageOutput",
    "Login",
    "MemoryFile",
    "MemoryFiles",
    "MessageStream",
    "NamedContext",
    "NamedOutput",
    "OCIOutput",
    "OpenedBuild",
    "OurExport",
    "OutputResult",
    "ProcessError",
    "ReceivedDirectory",
    "RecordedBlob",
    "RecordedResult",
    "RegistryHost",
    "RegistryOptions",
    "ResultTree",
    "SSHAgent",
    "SSHSource",
    "Secret",
    "SecretProvider",
    "SecretSource",
    "SessionDialer",
    "SolveError",
    "SolveOptions",
    "SolveResult",
    "SourceFile",
    "SourcePosition",
    "SourceRange",
    "Step",
    "StepChanged",
    "StepOutput",
    "StepProgress",
    "StepState",
    "StepWarning",
    "TarOutput",
    "Version",
    "Worker",
]
