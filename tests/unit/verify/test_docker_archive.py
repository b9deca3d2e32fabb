"""Archives of ``docker save`` that were tampered with."""

from __future__ import annotations

import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from exporter.errors import InvalidArgumentError, NotFoundError
from tests.builds import scenario
from tests.unit.verify.layouts import found, texts, verify

Change = Callable[[Path, Any], object]


@pytest.fixture
def archive(tmp_path: Path) -> Callable[[Change], Path]:
    """Pack what dockerd saved, changed; a change gets the directory and its ``manifest.json``."""

    def pack(change: Change) -> Path:
        directory, path = tmp_path / "save", tmp_path / "image.tar"
        shutil.copytree(scenario("moby-run-chain") / "save", directory)
        manifest = json.loads((directory / "manifest.json").read_bytes())
        change(directory, manifest)
        (directory / "manifest.json").write_text(json.dumps(manifest))
        with tarfile.open(path, "w") as tar:
            tar.add(directory, arcname=".")
        return path

    return pack


def append(path: Path, data: bytes) -> None:
    path.write_bytes(path.read_bytes() + data)


async def test_a_damaged_config(archive: Callable[[Change], Path]) -> None:
    path = archive(lambda directory, manifest: append(directory / manifest[0]["Config"], b" "))
    [(kind, place, check)] = found(await verify(path))
    assert (kind, check) == ("config", "digest")
    assert place.endswith(".json")


async def test_a_damaged_layer(archive: Callable[[Change], Path]) -> None:
    path = archive(lambda directory, manifest: append(directory / manifest[0]["Layers"][1], bytes(512)))
    [(kind, place, check)] = found(await verify(path))
    assert (kind, check) == ("layer", "diff ID")
    assert place.endswith("/layer.tar")


@pytest.mark.parametrize("key", ["Config", "Layers"])
async def test_missing_files(archive: Callable[[Change], Path], key: str) -> None:
    def change(directory: Path, manifest: Any) -> None:
        name = manifest[0][key] if key == "Config" else manifest[0][key][2]
        (directory / name).unlink()

    report = await verify(archive(change))
    assert [check for _, _, check in found(report)] == ["file"]
    assert "it is missing" in texts(report)


async def test_a_missing_layer(archive: Callable[[Change], Path]) -> None:
    path = archive(lambda _, manifest: manifest[0]["Layers"].pop())
    assert [check for _, _, check in found(await verify(path))] == ["layers", "history"]


async def test_an_invalid_name(archive: Callable[[Change], Path]) -> None:
    report = await verify(archive(lambda _, manifest: manifest[0].update(RepoTags=["Not A Name"])))
    assert found(report) == [("image", "", "names")]


async def test_a_blob_that_is_not_a_manifest(archive: Callable[[Change], Path]) -> None:
    report = await verify(archive(lambda _, manifest: manifest.__setitem__(0, "nothing")))
    assert found(report) == [("archive", "manifest.json", "schema")]


async def test_only_one_of_several(archive: Callable[[Change], Path]) -> None:
    def change(directory: Path, manifest: Any) -> None:
        manifest.append({**manifest[0], "RepoTags": ["other:1"], "Layers": []})

    path = archive(change)
    assert (await verify(path, image="rec/chain")).is_ok
    assert not (await verify(path, image="other:1")).is_ok
    with pytest.raises(NotFoundError, match="there is no image nobody"):
        await verify(path, image="nobody")


async def test_a_tar_of_something_else(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        tar.add(__file__, arcname="file")
    with pytest.raises(InvalidArgumentError, match="neither index.json"):
        await verify(tmp_path / "x.tar")
