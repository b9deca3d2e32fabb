from __future__ import annotations

import asyncio
import json
import os
import shutil
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from exporter.content import OCILayout, copy_chain, default_root, write_blob
from exporter.content.copy import missing_blobs
from exporter.content.index import LayoutIndex
from exporter.content.lock import file_lock
from exporter.errors import DataLossError, FailedPreconditionError, InvalidArgumentError, NotFoundError
from exporter.image import Descriptor
from exporter.image.media_types import OCI_INDEX, OCI_LAYER_NONDISTRIBUTABLE_GZIP, OCI_MANIFEST
from tests import builds
from tests.unit.content.images import LAYERS, describe, files_below, image, index, manifest, names_in

IMAGE_NAME = "docker.io/library/app:v1"


async def _with_image(path: Path) -> tuple[OCILayout, Descriptor]:
    layout = await OCILayout.open(path)
    provider, root = image()
    await copy_chain(layout, provider, root)
    return layout, root


# --- directories ---


@pytest.mark.parametrize("exists", [True, False])
def test_makes_an_empty_layout(tmp_path: Path, exists: bool) -> None:
    path = tmp_path / "a" / "layout"
    if exists:
        path.mkdir(parents=True)
    OCILayout(path)
    assert files_below(path) == {
        "blobs/": b"",
        "blobs/sha256/": b"",
        "index.json": LayoutIndex().marshal(),
        "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
    }
    assert names_in(path.parent) == ["layout"]


def test_a_directory_of_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "precious").write_bytes(b"data")
    with pytest.raises(FailedPreconditionError, match="neither empty nor an OCI image layout"):
        OCILayout(tmp_path)
    assert files_below(tmp_path) == {"precious": b"data"}


def test_a_file_is_not_a_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"data")
    with pytest.raises(FailedPreconditionError, match="file is not a directory"):
        OCILayout(tmp_path / "file")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b'{"imageLayoutVersion":"2.0.0"}', "version '2.0.0' of the OCI image layout is not supported"),
        (b"{}", "version '' of"),
        (b"", "oci-layout: unexpected end of JSON input"),
        (b'{"imageLayoutVersion":1}', "oci-layout: json: cannot unmarshal number"),
    ],
)
def test_a_layout_of_another_kind_is_refused(tmp_path: Path, text: bytes, message: str) -> None:
    (tmp_path / "oci-layout").write_bytes(text)
    with pytest.raises(FailedPreconditionError, match=message):
        OCILayout(tmp_path)


def test_nothing_is_created_without_create(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="is not an OCI image layout"):
        OCILayout(tmp_path / "layout", create=False)
    assert names_in(tmp_path) == []


async def test_foreign_files_stay(tmp_path: Path) -> None:
    OCILayout(tmp_path)
    foreign = {"README": b"mine", "ingest/x": b"containerd's", "blobs/sha256/.tmp": b"skopeo's"}
    for name, data in foreign.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    layout, root = await _with_image(tmp_path)
    await layout.publish(root, [IMAGE_NAME])
    found = files_below(tmp_path)
    assert {name: found[name] for name in foreign} == foreign
    assert {blob.digest for blob in await layout.blobs()} == {blob.digest for blob in image()[0].blobs()}


async def test_blobs_cannot_be_written_to(tmp_path: Path) -> None:
    layout = await OCILayout.open(tmp_path)
    info = await write_blob(layout, b"blob")
    path = tmp_path / "blobs" / "sha256" / info.digest.removeprefix("sha256:")
    assert stat.S_IMODE(path.stat().st_mode) & 0o222 == 0


async def test_writing_a_damaged_blob_again_repairs_it(tmp_path: Path) -> None:
    layout = await OCILayout.open(tmp_path)
    info = await write_blob(layout, b"blob")
    path = tmp_path / "blobs" / "sha256" / info.digest.removeprefix("sha256:")
    path.unlink()
    path.write_bytes(b"blub")
    await write_blob(layout, b"blob", describe(b"blob"))
    assert path.read_bytes() == b"blob"


