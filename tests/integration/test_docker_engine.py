"""Loading images into a real dockerd."""

from __future__ import annotations

import asyncio
import io
import json
import random
import ssl
import tarfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from aiohttp import web

from exporter.errors import (
    ExporterError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    UnavailableError,
)
from exporter.exporters.docker_engine import DockerEngineOutput
from exporter.exporters.moby import MobyExporter
from exporter.exporters.oci import DockerExporter
from exporter.exporters.output import LocalOutput
from exporter.image.keys import IMAGE_CONFIG, IMAGE_CONFIG_DIGEST
from exporter.progress.model import StatusUpdate
from exporter.remotes.docker_engine import EngineAddress, find_engine
from exporter.remotes.docker_engine.engine import DockerEngine, LoadedImage
from exporter.source.types import Source
from tests.integration.certificates import make_certificate
from tests.integration.docker_peer import Dockerd, dockerd
from tests.unit.exporters.harness import FakeLayer, Workplace, make_ref


@pytest.fixture(scope="module")
def daemon() -> Iterator[Dockerd]:
    with dockerd() as running:
        yield running


def tree(seed: int, size: int = 1000) -> bytes:
    """A layer with one file."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        entry = tarfile.TarInfo(f"file-{seed}")
        entry.size = size
        tar.addfile(entry, io.BytesIO(random.Random(seed).randbytes(size)))
    return buffer.getvalue()


def source(*layers: bytes, author: str) -> Source:
    config = {"architecture": "amd64", "os": "linux", "author": author, "config": {"Cmd": ["true"]}}
    ref = make_ref([FakeLayer(layer) for layer in layers])
    return Source(ref=ref, metadata={IMAGE_CONFIG: json.dumps(config).encode()})


async def archive_of(built: Source, tmp_path: Path, **attrs: str) -> bytes:
    """The archive that ``type=docker`` makes."""
    path = tmp_path / "image.tar"
    workplace = Workplace(tmp_path / "work")
    workplace.root.mkdir(exist_ok=True)
    await workplace.export(DockerExporter(attrs), built, output=LocalOutput(str(path)))
    return path.read_bytes()


async def load(address: EngineAddress, *pieces: bytes) -> tuple[LoadedImage, ...]:
    async with DockerEngine(address) as engine, engine.load() as image:
        for piece in pieces:
            await image.write(piece)
        await image.commit()
    return image.images


@pytest.mark.parametrize("compression", ["uncompressed", "gzip"])
async def test_the_image_has_the_id_of_the_moby_exporter(
    daemon: Dockerd, tmp_path: Path, compression: str
) -> None:
    built = source(tree(1), tree(2, 3 << 20), author=compression)
    (tmp_path / "moby").mkdir()
    moby = await Workplace(tmp_path / "moby").export(MobyExporter({}), built)
    expected = moby.response[IMAGE_CONFIG_DIGEST]

    updates: list[StatusUpdate] = []
    output = DockerEngineOutput(daemon.address, sink=updates.append)
    attrs = {"name": f"app:{compression},example.com:5000/team/app:v1", "compression": compression}
    (tmp_path / "docker").mkdir()
    workplace = Workplace(tmp_path / "docker")
    result = await workplace.export(DockerExporter(attrs), built, output=output)

    assert result.response[IMAGE_CONFIG_DIGEST] == expected
    names = [f"app:{compression}", "example.com:5000/team/app:v1"]
    assert output.images == tuple(LoadedImage(expected, name) for name in names)
    for name in names:
        inspected = json.loads(daemon.docker("image", "inspect", name))[0]
        assert inspected["Id"] == expected
        assert sorted(inspected["RepoTags"]) == sorted(names)
    assert len(inspected["RootFS"]["Layers"]) == 2
    assert workplace.leftovers() == []
    vertexes = {vertex.name for update in updates for vertex in update.vertexes}
    assert vertexes == {"importing to docker"}
    ids = {status.id for update in updates for status in update.statuses}
    assert len(ids) == 2
    assert all(status.startswith("loading layer ") for status in ids)
    last = updates[-1].vertexes[-1]
    assert last.completed is not None
    assert last.error == ""
    daemon.docker("image", "rm", *names)


async def test_the_same_archive_is_loaded_by_docker_load(daemon: Dockerd, tmp_path: Path) -> None:
    built = source(tree(3), author="file")
    archive = await archive_of(built, tmp_path, name="app:file")
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        manifest = json.loads(tar.extractfile("manifest.json").read())  # type: ignore[union-attr]
    said = daemon.docker("load", stdin=archive)
    assert said == "Loaded image: app:file"
    image_id = daemon.docker("image", "inspect", "--format", "{{.Id}}", "app:file")
    assert image_id == "sha256:" + manifest[0]["Config"].rpartition("/")[2]
    daemon.docker("image", "rm", "app:file")
    images = await load(daemon.address, archive)
    assert images == (LoadedImage(image_id, "app:file"),)
    daemon.docker("image", "rm", "app:file")


async def test_an_image_without_a_name(daemon: Dockerd, tmp_path: Path) -> None:
    archive = await archive_of(source(tree(4), author="unnamed"), tmp_path)
    (image,) = await load(daemon.address, archive)
    assert image.name == ""
    async with DockerEngine(daemon.address) as engine:
        assert await engine.image_id(image.id) == image.id
        await engine.tag(image.id, "team/later")
        assert await engine.image_id("team/later:latest") == image.id
        with pytest.raises(NotFoundError, match=r"(?i)no such image"):
            await engine.tag(f"sha256:{'0' * 64}", "x")
        with pytest.raises(NotFoundError, match=r"(?i)no such image: none"):
            await engine.image_id("none")
        with pytest.raises(InvalidArgumentError, match="it has a digest"):
            await engine.tag(image.id, f"app@sha256:{'0' * 64}")
    daemon.docker("image", "rm", "team/later")


async def test_bad_archives(daemon: Dockerd, tmp_path: Path) -> None:
    archive = await archive_of(source(tree(5), author="bad"), tmp_path, name="app:bad")
    before = daemon.images()
    for data, text in (
        (b"nonsense" * 1000, "invalid tar header"),
        (archive[:-12000], "did not load the image"),
        (archive.replace(b"manifest.json", b"manifesto.son"), "did not load the image|found no image"),
        (bytes(10240), "did not load the image|found no image"),
    ):
        with pytest.raises(ExporterError, match=text) as caught:
            await load(daemon.address, data)
        assert isinstance(caught.value, FailedPreconditionError)
        assert str(daemon.socket) in str(caught.value)
    assert daemon.images() == before


async def test_leaving_without_commit_loads_nothing(daemon: Dockerd, tmp_path: Path) -> None:
    archive = await archive_of(source(tree(6), author="left"), tmp_path, name="app:left")
    before = daemon.images()
    for pieces in ([archive], [archive[:-1], archive[-1:]], [archive[:4000]]):
        async with DockerEngine(daemon.address) as engine, engine.load() as image:
            for piece in pieces:
                await image.write(piece)
    with pytest.raises(ValueError, match="source"):
        async with DockerEngine(daemon.address) as engine, engine.load() as image:
            await image.write(archive)
            raise ValueError("source")
    await load(daemon.address, await archive_of(source(tree(7), author="x"), tmp_path, name="app:last"))
    daemon.docker("image", "rm", "app:last")
    assert daemon.images() == before


async def test_cancelling(daemon: Dockerd) -> None:
    tasks = asyncio.all_tasks()
    writing = asyncio.Event()

    async def loading() -> None:
        async with DockerEngine(daemon.address) as engine, engine.load() as image:
            await image.write(bytes(1 << 20))
            writing.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(loading())
    await writing.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert asyncio.all_tasks() == tasks


async def test_the_daemon_dies(tmp_path: Path) -> None:
    with dockerd() as mortal:
        with pytest.raises(UnavailableError, match="cannot be sent again: repeat the export"):
            async with DockerEngine(mortal.address) as engine, engine.load() as image:
                header = tarfile.TarInfo("big")
                header.size = 1 << 30
                await image.write(header.tobuf())
                for step in range(200):
                    await image.write(bytes(1 << 20))
                    if step == 3:
                        mortal.kill()
        with pytest.raises(UnavailableError, match="is it running.*DOCKER_HOST"):
            async with DockerEngine(mortal.address):
                pass


async def test_an_unreachable_engine_is_reported(tmp_path: Path) -> None:
    address = EngineAddress(socket=tmp_path / "none.sock")
    message = rf"unix://{address.socket}: connecting: No such file.*is it running"
    with pytest.raises(UnavailableError, match=message):
        async with DockerEngine(address):
            pass


async def test_a_directory_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="omit tar=false"):
        DockerEngineOutput(EngineAddress(socket=Path("/none"))).layout()


class Engine:
    """Sends the given response over TCP."""

    def __init__(self) -> None:
        self.version = "1.51"
        self.answer = b'{"stream":"Loaded image ID: sha256:1\\n"}\r\n'
        self.is_patient = True
        self.paths: list[str] = []
        self.received = 0
        self.url = ""

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.paths.append(request.path)
        if request.path == "/_ping":
            return web.Response(headers={"Api-Version": self.version} if self.version else {})
        async for data in request.content.iter_any():
            self.received += len(data)
            if not self.is_patient:
                break
        return web.Response(body=self.answer, content_type="application/json")


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    server = Engine()
    runner = web.ServerRunner(web.Server(server.handle))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.url = f"tcp://127.0.0.1:{runner.addresses[0][1]}"
    yield server
    await runner.cleanup()


@pytest.mark.parametrize(("version", "spoken"), [("1.41", "v1.41"), ("1.99", "v1.51"), ("2.0", "v1.51")])
async def test_the_api_version_is_the_engines(engine: Engine, version: str, spoken: str) -> None:
    engine.version = version
    images = await load(EngineAddress.parse(engine.url), b"a", b"bc")
    assert images == (LoadedImage("sha256:1", ""),)
    assert engine.paths[-1] == f"/{spoken}/images/load"
    assert engine.received == 3


@pytest.mark.parametrize("version", ["", "1", "x.y", "1.41.5"])
async def test_a_peer_that_is_not_an_engine(engine: Engine, version: str) -> None:
    engine.version = version
    with pytest.raises(UnavailableError, match="is not a Docker engine"):
        await load(EngineAddress.parse(engine.url), b"a")


@pytest.mark.parametrize(
    ("answer", "error", "text"),
    [
        (b'{"errorDetail":{"message":"write /x: no space left on device"}}', ExporterError, "no space left"),
        (b"", FailedPreconditionError, "found no image"),
        (b"<html>", UnavailableError, "not a JSON object"),
        (b"[1]", UnavailableError, "not a JSON object"),
        (b"x" * (2 << 20), UnavailableError, "is too long"),
    ],
)
async def test_odd_answers(engine: Engine, answer: bytes, error: type[Exception], text: str) -> None:
    engine.answer = answer
    with pytest.raises(error, match=text):
        await load(EngineAddress.parse(engine.url), b"a")


@pytest.mark.parametrize(
    "answer", [b'{"errorDetail":{"message":"enough of this"}}\n', b'{"error":"enough of this"}']
)
async def test_a_refusal_reaches_a_writer_in_progress(engine: Engine, answer: bytes) -> None:
    """The engine responds immediately and stops reading; the archive is endless."""
    engine.is_patient, engine.answer = False, answer
    with pytest.raises(FailedPreconditionError, match="enough of this"):
        async with DockerEngine(EngineAddress.parse(engine.url)) as client, client.load() as image:
            while True:
                await image.write(bytes(1 << 16))


async def test_an_engine_behind_tls(engine: Engine, tmp_path: Path) -> None:
    for name in ("ca", "client"):
        await make_certificate(tmp_path, name)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=tmp_path / "client.crt")
    server.load_cert_chain(tmp_path / "ca.crt", tmp_path / "ca.key")
    server.verify_mode = ssl.CERT_REQUIRED
    runner = web.ServerRunner(web.Server(engine.handle))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=server).start()
    environ = {
        "DOCKER_HOST": f"tcp://127.0.0.1:{runner.addresses[0][1]}",
        "DOCKER_TLS_VERIFY": "1",
        "DOCKER_CERT_PATH": str(tmp_path),
    }
    try:
        with pytest.raises(UnavailableError, match="certificate verify failed"):
            await load(find_engine(environ=environ), b"a")
        (tmp_path / "ca.pem").write_bytes((tmp_path / "ca.crt").read_bytes())
        (tmp_path / "cert.pem").write_bytes((tmp_path / "client.crt").read_bytes())
        (tmp_path / "key.pem").write_bytes((tmp_path / "client.key").read_bytes())
        assert await load(find_engine(environ=environ), b"a") == (LoadedImage("sha256:1", ""),)
    finally:
        await runner.cleanup()
