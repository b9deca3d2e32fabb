"""Definitions of builds in LLB, BuildKit's low-level language: a subset for tests and tools.

States are immutable. Each operation returns a new one; `State.marshal` serializes a state::

    base = llb.image("docker.io/library/alpine:latest")
    built = base.run(["make"], cwd="/src").copy(llb.local("context"), "/", "/src/")
    definition = built.marshal(Platform("linux", "amd64"))
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from exporter.errors import InvalidArgumentError
from exporter.image import Platform, digest_bytes, host_platform
from exporter.pb.pb import ops_pb2

_NO_INPUT = -1
_ROOT = "/"


@dataclass(frozen=True, slots=True, eq=False)
class _Step:
    """An operation, its inputs, and its name for people."""

    op: ops_pb2.Op
    inputs: tuple[State, ...] = ()
    name: str = ""
    has_platform: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """A file system that a build creates; empty if it has no step."""

    _step: _Step | None = None

    @property
    def is_scratch(self) -> bool:
        """Whether it is the empty file system."""
        return self._step is None

    def run(
        self,
        args: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str = _ROOT,
        user: str = "",
        network: ops_pb2.NetMode.ValueType = ops_pb2.NetMode.UNSET,
        name: str = "",
    ) -> State:
        """Run a program in it.

        Args:
            args: The program and its arguments.
            env: Environment variables.
            cwd: Its working directory.
            user: Who runs it.
            network: Its network mode.
            name: Its name in the progress; the command if empty.
        """
        index, inputs = _input(self, 0)
        mounts = [ops_pb2.Mount(input=index, dest=_ROOT, output=0)]
        meta = ops_pb2.Meta(
            args=args, env=[f"{key}={value}" for key, value in (env or {}).items()], cwd=cwd, user=user
        )
        op = ops_pb2.Op(exec=ops_pb2.ExecOp(meta=meta, mounts=mounts, network=network))
        return State(_Step(op, inputs, name or " ".join(args)))

    def copy(self, source: State, src: str, dest: str, *, mode: int = -1, name: str = "") -> State:
        """Copy files from another state, or the contents of a directory. Parent directories are created.

        Args:
            source: The other state.
            src: The path there; its last component may contain wildcards.
            dest: The path here.
            mode: The permissions of the copies; -1 keeps them.
            name: Its name in the progress.
        """
        here, inputs = _input(self, 0)
        there, more = _input(source, len(inputs))
        action = ops_pb2.FileActionCopy(
            src=src,
            dest=dest,
            mode=mode,
            followSymlink=True,
            dirCopyContents=True,
            createDestPath=True,
            allowWildcard=True,
            allowEmptyWildcard=True,
            timestamp=-1,
        )
        file = ops_pb2.FileAction(input=here, secondaryInput=there, output=0, copy=action)
        op = ops_pb2.Op(file=ops_pb2.FileOp(actions=[file]))
        return State(_Step(op, inputs + more, name or f"copy {src} {dest}"))

    def make_file(self, path: str, data: bytes, *, mode: int = 0o644, name: str = "") -> State:
        """Write a file into it."""
        here, inputs = _input(self, 0)
        action = ops_pb2.FileActionMkFile(path=path, mode=mode, data=data, timestamp=-1)
        file = ops_pb2.FileAction(input=here, secondaryInput=_NO_INPUT, output=0, mkfile=action)
        return State(_Step(ops_pb2.Op(file=ops_pb2.FileOp(actions=[file])), inputs, name or f"mkfile {path}"))

    def marshal(self, platform: Platform | None = None) -> ops_pb2.Definition:
        """Serialize the state.

        Args:
            platform: The target platform; that of this machine if None.

        Raises:
            InvalidArgumentError: the state is empty, and an empty state has no definition.
        """
        if self._step is None:
            raise InvalidArgumentError("the empty state has no definition")
        writer = _Writer((platform or host_platform()).normalized())
        digest = writer.write(self._step)
        result = ops_pb2.Op(inputs=[ops_pb2.Input(digest=digest, index=0)])
        writer.add(result, "")
        return writer.definition


def scratch() -> State:
    """The empty file system."""
    return State()


def image(reference: str) -> State:
    """An image in a registry, by its full name."""
    return _source(f"docker-image://{reference}", f"docker-image://{reference}")


def oci_layout(name: str, digest: str, *, session_id: str = "", store: str = "") -> State:
    """An image in a layout that the client serves.

    Args:
        name: A name for it, in the form of a reference.
        digest: The digest of its manifest or index.
        session_id: The session that has the store; the build's own if empty.
        store: The store's name (`SolveOptions.stores`); `name` if empty.
    """
    attrs = {"oci.session": session_id, "oci.store": store or name}
    return _source(
        f"oci-layout://{name}@{digest}",
        f"oci-layout://{name}",
        {key: value for key, value in attrs.items() if value},
    )


def local(
    name: str,
    *,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    follow: Sequence[str] = (),
    shared_key_hint: str = "",
) -> State:
    """A directory of the client (`SolveOptions.directories`).

    Args:
        name: Its name.
        include: Patterns of files to include.
        exclude: Patterns of files to exclude.
        follow: Paths to include together with the targets of symbolic links.
        shared_key_hint: A key that lets other builds reuse the daemon's copy.
    """
    lists = {"local.includepattern": include, "local.excludepatterns": exclude, "local.followpaths": follow}
    attrs = {key: json.dumps(list(values)) for key, values in lists.items() if values}
    if shared_key_hint:
        attrs["local.sharedkeyhint"] = shared_key_hint
    return _source(f"local://{name}", f"local://{name}", attrs)


def merge(states: Sequence[State]) -> State:
    """Overlay states."""
    wanted = [state for state in states if not state.is_scratch]
    if len(wanted) < 2:
        return wanted[0] if wanted else scratch()
    inputs = [ops_pb2.MergeInput(input=index) for index in range(len(wanted))]
    op = ops_pb2.Op(merge=ops_pb2.MergeOp(inputs=inputs))
    return State(_Step(op, tuple(wanted), "merge", has_platform=False))


def diff(lower: State, upper: State) -> State:
    """The changes from one state to another."""
    if upper.is_scratch:
        return scratch()
    below, inputs = _input(lower, 0)
    above, more = _input(upper, len(inputs))
    op = ops_pb2.Op(
        diff=ops_pb2.DiffOp(
            lower=ops_pb2.LowerDiffInput(input=below), upper=ops_pb2.UpperDiffInput(input=above)
        )
    )
    return State(_Step(op, inputs + more, "diff", has_platform=False))


def _source(identifier: str, name: str, attrs: Mapping[str, str] | None = None) -> State:
    source = ops_pb2.SourceOp(identifier=identifier, attrs=attrs)
    return State(_Step(ops_pb2.Op(source=source), name=name))


def _input(state: State, next_index: int) -> tuple[int, tuple[State, ...]]:
    """The index of an input, and the inputs to add for it: none for the empty state."""
    return (_NO_INPUT, ()) if state.is_scratch else (next_index, (state,))


class _Writer:
    def __init__(self, platform: Platform) -> None:
        self.definition = ops_pb2.Definition()
        self._platform = ops_pb2.Platform(
            OS=platform.os,
            Architecture=platform.architecture,
            Variant=platform.variant,
            OSVersion=platform.os_version,
            OSFeatures=platform.os_features,
        )
        self._digests: dict[int, str] = {}

    def write(self, step: _Step) -> str:
        """Write a step after its inputs, and return its digest."""
        pending = [step]
        while pending:
            current = pending[-1]
            missing = [
                state._step
                for state in current.inputs
                if state._step is not None and id(state._step) not in self._digests
            ]
            if missing:
                pending += missing
                continue
            pending.pop()
            if id(current) not in self._digests:
                self._digests[id(current)] = self._add(current)
        return self._digests[id(step)]

    def _add(self, step: _Step) -> str:
        op = ops_pb2.Op()
        op.CopyFrom(step.op)
        for state in step.inputs:
            op.inputs.append(ops_pb2.Input(digest=self._digests[id(state._step)], index=0))
        if step.has_platform:
            op.platform.CopyFrom(self._platform)
        return self.add(op, step.name)

    def add(self, op: ops_pb2.Op, name: str) -> str:
        """Write an operation, unless it has been written already."""
        data = op.SerializeToString(deterministic=True)
        digest = digest_bytes(data)
        if digest not in self.definition.metadata:
            getattr(self.definition, "def").append(data)
            metadata = self.definition.metadata[digest]
            if name:
                metadata.description["llb.customname"] = name
        return digest
