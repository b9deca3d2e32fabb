"""The contract as a daemon sees it: what it is asked for, how often, and what it gets back."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from grpc_reflection.v1alpha import reflection_pb2

from exporter.daemon.services.content import ContentServicer
from exporter.daemon.services.receive import FileReceiver, FileSendServicer
from exporter.daemon.services.receive_directory import DirectoryReceiver, ReceivedDirectory
from exporter.daemon.services.refs import RefServicer
from exporter.engine.config import WorkplaceConfig
from exporter.image import CompressionConfig, digest_bytes
from exporter.pb.buildkit.exporter.v1 import exporter_pb2 as pb
from exporter.pb.buildkit.exporter.v1 import exporter_pb2_grpc
from exporter.remotes.messages.results import refs_of, source_message
from exporter.rpc.session.attach import Attachable, attach
from exporter.server.config import ServerConfig
from exporter.server.lifecycle import PluginServer
from exporter.source.types import Attestation, AttestationKind, LayerChain, Ref, Remote, Source
from exporter.testing import DirectoryRef, MemoryLayer, source_of

SPDX = "https://spdx.dev/Document"
NANOSECONDS = 1_700_000_000_123_456_789


@dataclass
class Asked:
    """What a daemon was asked for."""

    layers: int = 0
    reads: Counter[str] = field(default_factory=Counter)


class CountedRef:
    """A ref with layers that counts."""

    def __init__(self, ref: Ref, asked: Asked) -> None:
        self._ref = ref
        self._asked = asked

    @property
    def id(self) -> str:
        return self._ref.id

    async def remote(self, compression: CompressionConfig | None = None) -> Remote:
        self._asked.layers += 1
        remote = await self._ref.remote(compression)
        return Remote(remote.descriptors, CountedProvider(remote.provider, self._asked))

    async def layer_chain(self) -> LayerChain:
        return await self._ref.layer_chain()


class CountedProvider:
    def __init__(self, provider: Any, asked: Asked) -> None:
        self._provider = provider
        self._asked = asked

    async def info(self, digest: str) -> Any:
        return await self._provider.info(digest)

    def read(self, digest: str, *, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        self._asked.reads[digest] += 1
        result: AsyncIterator[bytes] = self._provider.read(digest, offset=offset, length=length)
        return result


class CountedDirectory(DirectoryRef):
    def __init__(self, path: Path, asked: Asked) -> None:
        super().__init__("r", path)
        self._asked = asked

    async def remote(self, compression: CompressionConfig | None = None) -> Remote:
        self._asked.layers += 1
        return await super().remote(compression)


@asynccontextmanager
async def plugin(tmp_path: Path) -> AsyncIterator[grpc.aio.Channel]:
    address = f"unix://{tmp_path}/p.sock"
    config = ServerConfig(addresses=(address,), workplace=WorkplaceConfig(root=tmp_path / "root"))
    async with PluginServer.running(config), grpc.aio.insecure_channel(f"unix:{tmp_path}/p.sock") as channel:
        yield channel


async def export(
    channel: grpc.aio.Channel,
    exporter_type: str,
    source: Source,
    *services: Attachable,
    attrs: Mapping[str, str] | None = None,
    **options: Any,
) -> pb.ExportResult:
    """Export as a daemon does, with a session for the refs of the result."""
    servicer = RefServicer(refs_of(source))
    content = ContentServicer(stores={"refs": servicer.provider})
    async with attach(channel, [servicer.register, content.register, *services], session_id="s"):
        request = pb.ExportRequest(
            type=exporter_type,
            attrs=dict(attrs or {}),
            source=source_message(source),
            build=pb.BuildInfo(session_id="s"),
            **options,
        )
        result = None
        async for message in exporter_pb2_grpc.ExporterServiceStub(channel).Export(request):
            if message.HasField("result"):
                result = message.result
        assert result is not None
        return result


def make_files(root: Path) -> None:
    (root / "etc").mkdir(parents=True)
    (root / "etc" / "motd").write_text("hello")
    (root / "etc" / "again").hardlink_to(root / "etc" / "motd")
    (root / "run").symlink_to("etc")
    os.utime(root / "etc" / "motd", ns=(NANOSECONDS, NANOSECONDS))
    os.utime(root / "etc", ns=(-1, -1))


async def test_no_layer_is_made_for_tar(tmp_path: Path) -> None:
    make_files(tmp_path / "ref")
    asked, out = Asked(), tmp_path / "out.tar"
    receiver = FileReceiver({0: str(out)})
    source = Source(ref=CountedDirectory(tmp_path / "ref", asked))
    async with plugin(tmp_path) as channel:
        await export(channel, "tar", source, FileSendServicer(receiver.handlers).register)
        await receiver.commit(0)
    assert asked.layers == 0
    with tarfile.open(fileobj=io.BytesIO(out.read_bytes())) as tar:
        members = {member.name: member for member in tar}
        assert list(members) == ["etc", "etc/again", "etc/motd", "run"]
        assert (members["etc/motd"].type, members["etc/motd"].linkname) == (tarfile.LNKTYPE, "etc/again")
        assert members["etc/again"].mtime == NANOSECONDS // 10**9  # BuildKit's exporter rounds, too


async def test_local_is_exact_to_the_nanosecond_and_without_layers(tmp_path: Path) -> None:
    make_files(tmp_path / "ref")
    asked, out = Asked(), tmp_path / "out"
    receiver = DirectoryReceiver({0: ReceivedDirectory(out)})
    source = Source(ref=CountedDirectory(tmp_path / "ref", asked))
    async with plugin(tmp_path) as channel:
        await export(channel, "local", source, FileSendServicer(receiver.handlers).register)
    assert asked.layers == 0
    assert (out / "etc" / "motd").stat().st_mtime_ns == NANOSECONDS
    assert (out / "etc").stat().st_mtime_ns == -1
    assert (out / "etc" / "motd").samefile(out / "etc" / "again")
    assert (out / "run").readlink() == Path("etc")


def with_sbom(source: Source, asked: Asked) -> Source:
    """An image whose layers are to be noted in its SBOM."""
    document = {
        "SPDXID": "SPDXRef-DOCUMENT",
        "spdxVersion": "SPDX-2.3",
        "creationInfo": {"created": "2024-01-02T03:04:05Z", "creators": ["Tool: scanner"]},
        "files": [{"fileName": name, "SPDXID": f"SPDXRef-{name}"} for name in ("low", "high")],
    }
    attestation = Attestation(
        kind=AttestationKind.IN_TOTO,
        path="sbom.json",
        predicate_type=SPDX,
        metadata={"sbom-core": b"sbom"},
        content=json.dumps(document).encode(),
    )
    assert source.ref is not None
    return Source(
        ref=CountedRef(source.ref, asked),
        metadata=source.metadata,
        attestations={"linux/amd64": (attestation,)},
    )


def two_layers() -> Source:
    return source_of(MemoryLayer({"low": b"1" * 5000}), MemoryLayer({"high": b"2" * 5000}))


async def test_every_blob_is_read_once_even_with_an_sbom(tmp_path: Path) -> None:
    asked, out = Asked(), tmp_path / "out.tar"
    receiver = FileReceiver({0: str(out)})
    source = with_sbom(two_layers(), asked)
    async with plugin(tmp_path) as channel:
        await export(channel, "oci", source, FileSendServicer(receiver.handlers).register)
        await receiver.commit(0)
    assert len(asked.reads) == 2
    assert set(asked.reads.values()) == {1}
    assert b"layerID: sha256:" in out.read_bytes()


async def test_the_daemon_gets_the_documents_of_an_image(tmp_path: Path) -> None:
    async with plugin(tmp_path) as channel:
        result = await export(channel, "image", with_sbom(two_layers(), Asked()))
    *_, root = result.blobs
    assert root.digest == result.descriptor.digest
    known: set[str] = set()
    for blob in result.blobs:
        assert blob.digest == digest_bytes(blob.data)
        assert all(key.startswith("containerd.io/gc.ref.content.") for key in blob.labels)
        document = json.loads(blob.data)
        references = [*document.get("manifests", ()), *([document["config"]] if "config" in document else ())]
        if blob.media_type.endswith(("manifest.v1+json", "index.v1+json")):
            assert {item["digest"] for item in references} <= known
            layers = {item["digest"] for item in document.get("layers", ())}
            assert set(blob.labels.values()) == layers | {item["digest"] for item in references}
        known.add(blob.digest)
    assert len(result.blobs) == 5  # the index, two manifests, two configs


async def test_archives_are_documented_and_files_are_not(tmp_path: Path) -> None:
    receiver = FileReceiver({0: str(tmp_path / "out")})
    send = FileSendServicer(receiver.handlers).register
    async with plugin(tmp_path) as channel:
        assert len((await export(channel, "oci", two_layers(), send)).blobs) == 2
        await receiver.drop(0)
        assert not (await export(channel, "tar", two_layers(), send)).blobs
        await receiver.close()


@pytest.mark.parametrize("exporter_type", ["oci", "docker"])
async def test_an_archive_that_nobody_takes_goes_into_the_store(tmp_path: Path, exporter_type: str) -> None:
    async with plugin(tmp_path) as channel:
        result = await export(channel, exporter_type, two_layers())
    algorithm, _, encoded = result.descriptor.digest.partition(":")
    assert (tmp_path / "root" / "oci" / "blobs" / algorithm / encoded).exists()


async def test_takes_output_decides_for_one_output(tmp_path: Path) -> None:
    receiver = FileReceiver({0: str(tmp_path / "out")})
    send = FileSendServicer(receiver.handlers).register
    async with plugin(tmp_path) as channel:
        await export(channel, "oci", two_layers(), send, takes_output=False)
        assert (tmp_path / "root" / "oci" / "index.json").exists()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await export(channel, "oci", two_layers(), takes_output=True)
        assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await export(channel, "tar", two_layers(), send, takes_output=False)
        assert "no client accepts them" in str(caught.value.details())
        request = pb.ExportRequest(type="oci", takes_output=True)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await exporter_pb2_grpc.ExporterServiceStub(channel).Export(request).read()
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(("exporter_type", "layers"), [("tar", False), ("local", False), ("oci", True)])
async def test_resolve_says_what_an_export_uses(tmp_path: Path, exporter_type: str, layers: bool) -> None:
    async with plugin(tmp_path) as channel:
        request = pb.ResolveRequest(type=exporter_type)
        response = await exporter_pb2_grpc.ExporterServiceStub(channel).Resolve(request)
    assert (response.uses_layers, response.uses_inline_cache) == (layers, layers)
    assert response.uses_files


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_both_versions_of_reflection_list_the_service(tmp_path: Path, version: str) -> None:
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    async with plugin(tmp_path) as channel:
        call = channel.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )(iter([request]))
        response: Any = await call.read()
    names = {service.name for service in response.list_services_response.service}
    assert {"buildkit.exporter.v1.ExporterService", "grpc.reflection.v1.ServerReflection"} <= names


async def test_registries_of_a_daemon_are_checked(tmp_path: Path) -> None:
    build = pb.BuildInfo(registries={"https://registry.example": pb.RegistryHost()})
    async with plugin(tmp_path) as channel:
        request = pb.ExportRequest(type="image", build=build)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await exporter_pb2_grpc.ExporterServiceStub(channel).Export(request).read()
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "is not a registry's host" in str(caught.value.details())
