"""Archives without the layers of a base: other programs read them where the base is, and nowhere else."""

from __future__ import annotations

import asyncio
import io
import subprocess
import tarfile
from pathlib import Path

import pytest

from exporter.errors import InvalidArgumentError, NotFoundError
from exporter.exporters.delta import DeltaExporter
from exporter.exporters.registry import Registry
from exporter.source.types import Source
from exporter.testing import MemoryLayer, Run, Workbench, source_of
from tests.integration.docker_peer import Dockerd, dockerd
from tests.integration.registry_peer import docker_registry
from tests.peers import require

CONFIG = b'{"architecture":"amd64","os":"linux"}'
BASE = tuple(MemoryLayer({name: name.encode() * 100_000}) for name in ("a", "b"))
OWN = MemoryLayer({"c": b"new"})


def base() -> Source:
    return source_of(*BASE, config=CONFIG)


def whole() -> Source:
    return source_of(*BASE, OWN, config=CONFIG)


def skopeo(*words: str) -> subprocess.CompletedProcess[str]:
    line = [require("skopeo", "skopeo"), *words]
    return subprocess.run(line, capture_output=True, check=False, text=True)


async def push(bench: Workbench, source: Source, name: str) -> Run:
    attrs = {"name": name, "push": "true", "registry.insecure": "true", "store": "false"}
    run = await bench.export(Registry().make("image", attrs), source)
    await bench.finalize(run)
    return run


async def delta(bench: Workbench, base: str, **attrs: str) -> Run:
    return await bench.export(DeltaExporter({"base": base, "base-insecure": "true", **attrs}), whole())


def blobs(run: Run) -> int:
    with tarfile.open(fileobj=io.BytesIO(run.output.file_content)) as archive:
        return sum(member.name.startswith("blobs/sha256/") and member.isfile() for member in archive)


async def test_skopeo_copies_it_to_where_the_base_is(tmp_path: Path) -> None:
    await asyncio.to_thread((tmp_path / "registry").mkdir)
    async with docker_registry(tmp_path / "registry") as registry, Workbench.open() as bench:
        await push(bench, base(), f"{registry}/app:base")
        run = await delta(bench, f"{registry}/app:base", name="example.com/app:v2")
        assert run.response["delta.omitted.layers"] == "2"
        assert blobs(run) == 3  # manifest, config, the new layer
        full = await bench.export(Registry().make("oci", {"name": "example.com/app:v2"}), whole())
        assert run.descriptor is not None
        assert full.descriptor is not None
        assert run.descriptor.digest == full.descriptor.digest
        path = tmp_path / "delta.tar"
        await asyncio.to_thread(path.write_bytes, run.output.file_content)
        for repository, succeeds in (("app", True), ("other", False)):
            name = f"docker://{registry}/{repository}:v2"
            copy = ("copy", "--preserve-digests", "--dest-tls-verify=false", f"oci-archive:{path}:v2", name)
            copied = await asyncio.to_thread(skopeo, *copy)
            assert (copied.returncode == 0) is succeeds, copied.stderr
            shown = await asyncio.to_thread(
                skopeo, "inspect", "--tls-verify=false", "--format={{.Digest}}", name
            )
            assert (shown.stdout.strip() == run.descriptor.digest) is succeeds


async def test_docker_loads_it_if_the_engine_has_the_base(tmp_path: Path) -> None:
    await asyncio.to_thread((tmp_path / "registry").mkdir)
    async with docker_registry(tmp_path / "registry") as registry, Workbench.open() as bench:
        await push(bench, base(), f"{registry}/app:base")
        run = await delta(bench, f"{registry}/app:base", to="docker", name="example.com/app:v2")
        image = await bench.export(Registry().make("docker", {"name": "example.com/app:v2"}), whole())
        own = await bench.export(Registry().make("docker", {"name": "example.com/app:base"}), base())
    with dockerd() as engine:
        with pytest.raises(AssertionError, match="no such file"):
            await asyncio.to_thread(_load, engine, run)
        assert engine.images() == []
        await asyncio.to_thread(_load, engine, own)
        await asyncio.to_thread(_load, engine, run)
        image_id = engine.docker("image", "inspect", "--format", "{{.Id}}", "example.com/app:v2")
        assert image_id == image.response["containerimage.config.digest"]
        container = engine.docker("create", "example.com/app:v2", "/nothing")
        engine.docker("export", "--output", str(tmp_path / "files.tar"), container)
    with tarfile.open(tmp_path / "files.tar") as files:
        assert {"a", "b", "c"} <= set(files.getnames())
        content = files.extractfile("b")
        assert content is not None
        assert content.read() == b"b" * 100_000
    assert len(run.output.file_content) < len(image.output.file_content)


def _load(engine: Dockerd, run: Run) -> None:
    engine.docker("load", stdin=run.output.file_content)


async def test_layers_that_only_look_alike_stay(tmp_path: Path) -> None:
    """For Docker, a layer on top of other layers is another one."""
    await asyncio.to_thread((tmp_path / "registry").mkdir)
    async with docker_registry(tmp_path / "registry") as registry, Workbench.open() as bench:
        await push(bench, source_of(BASE[1], config=CONFIG), f"{registry}/app:base")
        run = await delta(bench, f"{registry}/app:base", to="docker")
        assert run.response["delta.omitted.layers"] == "0"
        run = await delta(bench, f"{registry}/app:base")
        assert run.response["delta.omitted.layers"] == "1"


async def test_converted_layers_stay(tmp_path: Path) -> None:
    """The base does not have these blobs."""
    await asyncio.to_thread((tmp_path / "registry").mkdir)
    async with docker_registry(tmp_path / "registry") as registry, Workbench.open() as bench:
        await push(bench, base(), f"{registry}/app:base")
        attrs = {"compression": "zstd", "force-compression": "true"}
        run = await delta(bench, f"{registry}/app:base", **attrs)
        assert blobs(run) == 5


async def test_a_base_that_does_not_exist(tmp_path: Path) -> None:
    await asyncio.to_thread((tmp_path / "registry").mkdir)
    async with docker_registry(tmp_path / "registry") as registry, Workbench.open() as bench:
        with pytest.raises(NotFoundError, match="resolving none in .*/app: "):
            await delta(bench, f"{registry}/app:none")


def test_wrong_attributes() -> None:
    with pytest.raises(InvalidArgumentError, match="attribute base is required"):
        DeltaExporter({})
    with pytest.raises(InvalidArgumentError, match="delta writes an archive"):
        DeltaExporter({"base": "example.com/a", "tar": "false"})
    with pytest.raises(InvalidArgumentError, match="is not one of oci, docker"):
        DeltaExporter({"base": "example.com/a", "to": "tar"})
