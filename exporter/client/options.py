"""The options of a build: `SolveOptions`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from exporter.content.protocol import ContentStore, Provider
from exporter.daemon.services.receive_directory import ReceivedDirectory
from exporter.daemon.services.secrets import Secret
from exporter.daemon.ssh.agents import SSHAgent
from exporter.errors import InvalidArgumentError
from exporter.exporters.destinations import Output
from exporter.pb.pb import ops_pb2
from exporter.remotes.registry import RegistryOptions
from exporter.rpc.session.attach import Attachable
from exporter.takeover.backend import Backend

DOCKERFILE_FRONTEND = "dockerfile.v0"
"""The frontend for Dockerfiles that is built into daemons."""


@dataclass(frozen=True, slots=True)
class Export:
    """An output of the daemon.

    Attributes:
        type: The type, as in ``--output type=``; the daemon must know it.
        attrs: Its attributes, without ``dest``.
        file: The destination of its file: a path, ``-`` for standard output, or an object that receives it.
        directory: The destination of its files (``local``), or of an image as an OCI layout (``tar=false``).
            This output runs last, because the daemon returns the name and digest of the last image.
    """

    type: str
    attrs: Mapping[str, str] = field(default_factory=dict)
    file: str | Output | None = None
    directory: Path | None = None

    @property
    def is_layout(self) -> bool:
        """Whether it sends an image as an OCI layout."""
        return self.directory is not None and self.type != "local"


@dataclass(frozen=True, slots=True)
class OurExport:
    """An output that runs here, with the daemon's build result as its source.

    Attributes:
        type: Its type.
        attrs: Its attributes, without ``dest``.
        backend: The backend that runs it.
        place: The destination of its files: the path of a file (``-`` for standard output) or of an OCI
            layout, or a directory for a tree of files; None if it has none.
    """

    type: str
    attrs: Mapping[str, str]
    backend: Backend
    place: str | ReceivedDirectory | None = None


@dataclass(frozen=True, slots=True)
class CachePlace:
    """A source or destination of cache.

    Attributes:
        type: ``registry``, ``local``, ``inline``, ``gha``, and so on.
        attrs: Its attributes. For ``local``, ``src`` or ``dest`` is the directory on this machine.
    """

    type: str
    attrs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class SolveOptions:
    """What to build, its inputs and its outputs.

    Attributes:
        definition: What to build, as LLB; None with a frontend.
        frontend: The frontend, such as `DOCKERFILE_FRONTEND`; empty with a definition.
        frontend_attrs: Its attributes (``filename``, ``target``, ``build-arg:NAME``, ``platform``).
        frontend_inputs: Its named inputs.
        exports: The outputs, both the daemon's and ours.
        directories: Local directories that the build may read, by name (``context``, ``dockerfile``).
        secrets: The secrets for ``RUN --mount=type=secret``.
        ssh: The agents for ``RUN --mount=type=ssh`` and Git over SSH.
        registries: The configuration and credentials for registries; docker's configuration if None.
        stores: Content stores that the build may read images from (``oci-layout://NAME``), by name.
        cache_imports: Where to import cache from.
        cache_exports: Where to export cache to.
        entitlements: Privileges that the build may use (``network.host``, ``security.insecure``).
        ref: The build's ID; a new one if empty.
        shared_key: A key that lets builds in different sessions share the daemon's copy of local files.
        compatibility_version: BuildKit's compatibility version; 0 means the newest.
        is_internal: Whether to keep the build out of the history.
        strict: Whether an output of ours fails if the image config computed from its source differs from the
            daemon's, or if the source is ambiguous. Otherwise, there is a warning.
        save_source: A directory for saving the source of each output of ours, to export it again offline.
        services: Additional services of the session.
    """

    definition: ops_pb2.Definition | None = None
    frontend: str = ""
    frontend_attrs: Mapping[str, str] = field(default_factory=dict)
    frontend_inputs: Mapping[str, ops_pb2.Definition] = field(default_factory=dict)
    exports: Sequence[Export | OurExport] = ()
    directories: Mapping[str, Path] = field(default_factory=dict)
    secrets: Sequence[Secret] = ()
    ssh: Sequence[SSHAgent] = ()
    registries: RegistryOptions | None = None
    stores: Mapping[str, Provider | ContentStore] = field(default_factory=dict)
    cache_imports: Sequence[CachePlace] = ()
    cache_exports: Sequence[CachePlace] = ()
    entitlements: Sequence[str] = ()
    ref: str = ""
    shared_key: str = ""
    compatibility_version: int = 0
    is_internal: bool = False
    strict: bool = False
    save_source: Path | None = None
    services: Sequence[Attachable] = ()

    def check(self) -> None:
        """Validate the options as far as possible without a daemon. Blocks.

        Raises:
            InvalidArgumentError: a directory does not exist, or is not a directory.
        """
        for name, directory in self.directories.items():
            if not directory.is_dir():
                problem = "is not a directory" if directory.exists() else "does not exist"
                raise InvalidArgumentError(f"{name}: {directory} {problem}", field=f"directories[{name}]")
