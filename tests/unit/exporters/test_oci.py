from __future__ import annotations

import asyncio
import base64
import io
import json
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from exporter.content.layout import OCILayout
from exporter.content.memory import MemoryStore
from exporter.content.protocol import BlobInfo
from exporter.errors import DataLossError, ExporterError, NotFoundError
from exporter.exporters.base import Exporter
from exporter.exporters.oci import DockerExporter, OCIExporter
from exporter.exporters.output import LocalOutput
from exporter.image import Descriptor, ImageError, Time, digest_bytes
from exporter.source.types import Source
from tests.unit.exporters.harness import FakeLayer, Workplace, make_ref

CONFIG = b'{"os":"linux","architecture":"amd64"}'
LAYERS = [FakeLayer(b"base"), FakeLayer(b"top")]
CREATED = "org.opencontainers.image.created"
PLATFORMS = json.dumps(
    {
        "Platforms": [
            {"ID": f"linux/{arch}", "Platform": {"architecture": arch, "os": "linux"}}
            for arch in ("amd64", "arm64")
        ]
    }
).encode()


def single(**metadata: bytes) -> Source:
    return Source(ref=make_ref(LAYERS), metadata={"containerimage.config": CONFIG, **metadata})


def keyed() -> Source:
    metadata = {
        "refs.platforms": PLATFORMS,
        "containerimage.config/linux/amd64": CONFIG,
        "containerimage.config/linux/arm64": CONFIG.replace(b"amd64", b"arm64"),
    }
    refs = {"linux/amd64": make_ref(LAYERS), "linux/arm64": make_ref([FakeLayer(b"arm")])}
    return Source(refs=refs, metadata=metadata)


@pytest.fixture
def work(tmp_path: Path) -> Workplace:
    return Workplace(tmp_path)


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exporter.exporters.oci.now", lambda: Time.parse("2024-05-06T07:08:09.9Z"))


async def root_of(work: Workplace, exporter: Exporter, source: Source) -> Descriptor:
    """The root as the embedded store has it."""
    result = await work.export(exporter, source)
    store = await OCILayout.open(work.root / "store")
    (entry,) = await store.index()
    assert result.descriptor == entry
    return entry


async def test_without_output_the_image_is_in_the_embedded_store(work: Workplace) -> None:
    result = await work.export(OCIExporter({"name": "app,example.com/app:v1"}), single())
    store = await OCILayout.open(work.root / "store")
    names = [entry.annotations["io.containerd.image.name"] for entry in await store.index()]
    assert names == ["docker.io/library/app:latest", "example.com/app:v1"]
    assert {entry.digest for entry in await store.index()} == {result.response["containerimage.digest"]}
    assert result.response["image.name"] == ",".join(names)


@pytest.mark.parametrize(
    ("attrs", "metadata", "created"),
    [
        ({}, {}, "2024-05-06T07:08:09Z"),
        ({"source-date-epoch": "1"}, {}, "1970-01-01T00:00:01Z"),
        ({}, {"source.date.epoch": b"2"}, "1970-01-01T00:00:02Z"),
        # Empty means that the build's epoch does not count.
        ({"source-date-epoch": ""}, {"source.date.epoch": b"2"}, "2024-05-06T07:08:09Z"),
        # One platform's own is not the whole image's.
        ({}, {"source.date.epoch/linux/amd64": b"3"}, "2024-05-06T07:08:09Z"),
        ({f"annotation-manifest-descriptor.{CREATED}": "mine"}, {}, "mine"),
    ],
)
async def test_creation_time(
    work: Workplace, attrs: dict[str, str], metadata: dict[str, bytes], created: str
) -> None:
    root = await root_of(work, OCIExporter(attrs), single(**metadata))
    assert root.annotations[CREATED] == created


async def test_the_response_describes_the_root(work: Workplace) -> None:
    result = await work.export(OCIExporter({}), single())
    root = json.loads(base64.b64decode(result.response["containerimage.descriptor"]))
    assert root["digest"] == result.response["containerimage.digest"]
    assert root["platform"] == {"architecture": "amd64", "os": "linux"}
    assert list(root["annotations"]) == [CREATED]


async def test_an_index_has_no_config_digest(work: Workplace) -> None:
    result = await work.export(OCIExporter({}), keyed())
    assert "containerimage.config.digest" not in result.response


async def test_attributes_that_are_unknown_become_metadata(work: Workplace) -> None:
    """As in BuildKit: the command line can replace the config."""
    exporter = OCIExporter({"containerimage.config": CONFIG.replace(b"amd64", b"s390x").decode()})
    root = await root_of(work, exporter, single())
    assert root.platform is not None
    assert root.platform.architecture == "s390x"


async def test_docker_archive_has_docker_manifest(work: Workplace, tmp_path: Path) -> None:
    output = LocalOutput(str(tmp_path / "image.tar"))
    await work.export(DockerExporter({"name": "app"}), single(), output=output)
    with tarfile.open(tmp_path / "image.tar") as archive:
        (image,) = json.load(archive.extractfile("manifest.json"))  # type: ignore[arg-type]
    assert image["RepoTags"] == ["app:latest"]
    assert image["Layers"] == [f"blobs/{digest_bytes(layer.data).replace(':', '/')}" for layer in LAYERS]


async def test_archive_and_layout_hold_the_same(work: Workplace, tmp_path: Path) -> None:
    await work.export(OCIExporter({}), keyed(), output=LocalOutput(str(tmp_path / "image.tar")))
    await work.export(OCIExporter({"tar": "false"}), keyed(), output=LocalOutput(str(tmp_path / "layout")))
    with tarfile.open(tmp_path / "image.tar") as archive:
        blobs = {entry.name for entry in archive if entry.isfile() and entry.name.startswith("blobs/")}
    layout = await OCILayout.open(tmp_path / "layout")
    assert blobs == {f"blobs/{blob.digest.replace(':', '/')}" for blob in await layout.blobs()}


