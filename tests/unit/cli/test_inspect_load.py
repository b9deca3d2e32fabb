from __future__ import annotations

import io
import json
import shutil
import tarfile
from pathlib import Path
from typing import Literal

import pytest

from exporter.cli.inspect.load import load_contents
from exporter.cli.inspect.view import ArtifactView, Contents, ImageView
from exporter.content.copy import write_blob
from exporter.content.layout import OCILayout
from exporter.errors import DataLossError, ExporterError, NotFoundError
from exporter.image import Descriptor, digest_bytes
from exporter.image.media_types import OCI_INDEX
from tests.builds import read_json, scenario

Compression = Literal["", "gz", "bz2", "xz"]


def images(contents: Contents) -> list[ImageView]:
    return [item for item in contents.items if isinstance(item, ImageView)]


def only(contents: Contents) -> ImageView:
    [image] = images(contents)
    return image


def pack(directory: Path, path: Path, compression: Compression = "") -> Path:
    with tarfile.open(path, f"w:{compression}") as tar:  # type: ignore[call-overload]
        tar.add(directory, arcname=".")
    return path


async def test_a_layout_is_read_with_names_config_and_layers() -> None:
    contents = await load_contents(scenario("docker") / "oci")
    assert contents.kind == "OCI layout"
    image = only(contents)
    response = read_json("docker", "result.json")["exporter_response"]
    assert image.names == (response["image.name"],)
    assert image.manifest is not None
    assert image.manifest.digest == response["containerimage.digest"]
    assert image.config_digest == response["containerimage.config.digest"]
    chain = read_json("docker", "chains.json")["refs"][0]["chain"]
    assert [layer.digest for layer in image.layers] == [layer["blob"]["digest"] for layer in chain]
    assert [layer.diff_id for layer in image.layers] == [layer["diff_id"] for layer in chain]
    assert image.problems == ()


async def test_platforms_and_attestations_of_an_index_are_found() -> None:
    contents = await load_contents(scenario("provenance-multi-max") / "oci")
    assert [image.platform.format_all() for image in images(contents)] == ["linux/amd64", "linux/arm64"]
    attestations = [item for item in contents.items if isinstance(item, ArtifactView)]
    manifests = [image.manifest.digest for image in images(contents) if image.manifest is not None]
    assert [item.subject for item in attestations] == manifests
    assert all(item.blobs for item in attestations)


@pytest.mark.parametrize("compression", ["", "gz", "xz"])
async def test_archives_and_layouts_give_the_same_images(tmp_path: Path, compression: Compression) -> None:
    layout = scenario("multi-platform") / "oci"
    archive = await load_contents(pack(layout, tmp_path / "image.tar", compression))
    assert archive.kind == "OCI archive"
    assert archive.items == (await load_contents(layout)).items


async def test_docker_archives_have_only_diff_ids(tmp_path: Path) -> None:
    contents = await load_contents(pack(scenario("moby-run-chain") / "save", tmp_path / "image.tar"))
    assert contents.kind == "Docker archive"
    image = only(contents)
    assert image.config_digest == read_json("moby-run-chain", "result.json")["image_id"]
    assert image.names == ("rec/chain:latest",)
    assert [layer.digest for layer in image.layers] == [""] * 6
    assert None not in [layer.size for layer in image.layers]
    assert [step.layer for step in image.steps if step.layer is not None] == list(range(6))


async def test_links_to_layers_in_old_docker_archives_are_followed(tmp_path: Path) -> None:
    config = json.dumps({"os": "linux", "architecture": "amd64", "rootfs": {"diff_ids": ["a", "a"]}}).encode()
    path = tmp_path / "image.tar"
    with tarfile.open(path, "w") as tar:
        manifest = [{"Config": "c.json", "RepoTags": None, "Layers": ["1/layer.tar", "2/layer.tar"]}]
        for name, data in (
            ("c.json", config),
            ("1/layer.tar", b"12345"),
            ("manifest.json", json.dumps(manifest).encode()),
        ):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
        link = tarfile.TarInfo("2/layer.tar")
        link.type, link.linkname = tarfile.SYMTYPE, "../1/layer.tar"
        tar.addfile(link)
    assert [layer.size for layer in only(await load_contents(path)).layers] == [5, 5]


