from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from exporter.content import ImageStore, MemoryStore, OCILayout, StoredImage, copy_blobs, read_blob
from exporter.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError
from exporter.image import digest_bytes
from exporter.source import SavedSource
from tests import builds
from tests.unit.content.images import docker_config, docker_image, files_below, to_json

LAYERS = (b"first", b"second")
WHOLE_NAME = "docker.io/library/app:v1"

_TAGGER = """
import asyncio, sys
from exporter.content import ImageStore, OCILayout

async def main(path, image_id, number):
    content = await OCILayout.open(path + "/content")
    images = ImageStore(path + "/images", content)
    for turn in range(10):
        await images.tag(f"app:{number}-{turn}", image_id)

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture
def content() -> MemoryStore:
    return MemoryStore(*LAYERS, b"third")


@pytest.fixture
def images(tmp_path: Path, content: MemoryStore) -> ImageStore:
    return ImageStore(tmp_path / "images", content)


async def test_an_image_is_known_by_the_digest_of_its_config(images: ImageStore) -> None:
    config, layers = docker_image(*LAYERS)
    image_id = await images.create(config, layers)
    assert image_id == digest_bytes(config)
    assert await images.create(config, layers) == image_id
    stored = StoredImage(image_id, docker_config(config), tuple(layers), ())
    assert await images.get(image_id) == stored
    assert await images.list() == (stored,)
    assert await images.tags() == {}
    assert await read_blob(images.content, stored.config) == config


@pytest.mark.parametrize("name", builds.scenario_names(daemon="moby"))
async def test_takes_the_images_of_a_daemon(tmp_path: Path, name: str) -> None:
    saved = await SavedSource.open(builds.scenario(name))
    images = ImageStore(tmp_path / "images", await OCILayout.open(tmp_path / "content"))
    descriptors = []
    if saved.source.ref is not None:
        remote = await saved.source.ref.remote()
        descriptors = list(remote.descriptors)
        await copy_blobs(images.content, remote.provider, descriptors)
    config = (builds.scenario(name) / "config.json").read_bytes()
    image_id = await images.create(config, descriptors)
    assert image_id == builds.read_json(name, "result.json")["image_id"]
    assert list((await images.get(image_id)).layers) == descriptors


async def test_an_image_without_layers_and_without_rootfs(images: ImageStore) -> None:
    for config in (b"{}", b'{"rootfs":{"type":"layers","diff_ids":null}}'):
        assert (await images.get(await images.create(config, []))).layers == ()


async def test_layers_that_the_config_does_not_name_are_refused(images: ImageStore) -> None:
    config, layers = docker_image(*LAYERS)
    _, other = docker_image(b"third")
    for wrong in (layers[:1], layers[::-1], [*layers, *other], []):
        with pytest.raises(FailedPreconditionError, match="are not those that the config names"):
            await images.create(config, wrong)
    assert await images.list() == ()


async def test_missing_layers_are_rejected(images: ImageStore) -> None:
    config, layers = docker_image(b"first", b"missing")
    with pytest.raises(FailedPreconditionError, match=f"{layers[1].digest} not in the content store"):
        await images.create(config, layers)
    assert await images.list() == ()


@pytest.mark.parametrize("config", [b"", b"[]", to_json({"rootfs": {"diff_ids": [5]}})])
async def test_a_config_that_cannot_be_read_is_refused(images: ImageStore, config: bytes) -> None:
    with pytest.raises(InvalidArgumentError, match="image config: "):
        await images.create(config, [])


async def test_a_name_can_be_moved(images: ImageStore) -> None:
    first = await images.create(*docker_image(b"first"))
    second = await images.create(*docker_image(b"second"))
    assert await images.tag("app:v1", first) == WHOLE_NAME
    assert await images.tag("app", first) == "docker.io/library/app:latest"
    assert await images.tag("docker.io/library/app:v1", second) == WHOLE_NAME
    assert await images.tags() == {"docker.io/library/app:latest": first, WHOLE_NAME: second}
    assert [image.tags for image in (await images.get(first), await images.get(second))] == [
        ("docker.io/library/app:latest",),
        (WHOLE_NAME,),
    ]
    assert {image.id for image in await images.list()} == {first, second}


async def test_a_name_moves_only_to_a_complete_image(images: ImageStore, content: MemoryStore) -> None:
    first = await images.create(*docker_image(b"first"))
    second = await images.create(*docker_image(b"second"))
    await images.tag("app:v1", first)
    for missing in (digest_bytes(b"second"), second):
        blob = content._blobs.pop(missing)
        with pytest.raises(FailedPreconditionError, match=missing):
            await images.tag("app:v1", second)
        content._blobs[missing] = blob
    assert await images.tags() == {WHOLE_NAME: first}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "invalid reference format"),
        ("App", "must be lowercase"),
        ("app@" + digest_bytes(b""), "refusing to create a tag with a digest reference"),
    ],
)
async def test_invalid_names_are_rejected(images: ImageStore, name: str, message: str) -> None:
    image_id = await images.create(*docker_image())
    with pytest.raises(InvalidArgumentError, match=message):
        await images.tag(name, image_id)


@pytest.mark.parametrize("image_id", ["", "app", "sha256:../../x", "sha512:" + "0" * 128])
async def test_invalid_ids_are_rejected(images: ImageStore, image_id: str) -> None:
    for attempt in (images.get(image_id), images.tag("app", image_id)):
        with pytest.raises(InvalidArgumentError):
            await attempt


async def test_an_unknown_image_is_not_found(images: ImageStore) -> None:
    image_id = digest_bytes(b"no config")
    for attempt in (images.get(image_id), images.tag("app", image_id)):
        with pytest.raises(NotFoundError, match=image_id):
            await attempt


async def test_damage_is_reported(images: ImageStore) -> None:
    image_id = await images.create(*docker_image())
    (images.path / "tags.json").write_bytes(b"[]")
    with pytest.raises(FailedPreconditionError, match="tags.json is damaged"):
        await images.tag("app", image_id)
    (record,) = images.path.glob("images/sha256/*.json")
    record.write_bytes(b"{}")
    with pytest.raises(FailedPreconditionError, match="is damaged: .*config is missing"):
        await images.get(image_id)


async def test_tagging_at_once_loses_no_name(tmp_path: Path) -> None:
    content = await OCILayout.open(tmp_path / "content")
    images = ImageStore(tmp_path / "images", content)
    image_id = await images.create(*docker_image())
    command = (sys.executable, "-c", _TAGGER, str(tmp_path), image_id)
    taggers = [await asyncio.create_subprocess_exec(*command, str(number)) for number in range(3)]
    await asyncio.gather(*(images.tag(f"app:here-{turn}", image_id) for turn in range(10)))
    assert [await tagger.wait() for tagger in taggers] == [0] * 3
    assert len(await images.tags()) == 40
    assert sorted(files_below(images.path)) == [
        "images/",
        "images/sha256/",
        f"images/sha256/{image_id.removeprefix('sha256:')}.json",
        "lock",
        "tags.json",
    ]


async def test_blobs_of_images_are_needed(images: ImageStore) -> None:
    config, layers = docker_image(*LAYERS)
    await images.create(config, layers)
    async with images.pruning() as needed:
        assert needed == {digest_bytes(config), *(layer.digest for layer in layers)}
        tagging = asyncio.create_task(images.tag("app", digest_bytes(config)))
        done, _ = await asyncio.wait([tagging], timeout=0.05)
        assert not done
    await tagging


async def test_images_without_a_name_are_pruned_on_request(images: ImageStore) -> None:
    named, layers = docker_image(*LAYERS)
    await images.tag("app", await images.create(named, layers))
    unnamed, layers = docker_image(b"third")
    image_id = await images.create(unnamed, layers)
    async with images.pruning(before=2000, unnamed=True) as needed:
        assert image_id in needed
    async with images.pruning(unnamed=True) as needed:
        assert needed == {digest_bytes(named), *(digest_bytes(layer) for layer in LAYERS)}
    assert [image.id for image in await images.list()] == [digest_bytes(named)]