def test_the_default_root_is_in_the_users_data_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for value, wanted in (
        (str(tmp_path / "data"), tmp_path / "data"),
        ("", tmp_path / "home" / ".local" / "share"),
        ("relative", tmp_path / "home" / ".local" / "share"),
    ):
        monkeypatch.setenv("XDG_DATA_HOME", value)
        root = default_root()
        assert root == wanted / "buildkit-exporter"
        assert stat.S_IMODE(root.stat().st_mode) == 0o700
        assert default_root() == root


def test_a_user_without_a_home_directory_learns_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    with pytest.raises(FailedPreconditionError, match="set XDG_DATA_HOME"):
        default_root()


# --- names ---


@pytest.mark.parametrize(
    "name", ["scratch-store", "ctd-names", "names-oci", "multi-platform", "provenance-min"]
)
async def test_a_recorded_image_gives_the_recorded_index(tmp_path: Path, name: str) -> None:
    recorded = await OCILayout.open(builds.scenario(name) / "oci", create=False)
    layout = await OCILayout.open(tmp_path)
    root = Descriptor.from_dict(builds.read_json(name, "result.json")["root_descriptor"])
    await copy_chain(layout, recorded, root)
    names = [
        entry.annotations["io.containerd.image.name"]
        for entry in await recorded.index()
        if "io.containerd.image.name" in entry.annotations
    ]
    await layout.publish(root, names)
    assert (tmp_path / "index.json").read_bytes() == (recorded.path / "index.json").read_bytes()
    assert names_in(tmp_path) == ["blobs", "index.json", "oci-layout"]


async def test_names_and_tags_are_resolved(tmp_path: Path) -> None:
    layout, root = await _with_image(tmp_path)
    await layout.publish(root, [IMAGE_NAME, "example.com/app:v2"], tags=["latest"])
    for name in (IMAGE_NAME, "example.com/app:v2", "v1", "v2", "latest"):
        assert (await layout.resolve(name)).digest == root.digest
    with pytest.raises(NotFoundError, match="no image named v3"):
        await layout.resolve("v3")
    assert [entry.annotations for entry in await layout.index()] == [
        {"io.containerd.image.name": IMAGE_NAME, "org.opencontainers.image.ref.name": "v1"},
        {"io.containerd.image.name": "example.com/app:v2", "org.opencontainers.image.ref.name": "v2"},
        {"org.opencontainers.image.ref.name": "latest"},
    ]


@pytest.mark.parametrize("missing", ["root", "config", "layer", "length"])
async def test_a_name_does_not_move_to_an_incomplete_image(tmp_path: Path, missing: str) -> None:
    layout, old = await _with_image(tmp_path)
    await layout.publish(old, [IMAGE_NAME])
    before = (tmp_path / "index.json").read_bytes()
    config, data = b'{"os":"linux"}', manifest(b'{"os":"linux"}', describe(b"new layer"))
    blobs = {"config": config, "layer": b"new layer", "root": data}
    for name, blob in blobs.items():
        if name != missing:
            await write_blob(layout, blob)
    digest = describe(blobs.get(missing, b"new layer")).digest
    if missing == "length":
        path = tmp_path / "blobs" / "sha256" / digest.removeprefix("sha256:")
        path.unlink()
        path.write_bytes(b"short")
    with pytest.raises(FailedPreconditionError, match=f"missing or have the wrong size \\({digest}\\)"):
        await layout.publish(describe(data, OCI_MANIFEST), [IMAGE_NAME])
    assert (tmp_path / "index.json").read_bytes() == before
    assert (await layout.resolve(IMAGE_NAME)).digest == old.digest


