"""The proxy in front of a simulated daemon, which exports recorded builds and misbehaves on demand."""

from __future__ import annotations

import asyncio
import base64
import shutil
import subprocess
import sys
import tarfile
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from exporter.client import BuildkitClient, Export, SolveError, SolveOptions, SolveResult
from exporter.content.root import open_root
from exporter.daemon.connection import open_channel
from exporter.errors import (
    Code,
    ExporterError,
    UnavailableError,
)
from exporter.pb.moby.buildkit.v1 import control_pb2, control_pb2_grpc
from exporter.pb.moby.exporter.v1 import exporter_pb2 as session_exporter_pb2
from exporter.pb.moby.exporter.v1 import exporter_pb2_grpc as session_exporter_pb2_grpc
from exporter.progress.model import StatusUpdate
from exporter.remotes.session.content import ContentClient
from exporter.rpc.session.attach import attach
from exporter.source.saved.load import SavedSource
from tests.builds import read_json, scenario, scenario_names
from tests.certificates import SERVER_NAME, make_certificates
from tests.integration.cli_process import PATIENCE, run, server, wait_for_listener
from tests.integration.proxied import Proxy, blobs_of, proxy, root_of
from tests.integration.registry_peer import free_port
from tests.integration.simulator import BEHAVIOUR, SCENARIO, WAITING, Behaviour
from tests.integration.simulator.daemon import root_of as recorded_root
from tests.recordings import exporter_of
from tests.sessions import until

ARCHIVES = [
    name
    for name in scenario_names(daemon="buildkit")
    if exporter_of(name)[0] in {"oci", "image"}
    # Layers are compressed anew, by another compressor than the daemon's.
]


@contextmanager
def simulator(home: Path) -> Iterator[str]:
    """Run a daemon; yields its address."""
    home.mkdir(parents=True, exist_ok=True)
    path = home / "d.sock"
    process = subprocess.Popen([sys.executable, "-m", "tests.integration.simulator", str(path)])
    try:
        wait_for_listener(process, path)
        yield f"unix://{path}"
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="bke-", dir="/tmp"))  # the path of a socket has to be short
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="module")
def daemon(directory: Path) -> Iterator[str]:
    with simulator(directory / "daemon") as address:
        yield address


@pytest.fixture(scope="module")
def strict(directory: Path, daemon: str) -> Iterator[Proxy]:
    with proxy(directory / "strict", daemon, "--strict") as running:
        yield running


@pytest.fixture(scope="module")
def lenient(directory: Path, daemon: str) -> Iterator[Proxy]:
    with proxy(directory / "lenient", daemon) as running:
        yield running


@pytest.fixture
async def client(strict: Proxy) -> AsyncIterator[BuildkitClient]:
    async with BuildkitClient.connect(strict.address) as client:
        yield client


class Screen:
    """The progress as a user sees it."""

    def __init__(self) -> None:
        self.updates: list[StatusUpdate] = []

    def show(self, update: StatusUpdate) -> None:
        self.updates.append(update)

    def ends(self, name: str) -> list[Any]:
        found = [vertex for update in self.updates for vertex in update.vertexes if vertex.name == name]
        return [vertex for vertex in found if vertex.completed is not None]

    def statuses(self) -> set[str]:
        return {status.id for update in self.updates for status in update.statuses}

    def output(self) -> str:
        return b"".join(log.data for update in self.updates for log in update.logs).decode()

    def warnings(self) -> list[str]:
        return [warning.short for update in self.updates for warning in update.warnings]


async def solve(
    client: BuildkitClient,
    name: str,
    *exports: Export,
    behaviour: Behaviour = Behaviour.NOTHING,
    screen: Screen | None = None,
) -> SolveResult:
    attrs = {SCENARIO: name, BEHAVIOUR: behaviour.value}
    options = SolveOptions(frontend="simulated", frontend_attrs=attrs, exports=exports)
    return await asyncio.wait_for(client.solve(options, (screen or Screen()).show), PATIENCE)


def oci(**attrs: str) -> Export:
    return Export("plugin.oci", {key.replace("_", "-"): value for key, value in attrs.items()})


