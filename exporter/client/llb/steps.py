"""The graph of a definition, and its serialization.

A vertex's digest is that of its bytes. So the bytes are those of Go's client package: fields in the order in
which Go's protobuf writes them, and what Go sets although it is empty.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from exporter.image import Platform, digest_bytes, host_platform
from exporter.pb.pb import ops_pb2

NO_INPUT = -1

_LOCAL = "local://"
_LOCAL_UNIQUE = "local.unique"
_LOCAL_SESSION = "local.session"


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """An operation.

    Attributes:
        op: The operation, without inputs and platform.
        inputs: The steps that it depends on, without duplicates.
        name: Its name for people; the daemon's own if empty.
        has_platform: Whether it depends on the platform.
        platform: Its platform; that of the definition if None.
        caps: The capabilities that the daemon must have.
        ignores_cache: Whether it runs even if its result is cached.
    """

    op: ops_pb2.Op
    inputs: tuple[Step, ...] = ()
    name: str = ""
    has_platform: bool = False
    platform: Platform | None = None
    caps: frozenset[str] = frozenset()
    ignores_cache: bool = False


class Tree(Protocol):
    """A file system that a definition creates: `State`."""

    @property
    def step(self) -> Step | None:
        """The operation that creates it; None if it is empty."""
        ...


@dataclass(slots=True)
class Inputs:
    """Collects the inputs of an operation."""

    steps: list[Step] = field(default_factory=list)

    def add(self, step: Step | None) -> int:
        """Add an input unless it is there already, and return its index; `NO_INPUT` for an empty one."""
        if step is None:
            return NO_INPUT
        for index, known in enumerate(self.steps):
            if known is step:
                return index
        self.steps.append(step)
        return len(self.steps) - 1


def marshal(step: Step, platform: Platform | None, unique_id: str) -> ops_pb2.Definition:
    """Serialize a graph.

    Args:
        step: Its last step.
        platform: The platform of steps without one; that of this machine if None.
        unique_id: Distinguishes directories of this client from other clients'; random if empty.
    """
    writer = _Writer((platform or host_platform()).normalized(), unique_id or uuid.uuid4().hex)
    writer.write(step)
    return writer.finish(step)


class _Writer:
    def __init__(self, platform: Platform, unique_id: str) -> None:
        self._definition = ops_pb2.Definition()
        self._platform = platform
        self._unique_id = unique_id
        self._digests: dict[int, str] = {}

    def write(self, step: Step) -> None:
        """Write a step after its inputs."""
        pending = [step]
        while pending:
            current = pending[-1]
            missing = next((each for each in current.inputs if id(each) not in self._digests), None)
            if missing is not None:
                pending.append(missing)
                continue
            pending.pop()
            if id(current) not in self._digests:
                self._digests[id(current)] = self._add(current)

    def finish(self, step: Step) -> ops_pb2.Definition:
        """Write the operation that marks the result."""
        data = ops_pb2.Op(inputs=[self._input(step)]).SerializeToString(deterministic=True)
        self._data.append(data)
        every = self._definition.metadata.values()
        caps = {"constraints", "platform"}
        caps |= {"meta.ignorecache"} if any(metadata.ignore_cache for metadata in every) else set()
        caps |= {"meta.description"} if any(metadata.description for metadata in every) else set()
        _allow(self._definition.metadata[digest_bytes(data)], caps)
        return self._definition

    @property
    def _data(self) -> list[bytes]:
        found: list[bytes] = getattr(self._definition, "def")
        return found

    def _input(self, step: Step) -> ops_pb2.Input:
        return ops_pb2.Input(digest=self._digests[id(step)], index=0)

    def _add(self, step: Step) -> str:
        outer = ops_pb2.Op(inputs=map(self._input, step.inputs))
        if step.has_platform:
            platform = (step.platform or self._platform).normalized()
            outer.platform.CopyFrom(_platform(platform))
        outer.constraints.SetInParent()
        op, caps = step.op, set(step.caps)
        if op.source.identifier.startswith(_LOCAL) and _LOCAL_SESSION not in op.source.attrs:
            op = ops_pb2.Op()
            op.CopyFrom(step.op)
            op.source.attrs[_LOCAL_UNIQUE] = self._unique_id
            caps.add("source.local.unique")
        # Go writes the fields of a oneof after all others.
        data = outer.SerializeToString(deterministic=True) + op.SerializeToString(deterministic=True)
        digest = digest_bytes(data)
        if digest not in self._definition.metadata:
            self._data.append(data)
        metadata = self._definition.metadata[digest]
        metadata.ignore_cache |= step.ignores_cache
        if step.name:
            metadata.description["llb.customname"] = step.name
        _allow(metadata, caps)
        return digest


def _allow(metadata: ops_pb2.OpMetadata, caps: Iterable[str]) -> None:
    for cap in caps:
        metadata.caps[cap] = True


def _platform(platform: Platform) -> ops_pb2.Platform:
    return ops_pb2.Platform(
        OS=platform.os,
        Architecture=platform.architecture,
        Variant=platform.variant,
        OSVersion=platform.os_version,
        OSFeatures=platform.os_features,
    )


def without_empty(attrs: Mapping[str, str]) -> dict[str, str]:
    """Drop attributes that are empty."""
    return {key: value for key, value in attrs.items() if value}