async def test_a_saved_source_is_shown_with_a_history_that_accounts_for_its_layers() -> None:
    contents = await load_contents(scenario("run-chain"))
    assert contents.kind == "saved source"
    [exported] = images(await load_contents(scenario("run-chain") / "oci"))
    image = only(contents)
    assert [step.created_by for step in image.steps] == [step.created_by for step in exported.steps]
    assert [step.layer for step in image.steps] == [step.layer for step in exported.steps]
    assert [layer.diff_id for layer in image.layers] == [layer.diff_id for layer in exported.layers]


async def test_a_saved_source_of_several_platforms_is_shown_by_platform() -> None:
    found = images(await load_contents(scenario("multi-platform")))
    assert [image.platform.format_all() for image in found] == ["linux/amd64", "linux/arm64"]


async def test_a_source_without_layers_is_an_image_without_layers() -> None:
    image = only(await load_contents(scenario("metadata-only")))
    assert image.layers == ()


def _nothing(path: Path) -> None:
    path.mkdir()


def _text(path: Path) -> None:
    path.write_text("no image")


def _empty_tar(path: Path) -> None:
    tarfile.open(path, "w").close()


def _half_a_tar(path: Path) -> None:
    source = scenario("docker") / "oci"
    data = pack(source, path.with_suffix(".whole"), "gz").read_bytes()
    path.write_bytes(data[: len(data) // 2])


def _bad_index(path: Path) -> None:
    shutil.copytree(scenario("docker") / "oci", path)
    (path / "index.json").write_text('{"manifests":5}')


def _bad_source(path: Path) -> None:
    path.mkdir()
    (path / "source.json").write_text("{")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_nothing, "is not an image: it is neither an OCI layout"),
        (_text, "is not an image: it is neither a tar archive"),
        (_empty_tar, "is not an image: the archive has neither index.json"),
        (_half_a_tar, "damaged"),
        (_bad_index, "index.json: manifests must be an array"),
        (_bad_source, "source.json"),
        (lambda path: None, "does not exist"),
    ],
)
async def test_other_files_are_rejected_with_a_reason(tmp_path: Path, make: object, message: str) -> None:
    path = tmp_path / "image"
    assert callable(make)
    make(path)
    with pytest.raises(ExporterError, match=message):
        await load_contents(path)


async def test_blobs_are_verified(tmp_path: Path) -> None:
    layout = tmp_path / "oci"
    shutil.copytree(scenario("docker") / "oci", layout)
    digest = read_json("docker", "result.json")["exporter_response"]["containerimage.config.digest"]
    blob = layout / "blobs" / "sha256" / digest.removeprefix("sha256:")
    data = bytearray(blob.read_bytes())
    data[0] ^= 1
    blob.unlink()
    blob.write_bytes(data)
    with pytest.raises(DataLossError, match="is corrupt: its digest is"):
        await load_contents(layout)
    with pytest.raises(DataLossError, match="is corrupt: its digest is"):
        await load_contents(pack(layout, tmp_path / "image.tar"))
    blob.unlink()
    with pytest.raises(NotFoundError, match="not found"):
        await load_contents(layout)


async def test_nested_indexes_are_limited(tmp_path: Path) -> None:
    layout = await OCILayout.open(tmp_path / "oci")
    entry = Descriptor(OCI_INDEX, digest_bytes(b""), 0)
    for number in range(20):
        manifests = [entry.to_dict()] if number else []
        data = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests}).encode()
        await write_blob(layout, data)
        entry = Descriptor(OCI_INDEX, digest_bytes(data), len(data))
    await layout.publish(entry, ("a",))
    with pytest.raises(ExporterError, match="more than 8 indexes in each other"):
        await load_contents(tmp_path / "oci")