@pytest.mark.parametrize("name", ARCHIVES)
async def test_recorded_builds(strict: Proxy, client: BuildkitClient, name: str) -> None:
    _, attrs = exporter_of(name)
    attrs.pop("dest", None)
    attrs.pop("tar", None)
    attrs.pop("push", None)
    result = await solve(client, name, Export("plugin.oci", {**attrs, "proxy-dest": "x.tar"}))
    digest = result.response["containerimage.digest"]
    assert digest == root_of(strict.output / "x.tar")
    assert digest in blobs_of(strict.output / "x.tar")
    if exporter_of(name)[0] == "oci":
        assert digest == read_json(name, "oci/index.json")["manifests"][0]["digest"]


async def test_several_outputs(strict: Proxy, client: BuildkitClient) -> None:
    result = await solve(
        client,
        "run-chain",
        oci(proxy_dest="one.tar"),
        Export("plugin.image", {"name": "x/one:1"}),
        Export("moby", {"name": "x/two:1"}),
        oci(proxy_dest="four.tar", compression="zstd", force_compression="true"),
    )
    recorded = read_json("run-chain", "oci/index.json")["manifests"][0]["digest"]
    assert root_of(strict.output / "one.tar") == recorded
    # As in BuildKit, the last exporter's keys count.
    assert result.response["containerimage.digest"] == root_of(strict.output / "four.tar") != recorded


async def test_our_exports_beside_the_daemons(strict: Proxy, client: BuildkitClient) -> None:
    """The others keep their indices, and their files go to the client."""
    target = strict.home / "theirs.tar"
    await solve(client, "run-chain", Export("oci", file=str(target)), oci(proxy_dest="ours.tar"))
    assert set(target.read_bytes()) == {0}  # what the simulator sends
    assert root_of(strict.output / "ours.tar") in blobs_of(strict.output / "ours.tar")


async def test_builds_without_exporters_of_ours(client: BuildkitClient) -> None:
    screen = Screen()
    result = await solve(client, "run-chain", Export("image", {}), screen=screen)
    assert "containerimage.digest" in result.response
    assert screen.ends("exporting to image image format")


async def test_the_daemons_export_is_shown_as_ours(strict: Proxy, client: BuildkitClient) -> None:
    screen = Screen()
    await solve(client, "run-chain", Export("plugin.image", {"name": "x/shown"}), screen=screen)
    assert {"preparing layers", "exporting layers"} <= screen.statuses()
    assert "sending tarball" not in screen.statuses()
    assert [end.error for end in screen.ends("exporting to image")] == [""]
    assert screen.ends("exporting to oci image format") == []
    assert screen.output() == f"the image goes to the image store {strict.home}/root\n"
    assert screen.warnings() == []


async def test_images_are_published_last(strict: Proxy, client: BuildkitClient, tmp_path: Path) -> None:
    log = tmp_path / "log"
    one, two = (Export("ordered", {"label": label, "log": str(log)}) for label in ("one", "two"))
    result = await solve(client, "run-chain", one, two)
    lines = log.read_text().split("\n")
    assert {*lines[:2]} == {"export one", "export two"}
    assert {*lines[2:4]} == {"finalize one", "finalize two"}
    assert result.response == {"label": "two", "one": "finalized", "two": "finalized"}


async def test_a_failed_publication_fails_the_build(
    strict: Proxy, client: BuildkitClient, tmp_path: Path
) -> None:
    export = Export("ordered", {"label": "x", "log": str(tmp_path / "log"), "fails": "finalize"})
    screen = Screen()
    with pytest.raises(ExporterError, match="cannot finalize"):
        await solve(client, "run-chain", export, screen=screen)
    assert "cannot finalize" in screen.ends("exporting x")[-1].error
    assert strict.scratch() == []


async def test_exports_of_a_failed_build_are_discarded(
    strict: Proxy, client: BuildkitClient, tmp_path: Path
) -> None:
    """Its own server keeps it no longer than the build, and not until the finalize token expires."""
    good = Export("ordered", {"label": "x", "log": str(tmp_path / "log")})
    waiting = Export("waiting", {"control": str(tmp_path), "fails": "yes"})
    task = asyncio.create_task(solve(client, "run-chain", good, waiting))
    await until((tmp_path / "log").exists)
    await until(lambda: len(strict.scratch()) == 2)
    (tmp_path / "go").touch()
    with pytest.raises(ExporterError, match="waited in vain"):
        await task
    assert (tmp_path / "log").read_text() == "export x\n"
    assert strict.scratch() == []


