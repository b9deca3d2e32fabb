"""Between Export and Finalize."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import grpc.aio
import pytest

from exporter.pb.buildkit.exporter.v1 import exporter_pb2 as pb
from exporter.progress.model import StatusUpdate
from exporter.remotes.registry import RegistryOptions
from exporter.source.types import BuildInfo, Source
from exporter.takeover.backend import Destination, RegistryAccess
from exporter.takeover.plugin_server import PluginBackend
from tests.integration.fakedaemon.harness import Daemon, Server, alive, eventually, nothing_left
from tests.integration.fakedaemon.requests import export_request

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with Server.running() as running:
        yield running


@pytest.fixture
async def daemon(server: Server) -> AsyncIterator[Daemon]:
    async with Daemon.connected(server.address) as connected:
        yield connected


def request(control: Path, **attrs: str) -> pb.ExportRequest:
    return export_request("test-finalizing", session="s", attrs={"control": str(control), **attrs})


async def test_finalize_publishes_once_and_answers_again(
    server: Server, daemon: Daemon, tmp_path: Path
) -> None:
    before = await alive(daemon)
    exported = await daemon.export(request(tmp_path))
    assert exported.response == {"made": "it"}
    assert not (tmp_path / "published").exists(), "publishing is the second step"
    first = await daemon.finalize(exported.token)
    assert first.response == {"attempts": "1"}
    assert (tmp_path / "published").read_bytes() == b"published"
    assert {vertex.digest for vertex in first.vertexes} == {vertex.digest for vertex in exported.vertexes}
    assert first.vertexes[-1].HasField("completed")
    await nothing_left(server, daemon, before)
    assert (await daemon.finalize(exported.token)).response == first.response


async def test_finalize_can_be_tried_again_after_a_failure(daemon: Daemon, tmp_path: Path) -> None:
    token = (await daemon.export(request(tmp_path, failures="2"))).token
    for attempt in (1, 2):
        outcome = await daemon.finalize(token)
        assert (outcome.code, outcome.message) == ("UNAVAILABLE", f"attempt {attempt} failed")
        assert outcome.vertexes[-1].error == f"attempt {attempt} failed"
    assert (await daemon.finalize(token)).response == {"attempts": "3"}


async def test_finalizations_of_one_token_take_turns(daemon: Daemon, tmp_path: Path) -> None:
    token = (await daemon.export(request(tmp_path, failures="1"))).token
    outcomes = await asyncio.gather(*(daemon.finalize(token) for _ in range(5)))
    codes = sorted(outcome.code for outcome in outcomes)
    assert codes == ["OK", "OK", "OK", "OK", "UNAVAILABLE"]
    assert all(outcome.response == {"attempts": "2"} for outcome in outcomes if outcome.code == "OK")


async def test_a_cancelled_finalization_can_be_repeated(daemon: Daemon, tmp_path: Path) -> None:
    token = (await daemon.export(request(tmp_path, wait="yes"))).token
    call = asyncio.create_task(daemon.finalize(token, key="it"))
    await eventually((tmp_path / "finalizing").exists)
    await daemon.do("cancel", key="it")
    assert (await call).code == "CANCELLED"
    await eventually((tmp_path / "waited").exists)  # the server hears of it later than the caller
    assert not (tmp_path / "published").exists()
    (tmp_path / "publish").touch()
    assert (await daemon.finalize(token)).response == {"attempts": "2"}


async def test_a_token_can_be_released(server: Server, daemon: Daemon, tmp_path: Path) -> None:
    before = await alive(daemon)
    token = (await daemon.export(request(tmp_path))).token
    assert server.leftovers()
    for _ in range(2):
        assert (await daemon.do("release", token=token))["code"] == "OK"
        assert not server.leftovers(), "gone when the call returns"
    assert (await daemon.finalize(token)).code == "NOT_FOUND"
    assert not (tmp_path / "published").exists()
    await nothing_left(server, daemon, before)


async def test_a_release_waits_for_the_finalization(daemon: Daemon, tmp_path: Path) -> None:
    token = (await daemon.export(request(tmp_path, wait="yes"))).token
    finalizing = asyncio.create_task(daemon.finalize(token))
    await eventually((tmp_path / "finalizing").exists)
    releasing = asyncio.create_task(daemon.do("release", token=token))
    # A call that comes before the release waits for the first one, too.
    while (await daemon.finalize(token, timeout=0.2)).code != "NOT_FOUND":
        pass
    assert not releasing.done()
    (tmp_path / "publish").touch()
    assert (await finalizing).response == {"attempts": "1"}
    assert (await releasing)["code"] == "OK"


async def test_the_end_of_the_session_releases_a_token(
    server: Server, daemon: Daemon, tmp_path: Path
) -> None:
    before = await alive(daemon)
    await daemon.do("attach", session="s", files={})
    bound = request(tmp_path)
    bound.release_with_session = True
    tokens = [(await daemon.export(message)).token for message in (bound, request(tmp_path))]
    assert (await daemon.do("release", token=tokens.pop()))["code"] == "OK"
    assert server.leftovers()
    await daemon.do("detach", session="s")
    await nothing_left(server, daemon, before)
    assert (await daemon.finalize(tokens[0])).code == "NOT_FOUND"
    assert not (tmp_path / "published").exists()


async def test_a_token_outlives_its_session(daemon: Daemon, tmp_path: Path) -> None:
    await daemon.do("attach", session="s", files={})
    token = (await daemon.export(request(tmp_path))).token
    await daemon.do("detach", session="s")
    assert (await daemon.finalize(token)).response == {"attempts": "1"}


async def test_release_with_session_needs_a_session(daemon: Daemon, tmp_path: Path) -> None:
    message = request(tmp_path)
    message.release_with_session = True
    message.build.session_id = ""
    outcome = await daemon.export(message)
    assert (outcome.code, outcome.field) == ("INVALID_ARGUMENT", "release_with_session")


@pytest.mark.parametrize("token", ["", "unknown", "x" * 10_000])
async def test_an_unknown_token_is_not_found(daemon: Daemon, token: str) -> None:
    outcome = await daemon.finalize(token)
    assert (outcome.code, outcome.field) == ("NOT_FOUND", "finalize_token")


async def test_an_expired_token_releases_its_resources(tmp_path: Path) -> None:
    async with (
        Server.running("--finalize-ttl", "0.3") as server,
        Daemon.connected(server.address) as daemon,
    ):
        before = await alive(daemon)
        token = (await daemon.export(request(tmp_path))).token
        await nothing_left(server, daemon, before)
        assert (await daemon.finalize(token)).code == "NOT_FOUND"
        assert not (tmp_path / "published").exists()
        await server.logged("never published")


async def test_a_token_of_a_disconnected_caller_is_released(
    server: Server, daemon: Daemon, tmp_path: Path
) -> None:
    before = await alive(daemon)
    async with Daemon.connected(server.address) as doomed:
        await doomed.export(request(tmp_path))
        await doomed.kill()
    assert server.leftovers(), "the token has not expired"
    assert (await alive(daemon)).tasks == before.tasks


async def test_a_shutdown_lets_a_daemon_finalize(tmp_path: Path) -> None:
    async with Server.running() as server, Daemon.connected(server.address) as daemon:
        exported = await daemon.export(request(tmp_path))
        server.signal(signal.SIGTERM)
        await server.logged("shutting down")
        assert (await daemon.finalize(exported.token)).response == {"attempts": "1"}
        assert await server.ended() == 0
        assert (tmp_path / "published").exists()
        assert not server.leftovers()


async def test_a_shutdown_releases_tokens_that_are_not_finalized(tmp_path: Path) -> None:
    async with Server.running() as server, Daemon.connected(server.address) as daemon:
        await daemon.export(request(tmp_path))
        assert await server.stop() == 0
        assert not server.leftovers()
        assert not (tmp_path / "published").exists()


async def test_our_client_releases_discarded_tokens(server: Server, tmp_path: Path) -> None:
    updates: list[StatusUpdate] = []
    async with grpc.aio.insecure_channel(server.address) as channel:
        backend = PluginBackend(channel, server.address, "test")
        exported = await backend.export(
            2,
            "test-finalizing",
            {"control": str(tmp_path)},
            source=Source(),
            build=BuildInfo(),
            destination=Destination(),
            access=RegistryAccess(RegistryOptions().credentials),
            sink=updates.append,
        )
        assert server.leftovers()
        await backend.discard(exported.token)
        assert not server.leftovers()
    [digest] = {vertex.digest for update in updates for vertex in update.vertexes}
    assert digest.startswith("sha256:"), "the client has filled it in"
