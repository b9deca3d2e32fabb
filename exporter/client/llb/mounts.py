"""What a process sees besides its file system, for `State.run`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from exporter.client.llb.steps import NO_INPUT, Inputs, Tree
from exporter.pb.pb import ops_pb2

_SHARING = {"shared": ops_pb2.SHARED, "private": ops_pb2.PRIVATE, "locked": ops_pb2.LOCKED}


@dataclass(frozen=True, slots=True)
class BindMount:
    """Another state, or a part of it. Changes are discarded.

    Attributes:
        target: Where it is mounted.
        source: The state.
        path: The path in it.
        writable: Whether the process may change its copy.
    """

    target: str
    source: Tree
    path: str = ""
    writable: bool = False

    def mount(self, inputs: Inputs) -> ops_pb2.Mount:
        """The mount."""
        return ops_pb2.Mount(
            input=inputs.add(self.source.step),
            selector=self.path,
            dest=self.target,
            output=NO_INPUT,
            readonly=not self.writable,
        )

    @property
    def caps(self) -> set[str]:
        """The capabilities that it needs."""
        found = {"exec.mount.bind"} if self.source.step is not None else set()
        found |= {"exec.mount.bind.readwrite-nooutput"} if self.writable else set()
        return found | ({"exec.mount.selector"} if self.path else set())


@dataclass(frozen=True, slots=True)
class CacheMount:
    """A directory that outlives the build.

    Attributes:
        target: Where it is mounted.
        id: Its name in the daemon.
        sharing: Who may use it at the same time: all (``shared``), all with a directory of their own
            (``private``), one after the other (``locked``).
    """

    target: str
    id: str
    sharing: Literal["shared", "private", "locked"] = "shared"

    def mount(self, inputs: Inputs) -> ops_pb2.Mount:
        """The mount."""
        return ops_pb2.Mount(
            input=NO_INPUT,
            dest=self.target,
            output=NO_INPUT,
            mountType=ops_pb2.CACHE,
            cacheOpt=ops_pb2.CacheOpt(ID=self.id, sharing=_SHARING[self.sharing]),
        )

    @property
    def caps(self) -> set[str]:
        """The capabilities that it needs."""
        return {"exec.mount.cache", "exec.mount.cache.sharing"}


@dataclass(frozen=True, slots=True)
class TmpfsMount:
    """A file system in memory.

    Attributes:
        target: Where it is mounted.
        size: Its maximum size in bytes; 0 for no limit.
    """

    target: str
    size: int = 0

    def mount(self, inputs: Inputs) -> ops_pb2.Mount:
        """The mount."""
        return ops_pb2.Mount(
            input=NO_INPUT,
            dest=self.target,
            output=NO_INPUT,
            mountType=ops_pb2.TMPFS,
            TmpfsOpt=ops_pb2.TmpfsOpt(size=self.size),
        )

    @property
    def caps(self) -> set[str]:
        """The capabilities that it needs."""
        return {"exec.mount.tmpfs"} | ({"exec.mount.tmpfs.size"} if self.size else set())


@dataclass(frozen=True, slots=True)
class SecretMount:
    """A secret of the client as a file.

    Attributes:
        target: The file.
        id: The secret's ID; `target` if empty.
        mode: The file's permissions.
        uid: The user that owns it.
        gid: Its group.
        optional: Whether the secret may be missing.
    """

    target: str
    id: str = ""
    mode: int = 0o400
    uid: int = 0
    gid: int = 0
    optional: bool = False

    def mount(self, inputs: Inputs) -> ops_pb2.Mount:
        """The mount."""
        option = ops_pb2.SecretOpt(
            ID=self.id or self.target, uid=self.uid, gid=self.gid, mode=self.mode, optional=self.optional
        )
        return ops_pb2.Mount(input=NO_INPUT, dest=self.target, mountType=ops_pb2.SECRET, secretOpt=option)

    @property
    def caps(self) -> set[str]:
        """The capabilities that it needs."""
        return {"exec.mount.secret"}


@dataclass(frozen=True, slots=True)
class SSHMount:
    """The socket of an SSH agent of the client.

    Attributes:
        target: The socket; by default, ``/run/buildkit/ssh_agent.N``.
        id: The agent's ID.
        mode: The socket's permissions.
        uid: The user that owns it.
        gid: Its group.
        optional: Whether the agent may be missing.
    """

    target: str = ""
    id: str = ""
    mode: int = 0o600
    uid: int = 0
    gid: int = 0
    optional: bool = False

    def mount(self, inputs: Inputs) -> ops_pb2.Mount:
        """The mount."""
        option = ops_pb2.SSHOpt(
            ID=self.id, uid=self.uid, gid=self.gid, mode=self.mode, optional=self.optional
        )
        return ops_pb2.Mount(input=NO_INPUT, dest=self.target, mountType=ops_pb2.SSH, SSHOpt=option)

    @property
    def caps(self) -> set[str]:
        """The capabilities that it needs."""
        return {"exec.mount.ssh"}


Mount = BindMount | CacheMount | TmpfsMount | SecretMount | SSHMount
"""What a process sees besides its file system."""
