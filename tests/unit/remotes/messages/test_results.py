from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from exporter.image import Time
from exporter.pb.buildkit.exporter.v1 import exporter_pb2
from exporter.progress import StatusUpdate, Vertex
from exporter.remotes.messages.progress import status_response
from exporter.remotes.messages.results import (
    build_message,
    late_attestations,
    refs_of,
    source_message,
    status_update,
)
from exporter.server.request import build_info_of, source_of
from exporter.source.types import (
    Attestation,
    AttestationKind,
    BuildInfo,
    LayerChain,
    Ref,
    Remote,
    Source,
    Subject,
    SubjectKind,
)
from tests.unit.progress import streams


class NamedRef:
    def __init__(self, ref_id: str) -> None:
        self._id = ref_id

    @property
    def id(self) -> str:
        return self._id

    async def remote(self, compression: object = None) -> Remote:
        raise AssertionError("nobody asks")

    async def layer_chain(self) -> LayerChain:
        raise AssertionError("nobody asks")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NamedRef) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self._id)


ATTESTATION = Attestation(
    kind=AttestationKind.BUNDLE,
    path="/sbom",
    predicate_type="https://spdx.dev/Document",
    subjects=(Subject(SubjectKind.RAW, "name", ("sha256:" + "a" * 64,)), Subject(SubjectKind.SELF)),
    metadata={"reason": b"sbom", "bytes": b"\xff"},
    ref=NamedRef("r3"),
)


@pytest.mark.parametrize(
    "source",
    [
        Source(),
        Source(ref=NamedRef("r1"), metadata={"containerimage.config": b"{}", "k": b"\xff"}),
        Source(refs={}),
        Source(refs={"linux/amd64": NamedRef("r1"), "linux/arm64": None}),
        Source(
            refs={"linux/amd64": NamedRef("r1")},
            attestations={
                "linux/amd64": (ATTESTATION, Attestation(AttestationKind.IN_TOTO, content=b"")),
                "linux/arm64": (Attestation(AttestationKind.IN_TOTO, content=b"{}"),),
            },
        ),
    ],
)
def test_a_server_reads_the_result_that_was_written(source: Source) -> None:
    def ref(message: exporter_pb2.Ref, path: str) -> Ref:
        assert not message.HasField("inline")
        return NamedRef(message.id)

    wire = exporter_pb2.Source.FromString(source_message(source).SerializeToString())
    assert source_of(wire, ref, never) == source
    assert not late_attestations(source)


def never(content_id: str, path: str) -> Callable[[], Awaitable[bytes]]:
    raise AssertionError(f"{path} has content")


def test_late_content_is_left_out() -> None:
    async def load() -> bytes:
        raise AssertionError("too early")

    late = Attestation(AttestationKind.IN_TOTO, "p", load_content=load)
    given = Attestation(AttestationKind.IN_TOTO, "p", content=b"{}", load_content=load)
    message = source_message(Source(attestations={"a": (given, late), "b": (late,)}))
    ids = {
        platform: [attestation.content_id for attestation in attestations.attestations]
        for platform, attestations in message.attestations.items()
    }
    assert ids["a"][0] == "", "it is in the message"
    assert not message.attestations["b"].attestations[0].HasField("content")
    source = Source(attestations={"a": (given, late), "b": (late,)})
    assert late_attestations(source) == {ids["a"][1]: late, ids["b"][0]: late}


def test_all_refs_can_be_asked_for() -> None:
    source = Source(
        refs={"a": NamedRef("r1"), "b": None, "c": NamedRef("r2"), "d": NamedRef("r1")},
        attestations={"a": (ATTESTATION, Attestation(AttestationKind.IN_TOTO))},
    )
    assert sorted(refs_of(source)) == ["r1", "r2", "r3"]
    assert list(refs_of(Source(ref=NamedRef("r1")))) == ["r1"]


def test_build_information_arrives() -> None:
    build = BuildInfo("build", "old session", 10, {"": b"cache"}, "buildkit-v1")
    assert build_info_of(build_message(build, "session")) == replace(build, session_id="session")


@pytest.mark.parametrize("name", ["many-copy", "run-heredoc", "kinds"])
def test_progress_arrives_as_it_was_sent(name: str) -> None:
    for update in streams.updates(name):
        assert status_update(status_response(update)) == update


def test_times_before_1970_arrive() -> None:
    update = StatusUpdate(vertexes=(Vertex("v", "n", started=Time.from_unix(-1, 5)),))
    assert status_update(status_response(update)) == update
