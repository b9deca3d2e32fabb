"""Other programs read our archives."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from exporter.exporters.output import LocalOutput
from exporter.exporters.registry import Registry
from exporter.image import digest_bytes
from exporter.source.saved.load import SavedSource
from tests.builds import scenario
from tests.integration.docker_peer import Dockerd, dockerd
from tests.peers import require
from tests.unit.exporters.harness import Workplace


async def export(
    build: str, exporter_type: str, directory: Path, *, name: str
) -> tuple[Path, dict[str, str]]:
    """Export a recorded build into an archive; gives its path and the response."""
    saved = await SavedSource.open(scenario(build))
    path = directory / "image.tar"
    exporter = Registry().get(exporter_type)({"name": name})
    result = await Workplace(directory).export(exporter, saved.source, output=LocalOutput(str(path)))
    return path, dict(result.response)


def run(*command: str) -> bytes:
    result = subprocess.run(command, capture_output=True, check=False)
    assert result.returncode == 0, result.stderr.decode()
    return result.stdout


@pytest.mark.parametrize(
    "name", ["from-base", "multi-platform", "provenance-multi-max", "zstd", "metadata-only"]
)
async def test_skopeo_reads_oci_archives(name: str, tmp_path: Path) -> None:
    skopeo = require("skopeo", "skopeo")
    path, response = await export(name, "oci", tmp_path, name="example.com/app:v1")
    raw = run(skopeo, "inspect", "--raw", f"oci-archive:{path}:v1")
    assert digest_bytes(raw) == response["containerimage.digest"]
    run(skopeo, "copy", "--all", f"oci-archive:{path}:v1", f"dir:{tmp_path / 'copy'}")


@pytest.mark.parametrize("name", ["docker", "from-base", "many-copy"])
async def test_skopeo_reads_docker_archives(name: str, tmp_path: Path) -> None:
    skopeo = require("skopeo", "skopeo")
    path, response = await export(name, "docker", tmp_path, name="example.com/app:v1")
    source = f"docker-archive:{path}:example.com/app:v1"
    config = run(skopeo, "inspect", "--config", "--raw", source)
    assert digest_bytes(config) == response["containerimage.config.digest"]
    run(skopeo, "copy", source, f"dir:{tmp_path / 'copy'}")


@pytest.fixture(scope="module")
def daemon() -> Iterator[Dockerd]:
    with dockerd() as running:
        yield running


@pytest.mark.parametrize("name", ["docker", "docker-types-off", "from-base", "config-full", "scratch-copy"])
async def test_dockerd_loads_the_image_with_our_id(name: str, tmp_path: Path, daemon: Dockerd) -> None:
    path, response = await export(name, "docker", tmp_path, name=f"example.com/{name}:v1")
    daemon.docker("load", "--input", str(path))
    image_id = daemon.docker("image", "inspect", "--format", "{{.Id}}", f"example.com/{name}:v1")
    assert image_id == response["containerimage.config.digest"]
