"""Builds with the BuildKit of a real dockerd: our image ID has to be the engine's own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from exporter.client import DOCKERFILE_FRONTEND, BuildkitClient, CachePlace, Export, Secret, SolveOptions, llb
from exporter.client.dockerd import connect_dockerd
from exporter.client.dockerd_image import EngineImage, build_and_compute, read_config
from exporter.errors import ExporterError, FailedPreconditionError, UnavailableError
from exporter.image import digest_bytes
from exporter.pb.pb import ops_pb2
from exporter.progress.model import StatusUpdate
from exporter.remotes.docker_engine import EngineAddress
from exporter.remotes.docker_engine.engine import DockerEngine
from tests.integration.docker_peer import Dockerd, dockerd
from tests.integration.dockerfiles import BASE, BASE_CASE, CASES, IMPORTED, Case, archive, write_context
from tests.sessions import PATIENCE


@pytest.fixture(scope="module")
def engine() -> Iterator[Dockerd]:
    with dockerd() as daemon:
        daemon.docker("import", "-", IMPORTED, stdin=archive())
        yield daemon


@asynccontextmanager
async def connected(engine: Dockerd) -> AsyncIterator[tuple[BuildkitClient, DockerEngine]]:
    async with connect_dockerd(engine.address) as client, DockerEngine(engine.address) as api:
        yield client, api


def options(context: Path, case: Case, name: str) -> SolveOptions:
    # There is no bridge for steps in these engines, so they share the machine's network.
    return SolveOptions(
        frontend=DOCKERFILE_FRONTEND,
        frontend_attrs={"force-network-mode": "host", **case.attrs},
        directories={"context": context, "dockerfile": context},
        entitlements=["network.host"],
        exports=[Export("moby", {"name": name})],
        cache_exports=[CachePlace("inline")] if case.inline_cache else [],
    )


async def build(engine: Dockerd, directory: Path, case: Case, name: str) -> EngineImage:
    context = write_context(directory, case)
    async with connected(engine) as (client, api):
        return await build_and_compute(client, api, options(context, case, name))


@pytest.mark.parametrize("name", CASES)
async def test_our_image_id_is_the_engine_s(engine: Dockerd, tmp_path: Path, name: str) -> None:
    case = CASES[name]
    if case.needs_base:
        base = await build(engine, tmp_path / "base", BASE_CASE, f"docker.io/{BASE}")
        assert base.agrees
    image = await build(engine, tmp_path / "context", case, f"docker.io/local/{name}:v1")
    assert image.computed_id == image.id
    assert image.is_certain
    assert engine.docker("image", "inspect", "--format", "{{.Id}}", f"local/{name}:v1") == image.id


async def test_history_that_the_engine_adds(engine: Dockerd) -> None:
    """A build without a frontend has no history: the engine writes all of it, as old engines do."""
    state = llb.scratch()
    for name in ("one", "two", "three"):
        state = state.make_file(f"/{name}", name.encode())
    wanted = SolveOptions(
        definition=state.marshal(), exports=[Export("moby", {"name": "docker.io/local/llb:v1"})]
    )
    async with connected(engine) as (client, api):
        image = await build_and_compute(client, api, wanted)
        config = await read_config(api, image.id)
    assert config == image.config
    assert image.agrees
    assert len(json.loads(config)["history"]) == 3


async def test_a_cached_build_gives_the_same_image(engine: Dockerd, tmp_path: Path) -> None:
    case = CASES["run-chain"]
    first = await build(engine, tmp_path / "c", case, "docker.io/local/cached:v1")
    second = await build(engine, tmp_path / "c", case, "docker.io/local/cached:v2")
    assert first.agrees and second.agrees
    assert first.id == second.id


async def test_the_image_runs(engine: Dockerd, tmp_path: Path) -> None:
    await build(engine, tmp_path / "c", CASES["run-chain"], "docker.io/local/run:v1")
    ran = engine.docker(
        "run", "--rm", "--network=none", "local/run:v1", "/bin/busybox", "cat", "/d/one", "/d/two", "/d/three"
    )
    assert ran.split() == ["one", "two", "three"]


async def test_the_config_is_the_engine_s_to_the_byte(engine: Dockerd, tmp_path: Path) -> None:
    image = await build(engine, tmp_path / "c", CASES["special-characters"], "docker.io/local/config:v1")
    async with DockerEngine(engine.address) as api:
        config = await read_config(api, image.id)
    assert digest_bytes(config) == image.id
    assert config == image.config
    labels = json.loads(config)["config"]["Labels"]
    assert labels["uni"] == "grüße 世界"


async def test_secrets_and_progress(engine: Dockerd, tmp_path: Path) -> None:
    dockerfile = "FROM scratch\nCOPY busybox /bin/sh\n"
    dockerfile += "RUN --mount=type=secret,id=token read x </run/secrets/token && echo got $x\n"
    context = write_context(tmp_path, Case(dockerfile))
    updates: list[StatusUpdate] = []
    async with connect_dockerd(engine.address) as client:
        wanted = options(context, Case(dockerfile), "")
        secret = Secret("token", value=b"hidden\n")
        result = await client.solve(
            SolveOptions(
                frontend=wanted.frontend,
                frontend_attrs=wanted.frontend_attrs,
                directories=wanted.directories,
                entitlements=wanted.entitlements,
                secrets=[secret],
            ),
            updates.append,
        )
    assert result.response == {}
    output = b"".join(log.data for update in updates for log in update.logs)
    assert b"got hidden" in output
    names = {vertex.name for update in updates for vertex in update.vertexes}
    assert "[1/2] COPY busybox /bin/sh" in names


async def test_files_are_exported(engine: Dockerd, tmp_path: Path) -> None:
    context = write_context(tmp_path / "context", CASES["copy-chown"])
    async with connect_dockerd(engine.address) as client:
        wanted = options(context, CASES["copy-chown"], "")
        for export in (
            Export("tar", file=str(tmp_path / "out.tar")),
            Export("local", directory=tmp_path / "out"),
        ):
            await client.solve(
                SolveOptions(frontend=wanted.frontend, directories=wanted.directories, exports=[export])
            )
    assert (tmp_path / "out" / "dir" / "sub" / "y").read_bytes() == b"y"
    assert b"dir/sub/y" in (tmp_path / "out.tar").read_bytes()


async def test_a_failing_step(engine: Dockerd, tmp_path: Path) -> None:
    case = Case("FROM scratch\nCOPY busybox /bin/sh\nRUN echo bad >&2; exit 3\n")
    with pytest.raises(ExporterError, match="exit code: 3"):
        await build(engine, tmp_path / "c", case, "docker.io/local/failing:v1")


async def test_without_an_image(engine: Dockerd, tmp_path: Path) -> None:
    context = write_context(tmp_path, CASES["scratch-copy"])
    wanted = options(context, CASES["scratch-copy"], "")
    async with connected(engine) as (client, api):
        with pytest.raises(FailedPreconditionError, match="has made no image"):
            await build_and_compute(
                client, api, SolveOptions(frontend=wanted.frontend, directories=wanted.directories)
            )


async def test_workers_and_cache_records(engine: Dockerd, tmp_path: Path) -> None:
    await build(engine, tmp_path / "c", CASES["run-chain"], "docker.io/local/usage:v1")
    async with connect_dockerd(engine.address) as client:
        [worker] = await client.workers()
        records = await client.disk_usage()
    assert worker.platforms[0].os == "linux"
    children = [record for record in records.values() if record.parents]
    assert children
    assert all(parent in records for record in children for parent in record.parents)
    assert any(record.description.startswith("mount / from exec") for record in children)


async def test_llb(engine: Dockerd, tmp_path: Path) -> None:
    context = write_context(tmp_path / "context", Case("", {"sub/b": b"b"}))
    files = llb.local("context", exclude=["Dockerfile"])
    state = llb.scratch().copy(files, "/busybox", "/bin/sh").copy(files, "/sub/", "/d/")
    state = state.run(["/bin/sh", "-c", "echo $X >/one"], env={"X": "1"}, network=ops_pb2.NetMode.HOST)
    async with connect_dockerd(engine.address) as client:
        await client.solve(
            SolveOptions(
                definition=state.make_file("/two", b"2").marshal(),
                directories={"context": context},
                entitlements=["network.host"],
                exports=[Export("local", directory=tmp_path / "out")],
            )
        )
    assert (tmp_path / "out" / "d" / "b").read_bytes() == b"b"
    assert (tmp_path / "out" / "one").read_bytes() == b"1\n"
    assert (tmp_path / "out" / "two").read_bytes() == b"2"


async def test_cancellation_ends_the_build(engine: Dockerd, tmp_path: Path) -> None:
    case = Case('FROM scratch\nCOPY busybox /bin/sleep\nRUN ["/bin/sleep", "602"]\n')
    context = write_context(tmp_path / "context", case)
    started = asyncio.Event()

    def sink(update: StatusUpdate) -> None:
        if any("602" in vertex.name and vertex.started for vertex in update.vertexes):
            started.set()

    async with connect_dockerd(engine.address) as client, asyncio.timeout(PATIENCE):
        solving = asyncio.create_task(client.solve(options(context, case, "docker.io/local/never:v1"), sink))
        await started.wait()
        solving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await solving
        await client.workers()
    names = {task.get_name() for task in asyncio.all_tasks()}
    assert not [name for name in names if name.startswith(("build ", "session ", "fsutil"))]


async def test_no_engine(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="is it running"):
        async with connect_dockerd(EngineAddress(socket=tmp_path / "no.sock")):
            pass
