"""What a build is told: `SolveOptions`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from exporter.content.protocol import ContentStore, Provider
from exporter.daemon.services.receive_directory import ReceivedDirectory
from exporter.daemon.services.secrets import Secret
from exporter.daemon.ssh.agents import SSHAgent
from exporter.errors import InvalidArgumentError
from exporter.exporters.base import Output
from exporter.pb.pb import ops_pb2
from exporter.remotes.registry import RegistryOptions
from exporter.rpc.session.attach import Attachable
from exporter.takeover.backend import Backend

DOCKERFILE_FRONTEND = "dockerfile.v0"
"""The frontend that reads Dockerfiles and is built into daemons."""


@dataclass(frozen=True, slots=True)
class Export:
    """An output of the daemon.

    Attributes:
        type: The word behind ``--output type=``; one that the daemon knows.
        attrs: Its attributes, without ``dest``.
        file: Where the file goes that it sends: a path, ``-`` for standard output, or what takes it.
        directory: Where files go that it sends (``local``), or an image as an OCI layout (``tar=false``).
            It is made last: of several images, the daemon tells the name and digest of the last one.
    """

    type: str
    attrs: Mapping[str, str] = field(default_factory=dict)
    file: str | Output | None = None
    directory: Path | None = None

    @property
    def is_layout(self) -> bool:
        """Whether an image comes as an OCI layout."""
        return self.directory is not None and self.type != "local"


@dataclass(frozen=True, slots=True)
class OurExport:
    """An output that the daemon does not have: it gets the daemon's build result as its source.

    Attributes:
        type: Its type.
        attrs: Its attributes, without ``dest``.
        backend: The server of ``ExporterService`` that runs it.
        place: Where its files go: the path of a file (``-`` for standard output) or of an OCI layout, or a
            directory for a tree of files; None if it has none.
    """

    type: str
    attrs: Mapping[str, str]
    backend: Backend
    place: str | ReceivedDirectory | None = None


@dataclass(frozen=True, slots=True)
class CachePlace:
    """A place that cache comes from or goes to.

    Attributes:
        type: ``registry``, ``local``, ``inline``, ``gha``, and so on.
        attrs: Its attributes. A local one has ``src`` or ``dest``: the directory, on this machine.
    """

    type: str
    attrs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class SolveOptions:
    """What to build, from what, and what becomes of it.

    Attributes:
        definition: What to build, as LLB; None if a frontend makes it.
        frontend: The frontend, such as `DOCKERFILE_FRONTEND`; empty if there is a definition.
        frontend_attrs: Its attributes (``filename``, ``target``, ``build-arg:NAME``, ``platform``).
        frontend_inputs: Its named inputs.
        exports: The outputs, of the daemon and ours.
        directories: Local directories that the build may read, by name (``context``, ``dockerfile``).
        secrets: What ``RUN --mount=type=secret`` gets.
        ssh: What ``RUN --mount=type=ssh`` and Git over SSH get.
        registries: How registries are reached by us, and credentials for them; docker's ways if None.
        stores: Content stores that the build may read images from (``oci-layout://NAME``), by name.
        cache_imports: Where cache comes from.
        cache_exports: Where cache goes to.
        entitlements: Privileges that the build may use (``network.host``, ``security.insecure``).
        ref: The build's ID; a new one if empty.
        shared_key: Lets builds of different sessions share local files that the daemon has kept.
        compatibility_version: BuildKit's compatibility version; 0 means the newest.
        is_internal: Keeps the build out of the history.
        strict: Whether an output of ours fails where the image config that is computed from its source is not
            the daemon's, and where the source is doubtful. Otherwise there is a warning.
        save_source: A directory that gets the source of each output of ours, to be exported again offline.
        services: More services of the session.
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
        """Check what can be checked without a daemon. Blocks.

        Raises:
            InvalidArgumentError: a directory is none.
        """
        for name, directory in self.directories.items():
            if not directory.is_dir():
                problem = "is not a directory" if directory.exists() else "does not exist"
                raise InvalidArgumentError(f"{name}: {directory} {problem}", field=f"directories[{name}]")
