"""Definitions in LLB."""

from __future__ import annotations

import pytest

from exporter.client import llb
from exporter.errors import InvalidArgumentError
from exporter.image import Platform, digest_bytes
from exporter.pb.pb import ops_pb2

PLATFORM = Platform(os="linux", architecture="arm64")


def steps(state: llb.State) -> list[ops_pb2.Op]:
    """The steps of a definition, after checks that all definitions have to pass."""
    definition = state.marshal(PLATFORM)
    data = list(getattr(definition, "def"))
    ops = [ops_pb2.Op.FromString(each) for each in data]
    known: set[str] = set()
    for op, each in zip(ops, data, strict=True):
        assert all(step.digest in known for step in op.inputs)  # each comes after those that it needs
        known.add(digest_bytes(each))
    assert len(known) == len(data)
    assert set(definition.metadata) == known
    last = ops.pop()
    assert last.WhichOneof("op") is None
    assert [step.digest for step in last.inputs] == [digest_bytes(data[-2])]
    return ops


def test_a_source_has_a_platform() -> None:
    [op] = steps(llb.image("docker.io/library/alpine:latest"))
    assert op.source.identifier == "docker-image://docker.io/library/alpine:latest"
    assert (op.platform.OS, op.platform.Architecture) == ("linux", "arm64")


def test_a_directory_of_the_client() -> None:
    [op] = steps(llb.local("context", include=["a", "b"], exclude=["ü"], shared_key_hint="k"))
    assert op.source.identifier == "local://context"
    assert dict(op.source.attrs) == {
        "local.includepattern": '["a","b"]',
        "local.excludepatterns": '["ü"]',
        "local.sharedkeyhint": "k",
        "local.unique": op.source.attrs["local.unique"],
    }


def test_shared_states_are_marshalled_once() -> None:
    base = llb.image("x").run(["one"])
    ops = steps(llb.merge([base.run(["two"]), base.run(["three"])]))
    assert [op.WhichOneof("op") for op in ops] == ["source", "exec", "exec", "exec", "merge"]
    assert [merge.input for merge in ops[-1].merge.inputs] == [0, 1]
    assert not ops[-1].HasField("platform")


def test_the_empty_state() -> None:
    [op] = steps(llb.scratch().run(["/a"], env={"B": "c"}, cwd="/d", user="e"))
    assert op.exec.mounts[0].input == -1
    assert (list(op.exec.meta.env), op.exec.meta.cwd, op.exec.meta.user) == (["B=c"], "/d", "e")
    with pytest.raises(InvalidArgumentError, match="empty state"):
        llb.scratch().marshal()


def test_degenerate_merges_and_diffs() -> None:
    one = llb.image("x")
    assert llb.merge([llb.scratch(), one]) is one
    assert llb.merge([]).is_scratch
    assert llb.diff(llb.scratch(), one) is one
    _, diff = steps(llb.diff(one, llb.scratch()))  # deletes what is in it
    assert (diff.diff.lower.input, diff.diff.upper.input) == (0, -1)
    _, diff = steps(llb.diff(one, one))
    assert (diff.diff.lower.input, diff.diff.upper.input) == (0, 1)


def test_inputs_of_copies() -> None:
    one, two = llb.image("x"), llb.local("y")
    *_, copy = steps(one.copy(two, "/a", "/b"))
    assert (copy.file.actions[0].input, copy.file.actions[0].secondaryInput) == (0, 1)
    *_, copy = steps(llb.scratch().copy(two, "/a", "/b"))
    assert (copy.file.actions[0].input, copy.file.actions[0].secondaryInput) == (-1, 0)


def test_long_chains() -> None:
    state = llb.image("x")
    for number in range(3000):
        state = state.make_file(f"/{number}", b"")
    assert len(steps(state)) == 3001
