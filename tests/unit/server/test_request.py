from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from exporter.content.memory import MemoryStore
from exporter.errors import ExporterError, FailedPreconditionError, InvalidArgumentError
from exporter.exporters.base import ArtifactKind, Attribute, ExportContext, Exporter, ExportResult
from exporter.image import Descriptor
from exporter.pb.buildkit.exporter.v1 import exporter_pb2 as pb
from exporter.pb.moby.buildkit.v1.frontend import gateway_pb2
from exporter.server.request import (
    build_info_of,
    exporter_info,
    inline_ref_of,
    source_of,
)
from exporter.source.types import AttestationKind, Ref, Source, SubjectKind

DIGEST = "sha256:" + "a" * 64
DIFF_ID = {"containerd.io/uncompressed": "sha256:" + "b" * 64}


@asynccontextmanager
async def no_files(scratch: Path) -> AsyncIterator[None]:
    yield None


def inline(message: pb.Ref, path: str) -> Ref:
    return inline_ref_of(message, path, MemoryStore(), no_files)


def late(content_id: str, path: str) -> Callable[[], Awaitable[bytes]]:
    async def load() -> bytes:
        return f"{content_id} at {path}".encode()

    return load


def read(message: pb.Source) -> Source:
    return source_of(message, inline, late)


def layer_ref() -> pb.Ref:
    return pb.Ref(
        id="r1",
        inline=pb.InlineRef(
            chain=[pb.Layer(id="r1", description="RUN make", created_at=Timestamp(seconds=-1, nanos=5))],
            descriptors=[pb.Descriptor(media_type="m", digest=DIGEST, size=3, annotations=DIFF_ID)],
        ),
    )


async def test_a_single_inline_ref() -> None:
    source = read(pb.Source(ref=layer_ref(), metadata={"k": b"\xff"}))
    assert source.metadata == {"k": b"\xff"}
    assert source.refs is None
    assert source.ref is not None
    assert source.ref.id == "r1"
    remote = await source.ref.remote()
    assert remote.descriptors == (Descriptor("m", DIGEST, 3, annotations=DIFF_ID),)
    (layer,) = await source.ref.layer_chain()
    assert (layer.id, layer.description, str(layer.created_at)) == (
        "r1",
        "RUN make",
        "1969-12-31T23:59:59.000000005Z",
    )


def test_nil_refs_and_empty_maps_are_not_the_same() -> None:
    assert read(pb.Source()) == Source()
    assert read(pb.Source(ref=pb.Ref())).ref is None
    assert read(pb.Source(refs=pb.RefMap())).refs == {}
    assert read(pb.Source(ref=pb.Ref(), refs=pb.RefMap())) == read(pb.Source(refs=pb.RefMap()))
    assert read(pb.Source(refs=pb.RefMap(refs={"linux/amd64": pb.Ref()}))).refs == {"linux/amd64": None}


async def test_attestations() -> None:
    attestation = pb.Attestation(
        kind=gateway_pb2.Bundle,
        path="p",
        predicate_type="t",
        subjects=[pb.Subject(kind=gateway_pb2.Raw, name="n", digests=[DIGEST])],
        metadata={"reason": b"r"},
        ref=layer_ref(),
        content=b"",
    )
    message = pb.Source(attestations={"linux/amd64": pb.AttestationList(attestations=[attestation])})
    (found,) = read(message).attestations["linux/amd64"]
    assert found.kind is AttestationKind.BUNDLE
    assert (found.path, found.predicate_type, found.metadata) == ("p", "t", {"reason": b"r"})
    assert found.content == b"", "empty is not unset"
    assert found.ref is not None
    assert found.ref.id == "r1"
    (subject,) = found.subjects
    assert (subject.kind, subject.name, subject.digests) == (SubjectKind.RAW, "n", (DIGEST,))
    attestation.content_id = "c"
    message = pb.Source(attestations={"": pb.AttestationList(attestations=[attestation])})
    assert read(message).attestations[""][0].load_content is None, "nothing has to be requested"
    attestation.ClearField("content")
    message = pb.Source(attestations={"x": pb.AttestationList(attestations=[attestation])})
    (found,) = read(message).attestations["x"]
    assert found.content is None
    assert await found.read_content() == b"c at source.attestations[x][0]"
    attestation.content_id = ""
    message = pb.Source(attestations={"": pb.AttestationList(attestations=[attestation])})
    assert read(message).attestations[""][0].content is None
    assert read(message).attestations[""][0].load_content is None


def _no_chain(ref: pb.Ref) -> None:
    del ref.inline.chain[:]


def _bad_digest(ref: pb.Ref) -> None:
    ref.inline.descriptors[0].digest = "sha256:../../etc/passwd"


def _negative_size(ref: pb.Ref) -> None:
    ref.inline.descriptors[0].size = -1


def _bad_time(ref: pb.Ref) -> None:
    ref.inline.chain[0].created_at.nanos = 1_000_000_000


def _embedded(ref: pb.Ref) -> None:
    ref.inline.descriptors[0].data = b"four"


def _bad_diff_id(ref: pb.Ref) -> None:
    ref.inline.descriptors[0].annotations["containerd.io/uncompressed"] = "md5:0"


def _no_id(ref: pb.Ref) -> None:
    ref.id = ""