async def test_a_failing_exporter(strict: Proxy, client: BuildkitClient) -> None:
    before = strict.scratch()
    screen = Screen()
    failing = Export("failing", {"proxy-dest": "failing.tar"})
    with pytest.raises(SolveError, match="it is of no use") as caught:
        await solve(client, "run-chain", failing, screen=screen)
    assert "tar:" not in str(caught.value)
    assert [end.error for end in screen.ends("exporting what is of no use")] == ["it is of no use"]
    assert not (strict.output / "failing.tar").exists()
    assert strict.scratch() == before


async def test_wrong_attributes(client: BuildkitClient) -> None:
    for export, message in (
        (oci(compression="lzw"), "unsupported compression type lzw"),
        (Export("plugin.ocy", {}), 'exporter "ocy" could not be found'),
        (oci(proxy_dest="../x"), "is not a path below"),
        (oci(proxy_dest=""), "is not a path below"),
        (oci(), "type=plugin.oci makes files, and clients take none"),
        (Export("nonesuch", {}), 'exporter "nonesuch" could not be found'),
    ):
        with pytest.raises(ExporterError, match=message):
            await solve(client, "run-chain", export)


async def test_a_misspelt_attribute_is_reported_to_the_client(client: BuildkitClient) -> None:
    screen = Screen()
    await solve(client, "run-chain", oci(proxy_dest="misspelt.tar", compresion="zstd"), screen=screen)
    assert screen.warnings() == ["type=oci has no attribute compresion: did you mean compression?"]


async def test_cancelling_stops_the_exporter(strict: Proxy, client: BuildkitClient, tmp_path: Path) -> None:
    before = strict.scratch()
    stalled = Export("stalled", {"control": str(tmp_path), "proxy-dest": "half"})
    task = asyncio.create_task(solve(client, "run-chain", stalled))
    await until((tmp_path / "started").exists)
    task.cancel()
    await until((tmp_path / "stopped").exists)
    await asyncio.wait((task,))
    assert not (strict.output / "half").exists()
    await until(lambda: strict.scratch() == before)


async def test_a_slow_daemon(strict: Proxy, client: BuildkitClient) -> None:
    await solve(client, "run-chain", oci(proxy_dest="slow.tar"), behaviour=Behaviour.SLOW)
    assert root_of(strict.output / "slow.tar")


@pytest.mark.parametrize("behaviour", [Behaviour.ANCIENT, Behaviour.OLD])
async def test_a_daemon_that_is_too_old(client: BuildkitClient, behaviour: Behaviour) -> None:
    with pytest.raises(SolveError, match="has to be v0.22 or newer"):
        await solve(client, "run-chain", oci(proxy_dest="old.tar"), behaviour=behaviour)


async def test_an_old_daemon_still_has_its_own_exporters(client: BuildkitClient) -> None:
    result = await solve(client, "run-chain", Export("image"), behaviour=Behaviour.ANCIENT)
    assert "containerimage.digest" in result.response


async def test_a_daemon_that_sends_its_files_too_late(strict: Proxy, client: BuildkitClient) -> None:
    with pytest.raises(SolveError, match="exporter 0 was not run"):
        await solve(client, "run-chain", oci(proxy_dest="late.tar"), behaviour=Behaviour.LATE)
    assert not (strict.output / "late.tar").exists()
    await solve(client, "run-chain", oci(proxy_dest="late.tar"))