async def test_everything_below_an_index_must_be_there(tmp_path: Path) -> None:
    layout, root = await _with_image(tmp_path)
    other = describe(manifest(b"{}"), OCI_MANIFEST)
    data = index(root, other)
    await write_blob(layout, data)
    with pytest.raises(FailedPreconditionError, match=other.digest):
        await layout.publish(describe(data, OCI_INDEX), [IMAGE_NAME])
    await write_blob(layout, manifest(b"{}"))
    await write_blob(layout, b"{}")
    await layout.publish(describe(data, OCI_INDEX), [IMAGE_NAME])
    assert (await layout.resolve(IMAGE_NAME)).digest == describe(data).digest


async def test_nondistributable_layers_may_be_missing(tmp_path: Path) -> None:
    layout = await OCILayout.open(tmp_path)
    layer = replace(describe(b"windows", OCI_LAYER_NONDISTRIBUTABLE_GZIP), urls=("https://example.com/w",))
    data = manifest(b"{}", layer)
    await write_blob(layout, b"{}")
    await write_blob(layout, data)
    await layout.publish(describe(data, OCI_MANIFEST), [IMAGE_NAME])
    assert (await layout.resolve(IMAGE_NAME)).digest == describe(data).digest


async def test_a_malformed_image_is_not_named(tmp_path: Path) -> None:
    layout = await OCILayout.open(tmp_path)
    data = index(describe(b"{}", OCI_MANIFEST))
    await write_blob(layout, data)
    await write_blob(layout, b"{}")
    with pytest.raises(InvalidArgumentError, match="config is missing"):
        await layout.publish(describe(data, OCI_INDEX), [IMAGE_NAME])
    assert await layout.index() == ()


@pytest.mark.parametrize("text", [b"[]", b"{", b'{"manifests":5}'])
async def test_an_invalid_index_is_not_overwritten(tmp_path: Path, text: bytes) -> None:
    layout, root = await _with_image(tmp_path)
    (tmp_path / "index.json").write_bytes(text)
    for attempt in (layout.publish(root), layout.index(), layout.resolve("x"), layout.prune()):
        with pytest.raises(FailedPreconditionError, match="index.json: "):
            await attempt
    assert (tmp_path / "index.json").read_bytes() == text


async def test_a_layout_without_an_index_is_an_empty_one(tmp_path: Path) -> None:
    layout, root = await _with_image(tmp_path)
    (tmp_path / "index.json").unlink()
    assert await layout.index() == ()
    await layout.publish(root)
    assert await layout.index() == (root,)


async def test_publishing_at_once_loses_no_name(tmp_path: Path) -> None:
    layout, root = await _with_image(tmp_path)
    other = await OCILayout.open(tmp_path)
    await asyncio.gather(
        *([layout, other][number % 2].publish(root, [f"example.com/app:{number}"]) for number in range(12))
    )
    tags = {entry.annotations["org.opencontainers.image.ref.name"] for entry in await layout.index()}
    assert tags == {str(number) for number in range(12)}


async def test_waits_for_the_lock_of_buildkits_client(tmp_path: Path) -> None:
    layout, root = await _with_image(tmp_path)
    async with file_lock(tmp_path / "index.json.lock", transient=True):
        publishing = asyncio.create_task(layout.publish(root))
        done, _ = await asyncio.wait([publishing], timeout=0.05)
        assert not done
    await publishing
    assert await layout.index() == (root,)
    assert not (tmp_path / "index.json.lock").exists()


# --- pruning ---


def _age(layout: OCILayout, *digests: str) -> None:
    for digest in digests:
        os.utime(layout.path / "blobs" / digest.replace(":", "/"), (1000, 1000))


async def test_unreferenced_blobs_are_pruned(tmp_path: Path) -> None:
    layout, root = await _with_image(tmp_path)
    assert len(await layout.prune()) == 4
    assert await layout.blobs() == []
    with pytest.raises(FailedPreconditionError, match="blobs that it references are missing"):
        await layout.publish(root)


