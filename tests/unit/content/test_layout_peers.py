"""Other programs read what we write, and we what they write."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from exporter.content import OCILayout, copy_chain
from tests import builds
from tests.peers import require


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
async def layout(tmp_path: Path) -> OCILayout:
    """A layout with two images, one of several platforms, and a blob that is just being written."""
    layout = await OCILayout.open(tmp_path / "layout")
    for name in ("run-chain", "multi-platform"):
        recorded = await OCILayout.open(builds.scenario(name) / "oci", create=False)
        (root,) = await recorded.index()
        await copy_chain(layout, recorded, root)
        await layout.publish(root, [f"example.com/recorded/{name}:{name}"])
    return layout


async def test_skopeo_reads_a_layout(layout: OCILayout, tmp_path: Path) -> None:
    skopeo = require("skopeo", "skopeo")
    async with layout.ingest() as writer:
        await writer.write(b"x" * (1 << 20))
        source = f"oci:{layout.path}:run-chain"
        inspected = json.loads(_run(skopeo, "inspect", source))
        _run(skopeo, "--insecure-policy", "copy", source, f"dir:{tmp_path}/copy")
    root = await layout.resolve("run-chain")
    assert inspected["Digest"] == root.digest
    blobs = layout.path / "blobs" / "sha256"
    manifest = (blobs / root.digest.removeprefix("sha256:")).read_bytes()
    assert (tmp_path / "copy" / "manifest.json").read_bytes() == manifest
    for layer in json.loads(manifest)["layers"]:
        encoded = layer["digest"].removeprefix("sha256:")
        assert (tmp_path / "copy" / encoded).read_bytes() == (blobs / encoded).read_bytes()


async def test_skopeo_copies_all_platforms(layout: OCILayout, tmp_path: Path) -> None:
    skopeo = require("skopeo", "skopeo")
    source = f"oci:{layout.path}:multi-platform"
    _run(skopeo, "--insecure-policy", "copy", "--all", source, f"oci:{tmp_path}/copy:v1")
    copied = await OCILayout.open(tmp_path / "copy", create=False)
    assert (await copied.resolve("v1")).digest == (await layout.resolve("multi-platform")).digest


async def test_skopeo_and_we_write_to_the_same_layout(layout: OCILayout) -> None:
    skopeo = require("skopeo", "skopeo")
    source = f"oci:{builds.scenario('zstd')}/oci"
    _run(skopeo, "--insecure-policy", "copy", source, f"oci:{layout.path}:skopeo")
    root = await layout.resolve("skopeo")
    await layout.publish(root, tags=["ours"])
    assert {entry.annotations.get("org.opencontainers.image.ref.name") for entry in await layout.index()} == {
        "run-chain",
        "multi-platform",
        "skopeo",
        "ours",
    }


async def test_umoci_reads_a_layout_and_finds_nothing_to_clean(layout: OCILayout, tmp_path: Path) -> None:
    umoci = require("umoci", "umoci")
    listed = _run(umoci, "list", "--layout", str(layout.path)).split()
    assert sorted(listed) == ["multi-platform", "run-chain"]
    before = await layout.blobs()
    async with layout.ingest() as writer:
        await writer.write(b"x" * (1 << 20))
        _run(umoci, "gc", "--layout", str(layout.path))
        info = await writer.commit()
    assert {blob.digest for blob in await layout.blobs()} == {info.digest, *(blob.digest for blob in before)}
    _run(umoci, "raw", "unpack", "--rootless", "--image", f"{layout.path}:run-chain", str(tmp_path / "files"))
    assert any((tmp_path / "files").iterdir())