async def test_archive_to_standard_output(work: Workplace) -> None:
    stdout = io.BytesIO()
    await work.export(OCIExporter({}), single(), output=LocalOutput("-", stdout=stdout))
    stdout.seek(0)
    with tarfile.open(fileobj=stdout) as archive:
        assert "index.json" in archive.getnames()


@pytest.mark.parametrize(
    ("exporter", "source", "message"),
    [
        (DockerExporter({}), keyed(), "docker exporter does not currently support exporting manifest lists"),
        (
            OCIExporter({}),
            Source(refs={"a": make_ref(LAYERS)}),
            "unable to export multiple refs, missing platforms mapping",
        ),
        (
            OCIExporter({}),
            single(**{"refs.platforms": PLATFORMS}),
            "cannot export multiple platforms without multi-platform enabled",
        ),
        (
            OCIExporter({"annotation-index.a": "b"}),
            single(),
            "index annotations not supported for single platform export",
        ),
        (
            OCIExporter({"annotation[linux/s390x].a": "b"}),
            keyed(),
            "invalid annotation: no platform linux/s390x found in source",
        ),
        (
            OCIExporter({"name": "*"}),
            single(**{"image.name": b"a:b:c"}),
            "failed to parse a:b:c: invalid reference format",
        ),
    ],
)
async def test_refusals(
    work: Workplace, tmp_path: Path, exporter: Exporter, source: Source, message: str
) -> None:
    for output in (LocalOutput(str(tmp_path / "image.tar")), None):
        with pytest.raises((ExporterError, ImageError)) as raised:
            await work.export(exporter, source, output=output)
        assert str(raised.value) == message
    assert not (tmp_path / "image.tar").exists()
    assert await (await OCILayout.open(work.root / "store")).blobs() == []


@pytest.mark.parametrize("kind", [OCIExporter, DockerExporter])
def test_names_are_read_before_the_build(kind: type[Exporter]) -> None:
    kind({"name": "*"})
    for name in ("a:b:c", "app,a:b:c"):
        with pytest.raises(ImageError, match="^failed to parse a:b:c: invalid reference format$"):
            kind({"name": name})


@pytest.mark.parametrize("tar", ["true", "false"])
async def test_a_damaged_layer_leaves_no_image(work: Workplace, tmp_path: Path, tar: str) -> None:
    damaged = MemoryStore()
    for layer in LAYERS:
        damaged._blobs[digest_bytes(layer.data)] = layer.data[::-1]
    source = Source(ref=make_ref(LAYERS, provider=damaged), metadata={"containerimage.config": CONFIG})
    path = tmp_path / "output"
    with pytest.raises(DataLossError):
        await work.export(OCIExporter({"tar": tar}), source, output=LocalOutput(str(path)))
    assert not work.unfinished()
    assert not work.leftovers()
    if tar == "true":
        assert not path.exists()
    else:
        assert await (await OCILayout.open(path)).index() == ()


async def test_a_ref_that_no_longer_exists(work: Workplace) -> None:
    class Gone:
        id = "gone"

        async def remote(self, compression: object = None) -> object:
            raise NotFoundError("ref gone does not exist")

        async def layer_chain(self) -> object:
            raise AssertionError("asked for the chain before the layers")

    source = Source(ref=Gone(), metadata={"containerimage.config": CONFIG})  # type: ignore[arg-type]
    with pytest.raises(NotFoundError, match="ref gone does not exist"):
        await work.export(OCIExporter({}), source)
    assert not work.unfinished()


async def test_cancellation_in_the_middle_of_an_archive(work: Workplace, tmp_path: Path) -> None:
    reached = asyncio.Event()

    class Stalling:
        async def info(self, digest: str) -> BlobInfo:
            return BlobInfo(digest, len(LAYERS[0].data))

        async def read(
            self, digest: str, *, offset: int = 0, length: int | None = None
        ) -> AsyncIterator[bytes]:
            reached.set()
            await asyncio.Event().wait()
            yield b""

    source = Source(ref=make_ref(LAYERS, provider=Stalling()), metadata={"containerimage.config": CONFIG})
    path = tmp_path / "image.tar"
    task = asyncio.create_task(work.export(OCIExporter({}), source, output=LocalOutput(str(path))))
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not path.exists()
    assert not work.leftovers()
    assert not work.unfinished()


async def test_layers_become_distributable_unless_asked_not_to(work: Workplace) -> None:
    layer = FakeLayer(
        b"windows",
        media_type="application/vnd.oci.image.layer.nondistributable.v1.tar",
        urls=("https://example.com/layer",),
    )
    layers = {}
    for prefer in ("false", "true"):
        source = Source(ref=make_ref([layer]), metadata={"containerimage.config": CONFIG})
        result = await work.export(OCIExporter({"prefer-nondist-layers": prefer}), source)
        store = await OCILayout.open(work.root / "store")
        digest = result.response["containerimage.digest"]
        manifest = json.loads(b"".join([data async for data in store.read(digest)]))
        layers[prefer] = manifest["layers"][0]
    assert layers["false"]["mediaType"] == "application/vnd.oci.image.layer.v1.tar"
    assert "urls" not in layers["false"]
    assert layers["true"]["mediaType"] == layer.media_type
    assert layers["true"]["urls"] == ["https://example.com/layer"]