async def test_blobs_of_images_are_not_pruned(tmp_path: Path) -> None:
    layout, root = await _with_image(tmp_path)
    data = index(root)
    await write_blob(layout, data)
    await layout.publish(describe(data, OCI_INDEX), [IMAGE_NAME])
    kept, lost = await write_blob(layout, b"kept"), await write_blob(layout, b"lost")
    assert await layout.prune(keep=[kept.digest]) == [lost]
    assert kept in await layout.blobs()
    assert await missing_blobs(layout, describe(data, OCI_INDEX)) == []


async def test_an_image_that_lost_its_name_is_pruned(tmp_path: Path) -> None:
    layout, root = await _with_image(tmp_path)
    await layout.publish(root, [IMAGE_NAME])
    other = manifest(b"{}", describe(LAYERS[0]))
    await write_blob(layout, b"{}")
    await write_blob(layout, other)
    await layout.publish(describe(other, OCI_MANIFEST), [IMAGE_NAME])
    removed = {blob.digest for blob in await layout.prune()}
    assert root.digest in removed
    assert describe(LAYERS[0]).digest not in removed
    assert await missing_blobs(layout, describe(other, OCI_MANIFEST)) == []


async def test_new_blobs_are_not_pruned(tmp_path: Path) -> None:
    layout, root = await _with_image(tmp_path)
    _age(layout, root.digest)
    assert [blob.digest for blob in await layout.prune(before=2000)] == [root.digest]


async def test_images_without_a_name_are_pruned_on_request(tmp_path: Path) -> None:
    layout, root = await _with_image(tmp_path)
    await layout.publish(root)
    assert await layout.prune() == []
    assert await layout.prune(before=2000, unnamed=True) == []
    assert await layout.index() == (root,)
    assert len(await layout.prune(unnamed=True)) == 4
    assert await layout.index() == ()
    _, root = await _with_image(tmp_path)
    await layout.publish(root, tags=["latest"])
    assert await layout.prune(unnamed=True) == []


async def test_nothing_is_pruned_next_to_something_damaged(tmp_path: Path) -> None:
    layout, root = await _with_image(tmp_path)
    await layout.publish(root)
    lost = await write_blob(layout, b"lost")
    (tmp_path / "blobs" / root.digest.replace(":", "/")).chmod(0o644)
    (tmp_path / "blobs" / root.digest.replace(":", "/")).write_bytes(b"x" * root.size)
    with pytest.raises(DataLossError):
        await layout.prune()
    assert lost in await layout.blobs()


async def test_files_that_are_not_blobs_stay(tmp_path: Path) -> None:
    layout = await OCILayout.open(tmp_path)
    (tmp_path / "blobs" / "sha256" / "notes").write_bytes(b"x")
    assert await layout.prune() == []
    assert (tmp_path / "blobs" / "sha256" / "notes").exists()


@pytest.mark.parametrize("kept", [["oci-layout"], ["oci-layout", "blobs"], ["oci-layout", "index.json"], []])
async def test_a_layout_whose_creator_was_killed_is_completed(kept: list[str], tmp_path: Path) -> None:
    whole = await OCILayout.open(tmp_path)
    for path in list(whole.path.iterdir()):
        if path.name not in kept:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    await OCILayout.open(tmp_path)
    assert names_in(tmp_path) == ["blobs", "index.json", "oci-layout"]
    assert (tmp_path / "blobs" / "sha256").is_dir()
    assert json.loads((tmp_path / "index.json").read_bytes())["manifests"] == []


async def test_completing_a_layout_keeps_its_index(tmp_path: Path) -> None:
    await OCILayout.open(tmp_path)
    (tmp_path / "index.json").write_text('{"schemaVersion":2,"manifests":[],"x":1}')
    (tmp_path / "blobs" / "sha256").rmdir()
    await OCILayout.open(tmp_path)
    assert '"x":1' in (tmp_path / "index.json").read_text()
