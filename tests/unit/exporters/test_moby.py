from __future__ import annotations

import json
from pathlib import Path

import pytest

from exporter.content.copy import read_blob
from exporter.content.memory import MemoryStore
from exporter.errors import DataLossError, ExporterError, FailedPreconditionError, NotFoundError
from exporter.exporters.moby import MobyExporter
from exporter.image import ImageError, LayerChainError, digest_bytes
from exporter.image.keys import DIFF_ID
from exporter.source.inline import InlineRef
from exporter.source.types import BuildInfo, Layer, Source
from tests.unit.exporters.harness import FakeLayer, Workplace, make_ref

CONFIG = b'{"os":"linux","architecture":"amd64","config":{"Cmd":["sh"]}}'
METADATA = {"containerimage.config": CONFIG}
LAYERS = [FakeLayer(b"base"), FakeLayer(b"top", description="COPY . /")]
PLATFORM = b'{"Platforms":[{"ID":"linux/amd64","Platform":{"architecture":"amd64","os":"linux"}}]}'


@pytest.fixture
def work(tmp_path: Path) -> Workplace:
    return Workplace(tmp_path)


async def stored(work: Workplace) -> tuple[list[str], dict[str, str], list[str]]:
    """IDs of images, tags, and digests of all blobs."""
    context = await work.context()
    images = await context.images.list()
    blobs = await context.store.blobs()  # type: ignore[attr-defined]
    return [image.id for image in images], await context.images.tags(), [blob.digest for blob in blobs]


async def test_image_and_names(work: Workplace) -> None:
    source = Source(ref=make_ref(LAYERS), metadata=METADATA)
    result = await work.export(MobyExporter({"name": "app,example.com/app:v1"}), source)
    images = (await work.context()).images
    image = await images.get(result.response["containerimage.digest"])
    config = json.loads(await read_blob(images.content, image.config))
    assert config["config"] == {"Cmd": ["sh"]}
    assert config["rootfs"]["diff_ids"] == [digest_bytes(layer.data) for layer in LAYERS]
    assert [entry["created_by"] for entry in config["history"]] == ["RUN something", "COPY . /"]
    assert result.response == {
        "containerimage.digest": image.id,
        "containerimage.config.digest": image.id,
        "image.name": "docker.io/library/app,example.com/app:v1",
    }
    assert result.descriptor is not None
    assert result.descriptor.digest == image.id
    assert result.finalize is None
    assert image.tags == ("docker.io/library/app:latest", "example.com/app:v1")
    assert work.status_ids() == [
        "exporting layers",
        f"writing image {image.id}",
        "naming to docker.io/library/app",
        "naming to example.com/app:v1",
    ]
    assert not work.unfinished()


async def test_without_ref_there_are_no_layers(work: Workplace) -> None:
    result = await work.export(MobyExporter({}), Source(metadata=METADATA))
    assert work.status_ids() == [f"writing image {result.response['containerimage.digest']}"]
    assert "image.name" not in result.response


async def test_a_keyed_result_of_one_platform(work: Workplace) -> None:
    metadata = {"refs.platforms": PLATFORM, "containerimage.config/linux/amd64": CONFIG}
    keyed = await work.export(MobyExporter({}), Source(refs={"x": make_ref(LAYERS)}, metadata=metadata))
    single = await work.export(MobyExporter({}), Source(ref=make_ref(LAYERS), metadata=METADATA))
    assert keyed.response == single.response


async def test_inline_cache_is_in_the_config(work: Workplace) -> None:
    build = BuildInfo(inline_cache={"": b"cache data"})
    result = await work.export(MobyExporter({}), Source(ref=make_ref(LAYERS), metadata=METADATA), build=build)
    images = (await work.context()).images
    image = await images.get(result.response["containerimage.digest"])
    config = json.loads(await read_blob(images.content, image.config))
    assert config["moby.buildkit.cache.v0"] == "Y2FjaGUgZGF0YQ=="


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            Source(refs={"a": make_ref(LAYERS), "b": make_ref(LAYERS)}),
            "exporting multiple references to image store is currently unsupported",
        ),
        (
            Source(ref=make_ref(LAYERS), refs={"a": make_ref(LAYERS)}),
            "invalid exporter input: Ref and Refs are mutually exclusive",
        ),
        (
            Source(refs={"a": make_ref(LAYERS)}, metadata={"refs.platforms": b""}),
            "cannot export image, failed to parse platforms: invalid empty platforms index for exporter",
        ),
        (
            Source(
                refs={"a": make_ref(LAYERS)},
                metadata={
                    "refs.platforms": PLATFORM.replace(
                        b"]}", b',{"ID":"x","Platform":{"architecture":"arm","os":"linux"}}]}'
                    )
                },
            ),
            "number of platforms does not match references 2 1",
        ),
        (Source(ref=make_ref(LAYERS), metadata={"containerimage.config": b"null"}), "null image config"),
        (
            Source(metadata={"containerimage.config": b'{"history":1}'}),
            "failed to unmarshal history from config: json: cannot unmarshal number into Go struct field "
            ".history of type []v1.History",
        ),
    ],
)
async def test_refusals(work: Workplace, source: Source, message: str) -> None:
    with pytest.raises((ExporterError, ImageError)) as raised:
        await work.export(MobyExporter({"name": "app"}), source)
    assert str(raised.value) == message
    assert await stored(work) == ([], {}, [])


async def test_an_invalid_name_is_rejected_early() -> None:
    with pytest.raises(ImageError, match="invalid reference format"):
        MobyExporter({"name": "a,,b"})


async def test_a_chain_without_blobs_makes_no_image(work: Workplace) -> None:
    """Diff IDs alone are enough to compute an image, but dockerd would not have its layers."""
    source = Source(ref=make_ref(LAYERS, provider=MemoryStore()), metadata=METADATA)
    with pytest.raises(NotFoundError):
        await work.export(MobyExporter({"name": "app"}), source)
    assert (await stored(work))[:2] == ([], {})


async def test_a_damaged_layer_makes_no_image(work: Workplace) -> None:
    damaged = MemoryStore()
    for layer in LAYERS:
        damaged._blobs[digest_bytes(layer.data)] = layer.data[::-1]
    source = Source(ref=make_ref(LAYERS, provider=damaged), metadata=METADATA)
    with pytest.raises(DataLossError):
        await work.export(MobyExporter({"name": "app"}), source)
    assert await stored(work) == ([], {}, [])


async def test_a_layer_without_diff_id(work: Workplace) -> None:
    layers = [FakeLayer(b"base"), FakeLayer(b"top", annotations={DIFF_ID: ""})]
    with pytest.raises(FailedPreconditionError, match="layer 1 of ref ref has no diff ID"):
        await work.export(MobyExporter({}), Source(ref=make_ref(layers), metadata=METADATA))
    assert await stored(work) == ([], {}, [])


async def test_a_chain_that_is_too_short(work: Workplace) -> None:
    whole = await make_ref(LAYERS).remote()
    ref = InlineRef("ref", [Layer("top", "COPY . /")], whole.descriptors, whole.provider)
    metadata = {"containerimage.config": b'{"history":[{},{"created_by":"x"}]}'}
    with pytest.raises(LayerChainError):
        await work.export(MobyExporter({"name": "app"}), Source(ref=ref, metadata=metadata))
    assert await stored(work) == ([], {}, [])