class Sessionless:
    """Builds whose sessions a test attaches and ends."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel
        self.session_id = uuid.uuid4().hex
        self._control = control_pb2_grpc.ControlStub(channel)

    async def solve(
        self,
        ref: str,
        exporter: str,
        attrs: Mapping[str, str] | None = None,
        behaviour: Behaviour = Behaviour.NOTHING,
        *,
        has_exporters: bool = False,
    ) -> dict[str, str]:
        request = control_pb2.SolveRequest(
            Ref=ref,
            EnableSessionExporter=has_exporters,
            Session=self.session_id,
            FrontendAttrs={SCENARIO: "run-chain", BEHAVIOUR: behaviour.value},
            Exporters=[control_pb2.Exporter(Type=exporter, Attrs=attrs)],
        )
        response = await self._control.Solve(request, timeout=PATIENCE)
        return dict(response.ExporterResponse)

    async def until_shown(self, ref: str, step: str) -> None:
        """Wait until a step of a build is shown."""
        async for message in self._control.Status(control_pb2.StatusRequest(Ref=ref), timeout=PATIENCE):
            if any(vertex.name == step for vertex in message.vertexes):
                return
        raise AssertionError(f"{step} is not shown")


@pytest.fixture
async def sessionless(strict: Proxy) -> AsyncIterator[Sessionless]:
    async with open_channel(strict.address) as channel:
        yield Sessionless(channel)


async def test_a_session_that_attaches_after_its_build(sessionless: Sessionless) -> None:
    task = asyncio.create_task(sessionless.solve("late-session", "plugin.image", {"name": "x/late"}))
    await sessionless.until_shown("late-session", WAITING)
    async with attach(sessionless.channel, (), session_id=sessionless.session_id):
        assert (await task)["image.name"] == "x/late"


async def test_a_session_that_never_attaches(sessionless: Sessionless) -> None:
    with pytest.raises(grpc.aio.AioRpcError, match="no active session"):
        await sessionless.solve("no-session", "plugin.image", behaviour=Behaviour.IMPATIENT)


async def test_an_export_ends_with_its_session(sessionless: Sessionless, tmp_path: Path) -> None:
    """The export ends with the session through which it reads and reports."""
    attached = attach(sessionless.channel, (), session_id=sessionless.session_id)
    async with attached:
        stalled = {"control": str(tmp_path), "proxy-dest": "half"}
        task = asyncio.create_task(sessionless.solve("short-session", "stalled", stalled))
        await until((tmp_path / "started").exists)
    with pytest.raises(grpc.aio.AioRpcError):
        await task
    await until((tmp_path / "stopped").exists)


async def test_a_session_has_one_build_of_ours_at_a_time(sessionless: Sessionless, tmp_path: Path) -> None:
    async with attach(sessionless.channel, (), session_id=sessionless.session_id):
        first = asyncio.create_task(sessionless.solve("first", "waiting", {"control": str(tmp_path)}))
        await until((tmp_path / "started").exists)
        with pytest.raises(
            grpc.aio.AioRpcError, match="has another build .* first; give each build"
        ) as caught:
            await sessionless.solve("second", "plugin.image")
        assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert await sessionless.solve("third", "image")  # the daemon's
        (tmp_path / "go").touch()
        assert (await first)["waited"] == "yes"
        assert await sessionless.solve("fourth", "plugin.image")


class Exporters(session_exporter_pb2_grpc.ExporterServicer):
    """A client that wants to know what is built, as `EnableSessionExporter` has it; and needs no exporter."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.told: list[dict[str, str]] = []

    async def FindExporters(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.asked.append(request)
        return session_exporter_pb2.FindExportersResponse()

    async def FinalizeExport(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.told.append(dict(request.exporter_response))
        return session_exporter_pb2.FinalizeExportResponse()

    def register(self, server: grpc.aio.Server) -> None:
        session_exporter_pb2_grpc.add_ExporterServicer_to_server(self, server)


@pytest.mark.parametrize("exporter", ["plugin.image", "image"])
@pytest.mark.parametrize("wants", [True, False])
async def test_a_client_with_exporters_in_its_session(
    sessionless: Sessionless, exporter: str, wants: bool
) -> None:
    exporters = Exporters()
    async with attach(sessionless.channel, [exporters.register], session_id=sessionless.session_id):
        response = await sessionless.solve(
            f"own-{exporter}-{wants}", exporter, {"name": "x/own"}, has_exporters=wants
        )
    assert response["containerimage.digest"] == recorded_root("run-chain")["digest"]
    assert [told["containerimage.digest"] for told in exporters.told] == [response["containerimage.digest"]]
    recorded = read_json("run-chain", "source.json")
    assert [list(request.refs) for request in exporters.asked] == [recorded["refs"]] * wants
    for request in exporters.asked:
        metadata = {key: base64.b64decode(value) for key, value in recorded["metadata"].items()}
        assert dict(request.metadata) == metadata


async def test_progress_that_ends_early(client: BuildkitClient) -> None:
    screen = Screen()
    await solve(client, "run-chain", Export("plugin.image", {}), behaviour=Behaviour.EAGER, screen=screen)
    assert [end.error for end in screen.ends("exporting to image")] == [""]


async def test_lost_cache_records(client: BuildkitClient) -> None:
    with pytest.raises(ExporterError, match="the daemon's cache has no record"):
        await solve(client, "run-chain", oci(proxy_dest="lost.tar"), behaviour=Behaviour.FORGETFUL)


async def test_a_config_that_differs_from_the_daemons(
    strict: Proxy, lenient: Proxy, client: BuildkitClient
) -> None:
    with pytest.raises(SolveError, match="but buildkitd has sha256:"):
        await solve(client, "run-chain", oci(proxy_dest="d.tar"), behaviour=Behaviour.DIFFERENT)
    assert not (strict.output / "d.tar").exists()
    screen = Screen()
    async with BuildkitClient.connect(lenient.address) as other:
        result = await solve(
            other, "run-chain", oci(proxy_dest="d.tar"), behaviour=Behaviour.DIFFERENT, screen=screen
        )
    [warning] = screen.warnings()
    recorded = read_json("run-chain", "result.json")["exporter_response"]["containerimage.config.digest"]
    assert recorded in warning
    assert result.response["containerimage.config.digest"] in warning


async def test_a_dying_daemon(directory: Path) -> None:
    with (
        simulator(directory / "dying") as address,
        proxy(directory / "before-dying", address) as running,
    ):
        async with BuildkitClient.connect(running.address) as client:
            with pytest.raises(UnavailableError):
                await solve(client, "run-chain", oci(proxy_dest="x"), behaviour=Behaviour.DYING)
        with pytest.raises(UnavailableError, match="cannot reach buildkitd at"):
            async with BuildkitClient.connect(running.address):
                pass


async def test_a_proxy_that_is_killed(directory: Path, daemon: str, tmp_path: Path) -> None:
    with proxy(directory / "killed", daemon, dies=True) as running:
        async with BuildkitClient.connect(running.address) as client:
            stalled = Export("stalled", {"control": str(tmp_path), "proxy-dest": "half"})
            task = asyncio.create_task(solve(client, "run-chain", stalled))
            await until((tmp_path / "started").exists)
            running.process.kill()
            with pytest.raises(UnavailableError):
                await task
    with proxy(directory / "killed", daemon) as running:
        assert running.scratch() == []


async def test_sigterm_waits_for_builds(directory: Path, daemon: str, tmp_path: Path) -> None:
    """Until then, new clients and new builds of any kind are refused."""
    with proxy(directory / "graceful", daemon) as running:
        async with BuildkitClient.connect(running.address) as client:
            waiting = Export("waiting", {"control": str(tmp_path)})
            screen = Screen()
            task = asyncio.create_task(solve(client, "run-chain", waiting, screen=screen))
            await until((tmp_path / "started").exists)
            running.process.terminate()
            await until(lambda: not (running.home / "p.sock").exists())
            for export in (Export("plugin.image"), Export("image")):
                with pytest.raises(UnavailableError, match="shutting down and takes no new builds"):
                    await solve(client, "run-chain", export)
            assert running.process.poll() is None
            (tmp_path / "go").touch()
            assert (await task).response["waited"] == "yes"
            assert screen.ends("exporting nothing")
        assert running.process.wait(PATIENCE) == 0
        assert "waiting up to 30 s for 1 running builds" in running.log


@pytest.mark.parametrize("grace", ["0", "600"])
async def test_builds_that_exceed_the_grace_period(
    directory: Path, daemon: str, tmp_path: Path, grace: str
) -> None:
    """The grace is over, or there is a second signal: exports are cancelled."""
    with proxy(directory / f"grace-{grace}", daemon, "--shutdown-grace", grace) as running:
        async with BuildkitClient.connect(running.address) as client:
            stalled = Export("stalled", {"control": str(tmp_path), "proxy-dest": "half"})
            task = asyncio.create_task(solve(client, "run-chain", stalled))
            await until((tmp_path / "started").exists)
            running.process.terminate()
            if grace != "0":
                await until(lambda: "shutting down" in running.log)
                running.process.terminate()
            with pytest.raises(UnavailableError):
                await task
        await until((tmp_path / "stopped").exists)
        assert running.process.wait(PATIENCE) == 0
        assert running.scratch() == []
        assert not (running.output / "half").exists()


async def test_a_build_that_is_already_running(sessionless: Sessionless, tmp_path: Path) -> None:
    other = Sessionless(sessionless.channel)
    async with (
        attach(sessionless.channel, (), session_id=sessionless.session_id),
        attach(other.channel, (), session_id=other.session_id),
    ):
        first = asyncio.create_task(sessionless.solve("twice", "waiting", {"control": str(tmp_path)}))
        await until((tmp_path / "started").exists)
        with pytest.raises(grpc.aio.AioRpcError, match="build twice is under way already"):
            await other.solve("twice", "plugin.image")
        (tmp_path / "go").touch()
        assert (await first)["waited"] == "yes"


async def test_the_old_field_for_one_exporter(sessionless: Sessionless) -> None:
    request = control_pb2.SolveRequest(
        Ref="old-field",
        Session=sessionless.session_id,
        FrontendAttrs={SCENARIO: "run-chain"},
        ExporterDeprecated="plugin.image",
        ExporterAttrsDeprecated={"name": "x/old:1"},
    )
    async with attach(sessionless.channel, (), session_id=sessionless.session_id):
        response = await control_pb2_grpc.ControlStub(sessionless.channel).Solve(request, timeout=PATIENCE)
    assert response.ExporterResponse["image.name"] == "x/old:1"


async def test_results_are_saved(strict: Proxy, client: BuildkitClient) -> None:
    result = await solve(client, "multi-platform", oci(proxy_dest="saved.tar"))
    saved = await SavedSource.open(strict.home / "sources" / f"{result.ref}-0")
    recorded = await SavedSource.open(scenario("multi-platform"))
    assert saved.source.refs is not None
    assert recorded.source.refs is not None
    assert saved.source.metadata == recorded.source.metadata
    assert saved.build.builder == "buildkit-v0.0.1-simulated"
    for key, ref in recorded.source.refs.items():
        found = saved.source.refs[key]
        assert ref is not None
        assert found is not None
        assert await found.layer_chain() == await ref.layer_chain()
        assert (await found.remote()).diff_ids == (await ref.remote()).diff_ids


async def test_exporters_on_another_server(directory: Path, daemon: str, tmp_path: Path) -> None:
    with (
        server(tmp_path) as address,
        proxy(directory / "elsewhere", daemon, "--exporter", f"image={address}") as running,
    ):
        async with BuildkitClient.connect(running.address) as client:
            result = await solve(client, "run-chain", Export("image", {"name": "x/there:1"}))
    store, _ = await open_root(tmp_path / "server")
    assert result.response["containerimage.digest"] in {entry.digest for entry in await store.index()}


async def test_exporters_on_another_server_with_tls(directory: Path, daemon: str, tmp_path: Path) -> None:
    make_certificates(tmp_path)
    port = free_port()

    def files(prefix: str, **names: str) -> list[str]:
        return [
            word for option, name in names.items() for word in (f"--{prefix}{option}", f"{tmp_path}/{name}")
        ]

    listener = files("", tlscert="server.pem", tlskey="server.key", tlscacert="ca.pem")
    listener += ["--addr", f"tcp://127.0.0.1:{port}"]
    words = [*files("exporter-", tlscacert="ca.pem"), "--exporter", f"image=tcp://127.0.0.1:{port}"]
    known = files("exporter-", tlscert="client.pem", tlskey="client.key")
    known += ["--exporter-tlsservername", SERVER_NAME]
    with server(tmp_path, *listener):
        with proxy(directory / "elsewhere-tls", daemon, *words, *known) as running:
            async with BuildkitClient.connect(running.address) as client:
                result = await solve(client, "run-chain", Export("image", {"name": "x/there:1"}))
        with proxy(directory / "elsewhere-unknown", daemon, *words) as running:
            async with BuildkitClient.connect(running.address) as client:
                with pytest.raises(UnavailableError, match=f"plugin server at tcp://127.0.0.1:{port}"):
                    await solve(client, "run-chain", Export("image", {"name": "x/there:2"}))
    store, _ = await open_root(tmp_path / "server")
    assert [entry.digest for entry in await store.index()] == [result.response["containerimage.digest"]]


async def test_files_on_the_proxys_machine(strict: Proxy, client: BuildkitClient) -> None:
    await solve(
        client,
        "run-chain",
        Export("plugin.local", {"proxy-dest": "tree"}),
        Export("plugin.tar", {"proxy-dest": "tree.tar"}),
    )
    found = {str(path.relative_to(strict.output / "tree")) for path in (strict.output / "tree").rglob("*")}
    with tarfile.open(strict.output / "tree.tar") as tar:
        assert found == set(tar.getnames())


async def test_no_files_without_a_directory_for_them(tmp_path: Path, daemon: str, directory: Path) -> None:
    with proxy(directory / "no-output", daemon, output=False) as running:
        async with BuildkitClient.connect(running.address) as client:
            with pytest.raises(SolveError, match="--output-dir") as caught:
                await solve(client, "run-chain", oci(proxy_dest="x.tar"))
    assert caught.value.code is Code.PERMISSION_DENIED


async def test_tls_on_both_sides(tmp_path: Path, daemon: str, directory: Path) -> None:
    """Clients that show no certificate are refused; so is a daemon that nobody vouches for."""
    make_certificates(tmp_path)
    ca, cert, key = (str(tmp_path / name) for name in ("ca.pem", "server.pem", "server.key"))
    port, other = free_port(), free_port()
    listener = ("--tlscert", cert, "--tlskey", key, "--tlscacert", ca)
    own = tuple(
        word
        for kind in ("cert", "key")
        for word in (f"--buildkitd-tls{kind}", str(tmp_path / f"client.{'pem' if kind == 'cert' else kind}"))
    )
    to_daemon = ("--buildkitd-tlscacert", ca, *own)
    inner = proxy(directory / "tls", daemon, "--addr", f"tcp://127.0.0.1:{port}", *listener)
    outer = proxy(
        directory / "tls2",
        f"tcp://127.0.0.1:{port}",
        "--addr",
        f"tcp://localhost:{other}",
        *listener,
        *to_daemon,
    )
    credentials = grpc.ssl_channel_credentials(
        *((tmp_path / name).read_bytes() for name in ("ca.pem", "client.key", "client.pem"))
    )
    with inner as running, outer:
        address = f"tcp://localhost:{other}"
        async with BuildkitClient.connect(address, credentials) as client:
            await solve(client, "run-chain", oci(proxy_dest="x.tar"))
        with pytest.raises(UnavailableError):
            async with BuildkitClient.connect(
                address, grpc.ssl_channel_credentials((tmp_path / "ca.pem").read_bytes())
            ):
                pass
        assert running.log.count("listening on") == 2
        with (
            proxy(directory / "tls3", f"tcp://127.0.0.1:{port}", *own) as distrusting,
            pytest.raises(UnavailableError, match="cannot reach buildkitd at tcp://127.0.0.1"),
        ):
            async with BuildkitClient.connect(distrusting.address):
                pass


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--take", "oci,nonesuch"), "--take: there is no exporter here for the types to be taken: nonesuch"),
        (("--exporter", "image"), "--exporter: 'image' is not of the form TYPE=ADDRESS"),
        (("--exporter", "image=x"), "--exporter: 'x' is not an address"),
        (("--buildkitd", "x"), "--buildkitd: 'x' is not an address"),
        (("--buildkitd-tlscert", "x"), "--buildkitd-tlscert and --buildkitd-tlskey belong together"),
        (("--buildkitd-tlscacert", "x"), "TLS is for servers on TCP, and --buildkitd names"),
        (("--exporter", "x=unix:///x", "--exporter-tlscacert", "x"), "--exporter names a Unix socket"),
        (("--tlscert", "x"), "--tlscert and --tlskey belong together"),
        (("--addr", "tcp://0.0.0.0:0"), "without TLS, anybody on the network"),
    ],
)
def test_wrong_usage(tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    done = run(tmp_path, "proxy", "--root", str(tmp_path / "root"), "--addr", f"unix://{tmp_path}/s", *words)
    assert done.status == 2, done.err
    assert message in done.err


async def test_other_services_are_relayed(strict: Proxy, daemon: str) -> None:
    """Metadata, statuses with their details, large messages and streams, of services that are not known."""
    method = "/containerd.services.content.v1.Content/Read"
    digest = read_json("run-chain", "oci/index.json")["manifests"][0]["digest"]
    answers = []
    for address in (strict.address, daemon):
        async with grpc.aio.insecure_channel(address.replace("unix://", "unix:")) as channel:
            content = ContentClient(channel)
            data = b"".join([piece async for piece in content.read(digest)])
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub(channel, method)(b"\x0a\x01x")
            with pytest.raises(grpc.aio.AioRpcError) as missing:
                await stub(channel, "/some.Service/Method")(b"x" * (1 << 20), timeout=PATIENCE)
            trailers = tuple(caught.value.trailing_metadata())
            answers.append(
                (data, caught.value.code(), caught.value.details(), trailers, missing.value.code())
            )
    assert answers[0] == answers[1]
    assert any(key == "grpc-status-details-bin" for key, _ in answers[0][3])


def stub(channel: grpc.aio.Channel, method: str) -> Any:
    return channel.unary_unary(method)
