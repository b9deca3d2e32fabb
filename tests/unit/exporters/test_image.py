from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from exporter.content.layout import OCILayout
from exporter.content.protocol import Provider
from exporter.errors import ExporterError, UnavailableError
from exporter.exporters.base import ExportContext, ExportResult, FinalizeContext
from exporter.exporters.image import ImageExporter, RegistryExporter
from exporter.image import Descriptor, ImageError, digest_bytes
from exporter.progress.producer import VertexProgress
from exporter.source.types import Source
from tests.unit.exporters.harness import VERTEX, FakeLayer, Workplace, make_ref

CONFIG = b'{"os":"linux","architecture":"amd64"}'
SOURCES = {"containerd.io/distribution.source.example.com": "base/image"}
LAYERS = [FakeLayer(b"base", annotations=SOURCES), FakeLayer(b"top")]


class FakePusher:
    """Accepts images like a registry, and fails on demand."""

    def __init__(self) -> None:
        self.pushed: list[tuple[str, dict[str, Any]]] = []
        self.error: Exception | None = None

    async def __call__(
        self, provider: Provider, root: Descriptor, name: str, *, progress: VertexProgress, **options: Any
    ) -> dict[str, dict[str, str]]:
        if self.error is not None:
            raise self.error
        manifest = json.loads(b"".join([data async for data in provider.read(root.digest)]))
        for blob in (manifest["config"], *manifest["layers"]):
            await provider.info(blob["digest"])
        self.pushed.append((name, options))
        return {**options["sources"], f"known after {name}": {}}


@pytest.fixture
def work(tmp_path: Path) -> Workplace:
    return Workplace(tmp_path)


@pytest.fixture
def pusher() -> FakePusher:
    return FakePusher()


async def export(
    work: Workplace,
    attrs: dict[str, str],
    *,
    pusher: FakePusher | None = None,
    metadata: dict[str, bytes] | None = None,
) -> ExportResult:
    source = Source(ref=make_ref(LAYERS), metadata={"containerimage.config": CONFIG, **(metadata or {})})
    context = await work.context()
    context = ExportContext(
        build=context.build,
        progress=context.progress,
        store=context.store,
        images=context.images,
        scratch=context.scratch,
        pusher=pusher,
    )
    return await ImageExporter(attrs).export(source, context)


async def names_in_store(work: Workplace) -> list[str]:
    store = await OCILayout.open(work.root / "store")
    return [entry.annotations.get("io.containerd.image.name", "") for entry in await store.index()]


async def finalize(result: ExportResult) -> None:
    assert result.finalize is not None
    await result.finalize(FinalizeContext(progress=VertexProgress(lambda _: None, VERTEX)))


@pytest.mark.parametrize(
    ("attrs", "stored", "reported"),
    [
        ({}, [""], None),
        ({"name": "short"}, ["short"], "short"),
        ({"name": "a:1,b"}, ["a:1", "b"], "a:1,b"),
        ({"name": "a", "name-canonical": ""}, ["a", "a@DIGEST"], "a"),
        ({"dangling-name-prefix": "none"}, ["none@DIGEST"], "none@DIGEST"),
        ({"dangling-name-prefix": "none", "name-canonical": ""}, ["none@DIGEST"], "none@DIGEST"),
        ({"dangling-name-prefix": "none", "name": "a"}, ["a", "none@DIGEST"], "a,none@DIGEST"),
        ({"dangling-name-prefix": "none", "name": "a", "danging-name-empty-only": "1"}, ["a"], "a"),
        ({"name": "*"}, ["front:1", "end"], "front:1,end"),
        ({"name": "a", "store": "false"}, [], "a"),
    ],
)
async def test_names(work: Workplace, attrs: dict[str, str], stored: list[str], reported: str | None) -> None:
    result = await export(work, attrs, metadata={"image.name": b"front:1,end"})
    digest = result.response["containerimage.digest"]
    assert await names_in_store(work) == [name.replace("DIGEST", digest) for name in stored]
    assert result.response.get("image.name") == (reported and reported.replace("DIGEST", digest))
    assert result.finalize is None


async def test_names_are_given_one_after_the_other(work: Workplace) -> None:
    await export(work, {"name": "a,b", "name-canonical": "true"})
    assert work.status_ids()[-2:] == ["naming to a", "naming to b"]
    assert not work.unfinished()