@pytest.mark.parametrize(
    ("spoil", "kind", "field"),
    [
        (_no_chain, FailedPreconditionError, ".inline.chain"),
        (_bad_digest, InvalidArgumentError, ".inline.descriptors[0].digest"),
        (_negative_size, InvalidArgumentError, ".inline.descriptors[0].size"),
        (_bad_time, InvalidArgumentError, ".inline.chain[0].created_at"),
        (_embedded, InvalidArgumentError, ".inline.descriptors[0].data"),
        (
            _bad_diff_id,
            InvalidArgumentError,
            ".inline.descriptors[0].annotations[containerd.io/uncompressed]",
        ),
        (_no_id, InvalidArgumentError, ".id"),
    ],
)
def test_a_bad_ref_is_reported_with_the_path_of_the_field(
    spoil: Callable[[pb.Ref], None], kind: type[ExporterError], field: str
) -> None:
    ref = layer_ref()
    spoil(ref)
    attestation = pb.AttestationList(attestations=[pb.Attestation(ref=ref)])
    for place, message in {
        "source.ref": pb.Source(ref=ref),
        "source.refs[linux/arm/v7]": pb.Source(refs=pb.RefMap(refs={"linux/arm/v7": ref})),
        "source.attestations[p][0].ref": pb.Source(attestations={"p": attestation}),
    }.items():
        with pytest.raises(kind) as caught:
            read(message)
        assert caught.value.field == place + field


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (pb.Source(ref=pb.Ref(id="a"), refs=pb.RefMap()), "source.ref"),
        (
            pb.Source(attestations={"p": pb.AttestationList(attestations=[pb.Attestation(kind=7)])}),  # type: ignore[arg-type]
            "source.attestations[p][0].kind",
        ),
        (
            pb.Source(
                attestations={
                    "p": pb.AttestationList(
                        attestations=[pb.Attestation(subjects=[pb.Subject(digests=["x"])])]
                    )
                }
            ),
            "source.attestations[p][0].subjects[0].digests[0]",
        ),
    ],
)
def test_other_contradictions(message: pb.Source, field: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        read(message)
    assert caught.value.field == field


def test_build_info() -> None:
    info = build_info_of(
        pb.BuildInfo(
            ref="b", session_id="s", compatibility_version=20, inline_cache={"": b"c"}, builder="buildkit-v1"
        )
    )
    assert (info.ref, info.session_id, info.compatibility_version) == ("b", "s", 20)
    assert info.inline_cache == {"": b"c"}
    assert info.builder == "buildkit-v1"


@pytest.mark.parametrize("version", [-1, 11, 40])
def test_unknown_compatibility_version(version: int) -> None:
    with pytest.raises(InvalidArgumentError, match=f"unsupported compatibility-version {version}") as caught:
        build_info_of(pb.BuildInfo(compatibility_version=version))
    assert caught.value.field == "build.compatibility_version"


def test_exporters_are_described() -> None:
    class Sample(Exporter):
        type = "sample"
        title = "A sample"
        attributes = (Attribute("dest", "string", "-", "Where to."),)
        artifact = ArtifactKind.FILES

        @property
        def name(self) -> str:
            return "sampling"

        async def export(self, source: Source, context: ExportContext) -> ExportResult:
            return ExportResult()

    assert exporter_info(Sample) == pb.ExporterInfo(
        type="sample",
        title="A sample",
        attributes=[pb.ExporterAttribute(name="dest", kind="string", default="-", help="Where to.")],
        artifact_kind=pb.ARTIFACT_KIND_FILES,
    )


descriptors = st.builds(
    pb.Descriptor,
    media_type=st.sampled_from(["", "m"]),
    digest=st.one_of(st.just(DIGEST), st.text(max_size=80)),
    size=st.integers(-(2**63), 2**63 - 1),
    data=st.binary(max_size=3),
    annotations=st.dictionaries(st.sampled_from([*DIFF_ID, "k"]), st.one_of(st.just(DIGEST), st.text())),
)
timestamps = st.builds(
    Timestamp, seconds=st.integers(-(2**63), 2**63 - 1), nanos=st.integers(-(2**31), 2**31 - 1)
)
inline_refs = st.builds(
    pb.InlineRef,
    chain=st.lists(
        st.builds(pb.Layer, id=st.text(), description=st.text(), created_at=timestamps), max_size=2
    ),
    descriptors=st.lists(descriptors, max_size=2),
)
refs = st.builds(pb.Ref, id=st.text(max_size=3), inline=st.one_of(st.none(), inline_refs))
attestations = st.builds(
    pb.Attestation,
    kind=st.integers(-1, 3),
    subjects=st.lists(
        st.builds(pb.Subject, kind=st.integers(-1, 3), digests=st.lists(st.text(), max_size=1)), max_size=1
    ),
    ref=st.one_of(st.none(), refs),
)


@given(
    st.one_of(st.none(), refs),
    st.one_of(st.none(), st.dictionaries(st.text(), refs, max_size=2)),
    st.dictionaries(st.text(), st.lists(attestations, max_size=2), max_size=2),
)
async def test_any_request_is_read_or_refused(
    ref: pb.Ref | None, by_platform: dict[str, pb.Ref] | None, attested: dict[str, list[pb.Attestation]]
) -> None:
    message = pb.Source(
        ref=ref,
        refs=None if by_platform is None else pb.RefMap(refs=by_platform),
        attestations={key: pb.AttestationList(attestations=found) for key, found in attested.items()},
    )
    try:
        source = read(message)
    except ExporterError as error:
        assert error.field, error
        return
    assert (source.refs is None) == (by_platform is None)
    for found in (source.ref, *(source.refs or {}).values()):
        if found is not None:
            assert len(await found.layer_chain()) == len((await found.remote()).descriptors)
