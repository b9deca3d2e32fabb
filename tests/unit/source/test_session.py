# ruff: noqa: N802 (methods are named as in the .proto)

from __future__ import annotations

import asyncio
from typing import Any

import grpc.aio
import pytest

from exporter.content.copy import read_blob, write_blob
from exporter.content.memory import MemoryStore
from exporter.daemon.services.content import ContentServicer
from exporter.daemon.services.refs import RefServicer
from exporter.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    UnavailableError,
)
from exporter.image import CompressionConfig, Descriptor, Time, digest_bytes
from exporter.image.options.compression import CompressionType
from exporter.pb.buildkit.exporter.v1 import exporter_pb2, exporter_pb2_grpc
from exporter.remotes.session.refs import GET_REMOTE_METHOD, SessionRef, get_attestation
from exporter.source.inline import InlineRef
from exporter.source.types import Attestation, AttestationKind, Layer, LayerChain, Remote
from tests.sessions import PATIENCE, attached, serving

DIFF_ID = "containerd.io/uncompressed"
CHAIN = (
    Layer("base", "pulled from x", None),
    Layer("top", "RUN make", Time.parse("2024-05-06T12:34:56.123456789Z")),
)


def layer_descriptor(blob: bytes) -> Descriptor:
    annotations = {DIFF_ID: digest_bytes(b"uncompressed " + blob)}
    return Descriptor(
        "application/vnd.oci.image.layer.v1.tar", digest_bytes(blob), len(blob), (), annotations
    )


async def ref_of(*blobs: bytes, name: str = "r") -> InlineRef:
    """A ref whose layers are in a store of its own."""
    store = MemoryStore()
    for blob in blobs:
        await write_blob(store, blob)
    return InlineRef(name, CHAIN[: len(blobs)], [layer_descriptor(blob) for blob in blobs], store)


async def test_a_refs_layers_are_requested_through_the_session() -> None:
    refs = RefServicer({"one": await ref_of(b"a", b"b"), "two": await ref_of(b"c"), "none": await ref_of()})
    async with attached(refs.register, ContentServicer(stores={"refs": refs.provider}).register) as session:
        assert session.supports(GET_REMOTE_METHOD)
        assert session.supports("/buildkit.exporter.v1.RefService/GetLayerChain")
        for name, blobs in {"one": (b"a", b"b"), "two": (b"c",), "none": ()}.items():
            ref = SessionRef(name, session.channel)
            assert ref.id == name
            remote = await ref.remote()
            assert remote.descriptors == tuple(layer_descriptor(blob) for blob in blobs)
            assert remote.diff_ids == tuple(digest_bytes(b"uncompressed " + blob) for blob in blobs)
            read = [await read_blob(remote.provider, descriptor) for descriptor in remote.descriptors]
            assert read == list(blobs)
            assert await ref.layer_chain() == CHAIN[: len(blobs)]


async def test_only_blobs_that_were_named_are_served() -> None:
    refs = RefServicer({"one": await ref_of(b"a")})
    async with serving(refs.register, ContentServicer(stores={"refs": refs.provider}).register) as channel:
        remote = await SessionRef("one", channel).remote()
        with pytest.raises(NotFoundError):
            await remote.provider.info(digest_bytes(b"b"))


@pytest.mark.parametrize(
    "wanted", [None, CompressionConfig(), CompressionConfig(CompressionType.ZSTD, force=True, level=0)]
)
async def test_the_wanted_compression_is_sent_to_the_owner(wanted: CompressionConfig | None) -> None:
    asked: list[CompressionConfig | None] = []

    class Asking(InlineRef):
        async def remote(self, compression: CompressionConfig | None = None) -> Remote:
            asked.append(compression)
            return await super().remote(compression)

    refs = RefServicer({"r": Asking("r", (), (), MemoryStore())})
    async with serving(refs.register) as channel:
        await SessionRef("r", channel).remote(wanted)
    assert asked == [wanted]


async def test_a_lazy_layers_description_is_known_after_its_blob() -> None:
    class Lazy(InlineRef):
        is_pulled = False

        async def remote(self, compression: CompressionConfig | None = None) -> Remote:
            self.is_pulled = True
            return await super().remote(compression)

        async def layer_chain(self) -> LayerChain:
            return (Layer("r", "pulled from x" if self.is_pulled else ""),)

    refs = RefServicer({"r": Lazy("r", (), (), MemoryStore())})
    async with serving(refs.register) as channel:
        ref = SessionRef("r", channel)
        await ref.remote()
        [layer] = await ref.layer_chain()
        assert layer.description == "pulled from x"