async def test_images_have_no_annotation_of_the_creation_time(work: Workplace) -> None:
    """Unlike the archive exporters, which have no other place for the time."""
    result = await export(work, {})
    assert result.descriptor is not None
    assert result.descriptor.annotations == {}


async def test_pushing_waits_for_finalize(work: Workplace, pusher: FakePusher) -> None:
    attrs = {"name": "example.com/a,example.com/b:1", "push": "", "registry.insecure": "true"}
    result = await export(work, attrs, pusher=pusher)
    assert pusher.pushed == []
    await finalize(result)
    options = {"by_digest": False, "insecure": True}
    sources: dict[str, dict[str, str]] = {digest_bytes(b"base"): SOURCES}
    assert pusher.pushed == [
        ("example.com/a", {**options, "sources": sources}),
        ("example.com/b:1", {**options, "sources": {**sources, "known after example.com/a": {}}}),
    ]


async def test_a_failed_push_can_be_repeated(work: Workplace, pusher: FakePusher) -> None:
    result = await export(work, {"name": "example.com/a", "push": "true"}, pusher=pusher)
    pusher.error = UnavailableError("connection refused", field="x")
    with pytest.raises(UnavailableError) as raised:
        await finalize(result)
    assert raised.value.message == "failed to push example.com/a: connection refused"
    assert raised.value.field == "x"
    pusher.error = None
    await finalize(result)
    assert [name for name, _ in pusher.pushed] == ["example.com/a"]


@pytest.mark.parametrize("store", ["true", "false"])
async def test_an_image_can_be_pushed_without_being_stored(
    work: Workplace, pusher: FakePusher, store: str
) -> None:
    attrs = {"name": "example.com/a", "push": "true", "push-by-digest": "true", "store": store}
    result = await export(work, attrs, pusher=pusher)
    await finalize(result)
    assert pusher.pushed[0][1]["by_digest"] is True
    assert bool(await names_in_store(work)) is (store == "true")


async def test_without_a_name_there_is_nothing_to_push(work: Workplace) -> None:
    assert (await export(work, {"push": "true"})).finalize is None


@pytest.mark.parametrize(
    ("attrs", "message"),
    [
        (
            {"push": "true", "name": "ok,UPPER CASE"},
            "failed to push UPPER CASE: invalid reference format: "
            "repository name (library/UPPER CASE) must be lowercase",
        ),
        (
            {"push": "true", "push-by-digest": "true", "name": "a:1"},
            "failed to push a:1: can't push tagged ref docker.io/library/a:1 by digest",
        ),
        (
            {"push": "maybe"},
            'non-bool value specified for push: strconv.ParseBool: parsing "maybe": invalid syntax',
        ),
    ],
)
def test_names_that_cannot_be_pushed_are_refused_at_once(attrs: dict[str, str], message: str) -> None:
    with pytest.raises(ImageError) as raised:
        ImageExporter(attrs)
    assert str(raised.value) == message


async def test_names_of_the_frontend_are_checked_when_they_are_known(
    work: Workplace, pusher: FakePusher
) -> None:
    attrs = {"name": "*", "push": "true", "store": "false"}
    result = await export(work, attrs, pusher=pusher, metadata={"image.name": b"UPPER CASE"})
    with pytest.raises(ImageError, match=r"^failed to push UPPER CASE: invalid reference format"):
        await finalize(result)


async def test_unpacking_conflicts_with_rewritten_layers(work: Workplace) -> None:
    attrs = {"name": "a", "unpack": "true", "rewrite-timestamp": "true"}
    with pytest.raises((ExporterError, ImageError)) as raised:
        await export(work, attrs)
    assert str(raised.value) == 'exporter option "rewrite-timestamp" conflicts with "unpack"'
    assert await names_in_store(work) == []


@pytest.mark.parametrize(
    "attrs", [{"unpack": "true", "rewrite-timestamp": "true"}, {"name": "a", "unpack": "1"}]
)
async def test_unpacking_is_accepted_otherwise(work: Workplace, attrs: dict[str, str]) -> None:
    await export(work, attrs)


async def test_registry_pushes_unless_told_otherwise(work: Workplace) -> None:
    source = Source(metadata={"containerimage.config": CONFIG})
    assert (await work.export(RegistryExporter({"name": "a"}), source)).finalize is not None
    assert (await work.export(RegistryExporter({"name": "a", "push": "false"}), source)).finalize is None
    push = next(a for a in RegistryExporter.attributes if a.name == "push")
    assert push.default == "true"
