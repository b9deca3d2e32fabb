"""States: the file systems that a definition creates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from exporter.client.llb.actions import Action, Copy, MakeDirectory, MakeFile, MakeLink, Remove, file_step
from exporter.client.llb.mounts import Mount, SecretMount, SSHMount
from exporter.client.llb.steps import Inputs, Step, marshal
from exporter.errors import InvalidArgumentError
from exporter.image import Platform
from exporter.pb.pb import ops_pb2

_ROOT = "/"
_SSH_SOCKET = "/run/buildkit/ssh_agent.{}"
_AGENT_VARIABLE = "SSH_AUTH_SOCK"
_NETWORKS = {"default": ops_pb2.UNSET, "host": ops_pb2.HOST, "none": ops_pb2.NONE}

Network = Literal["default", "host", "none"]
"""The network of a process."""


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """A file system that a build creates; empty if it has no step.

    Attributes:
        step: The operation that creates it.
        platform: The platform of processes that run in it; that of the definition if None.
    """

    step: Step | None = None
    platform: Platform | None = None

    @property
    def is_scratch(self) -> bool:
        """Whether it is the empty file system."""
        return self.step is None

    def run(
        self,
        args: Sequence[str] | str,
        *,
        env: Mapping[str, str] | None = None,
        cwd: str = _ROOT,
        user: str = "",
        network: Network | ops_pb2.NetMode.ValueType = "default",
        mounts: Sequence[Mount] = (),
        secret_env: Mapping[str, str] | None = None,
        privileged: bool = False,
        hostname: str = "",
        add_hosts: Mapping[str, str] | None = None,
        valid_exit_codes: Sequence[int] = (),
        ignore_cache: bool = False,
        name: str = "",
    ) -> State:
        """Run a program in it.

        Args:
            args: The program and its arguments; a string is a command for ``/bin/sh -c``.
            env: Environment variables.
            cwd: Its working directory.
            user: Who runs it.
            network: Its network; ``host`` needs an entitlement.
            mounts: What it sees besides the file system.
            secret_env: Secrets in its environment: their IDs by the names of the variables.
            privileged: Whether it has all privileges, which needs an entitlement.
            hostname: Its host name.
            add_hosts: Additional entries of ``/etc/hosts``: addresses by name.
            valid_exit_codes: The exit codes that mean success; 0 if empty.
            ignore_cache: Whether to run it even if its result is cached.
            name: Its name in the progress; the command if empty.
        """
        command = ["/bin/sh", "-c", args] if isinstance(args, str) else list(args)
        secrets = secret_env or {}
        mounts, env = _with_sockets(mounts, dict(env or {}))
        meta = ops_pb2.Meta(
            args=command,
            env=[f"{key}={value}" for key, value in env.items()],
            cwd=cwd,
            user=user,
            hostname=hostname,
            extraHosts=[ops_pb2.HostIP(Host=key, IP=ip) for key, ip in (add_hosts or {}).items()],
            removeMountStubsRecursive=True,
            validExitCodes=valid_exit_codes,
        )
        inputs = Inputs()
        first = ops_pb2.Mount(input=inputs.add(self.step), dest=_ROOT, output=0)
        op = ops_pb2.Op(
            exec=ops_pb2.ExecOp(
                meta=meta,
                mounts=[first, *(mount.mount(inputs) for mount in _in_order(mounts))],
                network=_NETWORKS[network] if isinstance(network, str) else network,
                security=ops_pb2.INSECURE if privileged else ops_pb2.SANDBOX,
                secretenv=[ops_pb2.SecretEnv(ID=key, name=variable) for variable, key in secrets.items()],
            )
        )
        needs = {
            "exec.meta.base": True,
            "exec.meta.setsdefaultpath": True,
            "exec.mount.bind": self.step is not None,
            "exec.meta.network": op.exec.network != ops_pb2.UNSET,
            "exec.meta.security": privileged,
            "exec.mount.secret": bool(secrets),
            "exec.secretenv": bool(secrets),
            "exec.validexitcode": bool(valid_exit_codes),
        }
        caps = {cap for cap, is_needed in needs.items() if is_needed}.union(*(mount.caps for mount in mounts))
        step = Step(
            op,
            tuple(inputs.steps),
            name or " ".join(command),
            True,
            self.platform,
            frozenset(caps),
            ignore_cache,
        )
        return State(step, self.platform)

    def file(self, *actions: Action, name: str = "") -> State:
        """Change files, one after the other, in one step.

        Args:
            actions: The changes.
            name: Its name in the progress.

        Raises:
            InvalidArgumentError: there is no change.
        """
        if not actions:
            raise InvalidArgumentError("a step that changes files needs a change")
        return State(file_step(self.step, actions, name), self.platform)

    def copy(
        self, source: State, src: str, dest: str, *, mode: int = -1, owner: str = "", name: str = ""
    ) -> State:
        """Copy files from another state, or the contents of a directory. Parent directories are created.

        Args:
            source: The other state.
            src: The path there; its last component may contain wildcards.
            dest: The path here.
            mode: The permissions of the copies; -1 keeps them.
            owner: The owner of the copies, as ``USER[:GROUP]``.
            name: Its name in the progress.
        """
        action = Copy(
            source=source,
            src=src,
            dest=dest,
            mode=mode,
            owner=owner,
            follow_symlinks=True,
            contents=True,
            create_dest=True,
            wildcard=True,
            allow_empty=True,
        )
        return self.file(action, name=name or f"copy {src} {dest}")

    def make_file(self, path: str, data: bytes, *, mode: int = 0o644, name: str = "") -> State:
        """Write a file into it."""
        return self.file(MakeFile(path=path, data=data, mode=mode), name=name or f"mkfile {path}")

    def make_dir(self, path: str, *, mode: int = 0o755, parents: bool = True, name: str = "") -> State:
        """Create a directory in it."""
        return self.file(MakeDirectory(path=path, mode=mode, parents=parents), name=name or f"mkdir {path}")

    def link(self, path: str, target: str, *, name: str = "") -> State:
        """Create a symbolic link in it."""
        return self.file(MakeLink(path=path, target=target), name=name or f"symlink {target} {path}")

    def remove(self, path: str, *, allow_missing: bool = False, name: str = "") -> State:
        """Remove a file or a directory from it."""
        return self.file(Remove(path=path, allow_missing=allow_missing), name=name or f"rm {path}")

    def marshal(self, platform: Platform | None = None, *, unique_id: str = "") -> ops_pb2.Definition:
        """Serialize the state, with the bytes and digests of Go's client package.

        Args:
            platform: The target platform; that of this machine if None.
            unique_id: Distinguishes directories of this client from those of other clients that have the same
                name and are read at the same time; random if empty.

        Raises:
            InvalidArgumentError: the state is empty, and an empty state has no definition.
        """
        if self.step is None:
            raise InvalidArgumentError("the empty state has no definition")
        return marshal(self.step, platform, unique_id)


def _with_sockets(mounts: Sequence[Mount], env: dict[str, str]) -> tuple[list[Mount], dict[str, str]]:
    """Give sockets of SSH agents their default places, and name the first one in the environment."""
    found: list[Mount] = []
    sockets: list[str] = []
    for mount in mounts:
        if isinstance(mount, SSHMount):
            target = mount.target or _SSH_SOCKET.format(len(sockets))
            found.append(replace(mount, target=target))
            sockets.append(target)
        else:
            found.append(mount)
    if sockets:
        env.setdefault(_AGENT_VARIABLE, sockets[0])
    return found, env


def _in_order(mounts: Sequence[Mount]) -> list[Mount]:
    """Directories by their targets, then secrets, then sockets, as in Go's client package."""
    secrets = [mount for mount in mounts if isinstance(mount, SecretMount)]
    sockets = [mount for mount in mounts if isinstance(mount, SSHMount)]
    others = [mount for mount in mounts if not isinstance(mount, SecretMount | SSHMount)]
    return [*sorted(others, key=lambda mount: mount.target.encode()), *secrets, *sockets]
