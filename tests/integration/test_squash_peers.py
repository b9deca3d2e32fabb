"""What other programs unpack of squashed images: the same files as of the images that daemons made."""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from exporter.content.threads import run_in_thread
from exporter.exporters.output import LocalOutput
from exporter.exporters.registry import Registry
from exporter.source.saved.load import SavedSource
from tests.builds import scenario
from tests.integration.containerd_peer import ContainerdPeer, containerd
from tests.integration.docker_peer import Dockerd, dockerd
from tests.peers import require, require_root
from tests.trees import listing
from tests.unit.exporters.harness import Workplace

BUILDS = ("config-full", "from-base", "llb-diff-many", "llb-merge", "local", "many-copy", "run-chain")


ENGINES_OWN = {".dockerenv", "etc/hosts", "etc/hostname", "etc/resolv.conf", "etc/mtab"}
"""What dockerd puts into every container."""


async def archive(build: str, directory: Path, exporter_type: str, **attrs: str) -> Path:
    saved = await SavedSource.open(scenario(build))
    path = directory / "image.tar"
    await run_in_thread(directory.mkdir)
    exporter = Registry().make(exporter_type, {"name": f"example.com/{directory.name}:v1", **attrs})
    await Workplace(directory).export(
        exporter, saved.source, build=saved.build, output=LocalOutput(str(path))
    )
    return path


def run(*command: str) -> None:
    result = subprocess.run(command, capture_output=True, check=False)
    assert result.returncode == 0, result.stderr.decode()


@pytest.mark.parametrize("name", BUILDS)
async def test_umoci(name: str, tmp_path: Path) -> None:
    umoci, skopeo = require("umoci", "umoci"), require("skopeo", "skopeo")
    require_root("umoci")
    trees = []
    for kind in ("oci", "squash"):
        path = await archive(name, tmp_path / kind, kind)
        layout = tmp_path / f"{kind}-layout"
        run(skopeo, "copy", f"oci-archive:{path}:v1", f"oci:{layout}:v1")
        run(umoci, "unpack", "--image", f"{layout}:v1", str(tmp_path / f"{kind}-bundle"))
        trees.append(listing(tmp_path / f"{kind}-bundle" / "rootfs"))
    assert trees[0] == trees[1]
    assert trees[0]


@pytest.fixture(scope="module")
def engine() -> Iterator[Dockerd]:
    with dockerd() as running:
        yield running


def exported(engine: Dockerd, image: str, path: Path) -> dict[str, Any]:
    container = engine.docker("create", image, "/nothing")
    engine.docker("export", "--output", str(path), container)
    with tarfile.open(fileobj=io.BytesIO(path.read_bytes())) as tar:
        return {
            member.name: (
                *(member.type, member.mode, member.uid, member.gid, member.linkname),
                None if member.isdir() else member.mtime,
                content.read() if member.isreg() and (content := tar.extractfile(member)) else b"",
            )
            for member in tar
            if member.name not in ENGINES_OWN and not member.name.startswith("dev/")
        }


@pytest.mark.parametrize("name", BUILDS)
async def test_dockerd(name: str, tmp_path: Path, engine: Dockerd) -> None:
    trees = []
    for kind, attrs in (("docker", {}), ("squash", {"to": "docker"})):
        path = await archive(name, tmp_path / kind, kind, **attrs)
        engine.docker("load", "--input", str(path))
        trees.append(exported(engine, f"example.com/{kind}:v1", tmp_path / f"{kind}.tar"))
    assert trees[0] == trees[1]


@pytest.fixture(scope="module")
def peer() -> Iterator[ContainerdPeer]:
    with containerd() as running:
        yield running


@pytest.mark.parametrize("name", BUILDS)
async def test_containerd_unpacks_it(name: str, tmp_path: Path, peer: ContainerdPeer) -> None:
    path = await archive(name, tmp_path / "squash", "squash")
    imported = peer.ctr(name, "images", "import", "--snapshotter", "native", str(path))
    assert "unpacking" in imported
    assert len(peer.rows(name, "snapshots", "--snapshotter", "native", "ls")) >= 1
