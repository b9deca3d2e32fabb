"""Other programs unpack the same files from squashed images as from those of the daemons."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from exporter.content.memory import MemoryStore
from exporter.content.threads import run_in_thread
from exporter.exporters.output import LocalOutput
from exporter.exporters.registry import Registry
from exporter.image import Descriptor, digest_bytes
from exporter.images import Image, Workshop, read_image
from exporter.source.saved.load import SavedSource
from tests.buildkit import own_buildkitd, require_buildkit
from tests.builds import scenario
from tests.integration.containerd_peer import ContainerdPeer, containerd
from tests.integration.docker_peer import Dockerd, dockerd
from tests.integration.dockerfiles import write_context
from tests.integration.proxied import Build, Proxy, blobs_of, build, proxy, root_of
from tests.integration.test_proxy_buildkitd import KINDS
from tests.peers import require, require_root
from tests.trees import listing
from tests.unit.exporters.harness import Workplace
from tests.unit.images.trees import tree_of

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


@pytest.fixture(scope="module")
def proxied() -> Iterator[Proxy]:
    require_buildkit("buildctl")
    # The path of a socket has to be short.
    with (
        tempfile.TemporaryDirectory(prefix="bke-", dir="/tmp") as name,
        own_buildkitd() as daemon,
        proxy(Path(name) / "proxy", daemon) as running,
    ):
        yield running


@pytest.mark.parametrize("name", ["run-chain", "platforms", "provenance-of-platforms", "epoch"])
async def test_stock_buildctl_through_the_proxy(name: str, proxied: Proxy, tmp_path: Path) -> None:
    case, words = KINDS[name]
    context = write_context(tmp_path / "context", case)
    (context / "b").write_bytes(b"b")
    outputs = ["type=plugin.oci,proxy-dest=plain.tar", "type=plugin.squash,proxy-dest=squash.tar"]
    built = await run_in_thread(build, proxied.address, Build(context, outputs, words))
    assert built.status == 0, built.errors
    plain, squashed = [await images(proxied.output / name, tmp_path) for name in ("plain.tar", "squash.tar")]
    assert plain.keys() == squashed.keys()
    for platform, image in plain.items():
        assert await tree_of(squashed[platform]) == await tree_of(image)
        assert len(squashed[platform].layers) == 1
    assert not proxied.scratch()


async def images(archive: Path, scratch: Path) -> Mapping[str, Image]:
    blobs = await run_in_thread(blobs_of, archive)
    data = blobs[root_of(archive)]
    root = Descriptor(json.loads(data)["mediaType"], digest_bytes(data), len(data))
    return (await read_image(MemoryStore(*blobs.values()), root, Workshop(scratch))).images
