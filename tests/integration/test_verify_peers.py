"""Images created or copied by other programs are valid; images that they would refuse are not."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from exporter.errors import NotFoundError
from exporter.verify import Outcome
from tests.builds import scenario
from tests.integration.containerd.exporting import Namespace
from tests.integration.containerd_peer import containerd
from tests.integration.registry_peer import docker_registry
from tests.peers import require
from tests.unit.verify.layouts import found, texts, verify

Run = Callable[..., None]


@pytest.fixture
def skopeo() -> Run:
    program = require("skopeo", "skopeo")

    def run(*words: str) -> None:
        done = subprocess.run(
            [program, "--insecure-policy", *words], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr

    return run


def source(name: str) -> str:
    return f"oci:{scenario(name) / 'oci'}"


@pytest.mark.parametrize("name", ["run-chain", "zstd", "multi-platform", "uncompressed"])
async def test_layouts_and_archives_of_skopeo(skopeo: Run, tmp_path: Path, name: str) -> None:
    skopeo("copy", "--all", source(name), f"oci:{tmp_path}/layout:tag")
    report = await verify(tmp_path / "layout")
    assert report.is_ok, texts(report)
    skopeo("copy", source(name), f"oci-archive:{tmp_path}/oci.tar:tag")
    assert (await verify(tmp_path / "oci.tar", image="tag")).is_ok


async def test_docker_archives_of_skopeo(skopeo: Run, tmp_path: Path) -> None:
    skopeo("copy", source("run-chain"), f"docker-archive:{tmp_path}/docker.tar:example.com/a:1")
    report = await verify(tmp_path / "docker.tar", image="example.com/a:1")
    assert report.is_ok, texts(report)
    assert {"names", "schema", "layers", "history", "digest", "diff ID"} <= {r.check for r in report.results}


async def test_docker_types_of_skopeo(skopeo: Run, tmp_path: Path) -> None:
    skopeo("copy", "--format", "v2s2", source("run-chain"), f"dir:{tmp_path}/dir")
    manifest = json.loads((tmp_path / "dir" / "manifest.json").read_bytes())
    assert manifest["mediaType"] == "application/vnd.docker.distribution.manifest.v2+json"
    skopeo("copy", f"dir:{tmp_path}/dir", f"oci:{tmp_path}/layout:tag")
    assert (await verify(tmp_path / "layout")).is_ok


@pytest.fixture
def umoci() -> Run:
    program = require("umoci", "umoci")

    def run(*words: str) -> None:
        subprocess.run([program, *words], check=True, capture_output=True)

    return run


async def test_layouts_of_umoci(umoci: Run, tmp_path: Path) -> None:
    image = f"{tmp_path}/layout:new"
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "file").write_text("content")
    umoci("init", "--layout", f"{tmp_path}/layout")
    umoci("new", "--image", image)
    umoci("insert", "--image", image, f"{tmp_path}/root", "/root")
    umoci("config", "--image", image, "--config.cmd", "/bin/sh")
    report = await verify(tmp_path / "layout", image="new")
    assert report.is_ok, texts(report)
    assert found(report, Outcome.OK).count(("layer", "layers[0]", "diff ID")) == 1


async def test_images_in_a_registry(skopeo: Run, tmp_path: Path) -> None:
    async with docker_registry(tmp_path) as host:
        for name in ("multi-platform", "docker-types"):
            place = f"docker://{host}/verify/{name}:1"
            skopeo("copy", "--all", "--preserve-digests", "--dest-tls-verify=false", source(name), place)
            report = await verify(f"{host}/verify/{name}:1")
            assert report.is_ok, texts(report)
        # The registry's files, behind its back.
        digest = next(r.subject.digest for r in report.results if r.subject.path == "layers[0]")
        [data] = (tmp_path / "data").rglob(f"{digest.removeprefix('sha256:')}/data")
        data.write_bytes(data.read_bytes()[::-1])
        assert found(await verify(f"{host}/verify/docker-types:1")) == [("layer", "layers[0]", "digest")]


async def test_a_registry_without_the_image(tmp_path: Path) -> None:
    async with docker_registry(tmp_path) as host:
        with pytest.raises(NotFoundError, match="no/such"):
            await verify(f"{host}/no/such:1")


async def test_images_in_containerd(tmp_path: Path) -> None:
    with containerd() as peer:
        place = Namespace(peer, "verify", tmp_path)
        await place.export("provenance-multi-max", {"name": "example.com/a:latest", "unpack": "true"})
        config = peer.config("verify")
        for name in ("example.com/a:latest", "example.com/a"):
            report = await verify(name, containerd=config)
            assert report.is_ok, texts(report)
        digest = next(r.subject.digest for r in report.results if r.subject.kind == "layer")
        place.ctr("content", "rm", digest)
        assert {check for _, _, check in found(await verify("example.com/a", containerd=config))} == {
            "digest"
        }