async def test_an_unknown_ref_is_not_found() -> None:
    refs = RefServicer({})
    async with serving(refs.register) as channel:
        ref = SessionRef("gone", channel)
        for ask in (ref.remote, ref.layer_chain):
            with pytest.raises(NotFoundError, match="ref 'gone' not found"):
                await ask()


async def test_the_content_of_attestations_is_requested() -> None:
    async def load() -> bytes:
        return b"late"

    late = Attestation(AttestationKind.IN_TOTO, "p", load_content=load)
    empty = Attestation(AttestationKind.IN_TOTO, "p", content=b"")
    refs = RefServicer({}, {"a": late, "b": empty, "c": Attestation(AttestationKind.IN_TOTO, "p")})
    async with serving(refs.register) as channel:
        assert await get_attestation("a", channel) == b"late"
        assert await get_attestation("b", channel) == b""
        for unknown in ("c", "d"):
            with pytest.raises(NotFoundError, match=f"attestation '{unknown}' not found"):
                await get_attestation(unknown, channel)


async def test_an_owner_without_the_service_is_reported() -> None:
    async with serving() as channel:
        with pytest.raises(FailedPreconditionError, match="cannot get the layers of ref r: "):
            await SessionRef("r", channel).remote()


async def test_malformed_answers_are_refused_with_the_field() -> None:
    class Malformed(exporter_pb2_grpc.RefServiceServicer):
        async def GetRemote(self, request: Any, context: Any) -> exporter_pb2.GetRemoteResponse:
            good = exporter_pb2.Descriptor(media_type="m", digest=digest_bytes(b""))
            return exporter_pb2.GetRemoteResponse(
                descriptors=[good, exporter_pb2.Descriptor(media_type="m", digest="sha256:../..")]
            )

        async def GetLayerChain(self, request: Any, context: Any) -> exporter_pb2.GetLayerChainResponse:
            layer = exporter_pb2.Layer(id="x")
            layer.created_at.nanos = -1
            return exporter_pb2.GetLayerChainResponse(layers=[layer])

        async def GetAttestation(self, request: Any, context: Any) -> exporter_pb2.GetAttestationResponse:
            raise NotImplementedError

        async def ReadFiles(self, request_iterator: Any, context: Any) -> None:  # type: ignore[override]
            raise NotImplementedError

    def register(server: grpc.aio.Server) -> None:
        exporter_pb2_grpc.add_RefServiceServicer_to_server(Malformed(), server)

    async with serving(register) as channel:
        ref = SessionRef("r", channel)
        with pytest.raises(InvalidArgumentError) as caught:
            await ref.remote()
        assert caught.value.field == "GetRemote(r).descriptors[1].digest"
        with pytest.raises(InvalidArgumentError) as caught:
            await ref.layer_chain()
        assert caught.value.field == "GetLayerChain(r).layers[0].created_at"


async def test_an_owner_that_disconnects_is_unavailable() -> None:
    class Slow(InlineRef):
        async def remote(self, compression: CompressionConfig | None = None) -> Remote:
            asked.set()
            await asyncio.Event().wait()
            raise AssertionError

    asked = asyncio.Event()
    refs = RefServicer({"r": Slow("r", (), (), MemoryStore())})
    async with attached(refs.register) as session:
        asking = asyncio.create_task(SessionRef("r", session.channel).remote())
        await asked.wait()
    with pytest.raises(UnavailableError):
        async with asyncio.timeout(PATIENCE):
            await asking


async def test_cancelling_reaches_the_owner() -> None:
    asked, cancelled = asyncio.Event(), asyncio.Event()

    class Slow(InlineRef):
        async def remote(self, compression: CompressionConfig | None = None) -> Remote:
            asked.set()
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()
            raise AssertionError

    refs = RefServicer({"r": Slow("r", (), (), MemoryStore())})
    async with attached(refs.register) as session:
        asking = asyncio.create_task(SessionRef("r", session.channel).remote())
        await asked.wait()
        asking.cancel()
        async with asyncio.timeout(PATIENCE):
            await cancelled.wait()
