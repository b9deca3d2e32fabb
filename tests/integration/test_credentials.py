"""Whose credentials a push shows: those of the client that asked, by its session, and nobody else's.

The registries are docker-registry's, with users and passwords or with a token server. The operator of the
proxy and of the plugin server has a login for them, which counts only where the operator says so.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

import pytest

from exporter.client import BuildkitClient, Export, SolveError, SolveOptions
from exporter.daemon.services.auth import AuthServicer
from exporter.remotes.registry import Credentials, RegistryOptions, StaticCredentials
from tests.builds import read_json, scenario
from tests.integration.cli_process import server
from tests.integration.fakedaemon.harness import Daemon, Server
from tests.integration.fakedaemon.requests import saved_request
from tests.integration.proxied import Proxy, proxy
from tests.integration.registry.guarded import PASSWORD, Guarded, guarded, log_in, nothing_secret_in
from tests.integration.simulator import SCENARIO
from tests.integration.test_proxy import simulator

BUILD = "scratch-copy-image"
DIGEST = read_json(BUILD, "result.json")["exporter_response"]["containerimage.digest"]
JO = Credentials("jo", PASSWORD)
NOBODY = Credentials()


@pytest.fixture(params=["passwords", "tokens"])
async def registry(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Guarded]:
    async with guarded(tmp_path / "registry", request.param) as running:
        yield running


@pytest.fixture
async def other(registry: Guarded, tmp_path: Path) -> AsyncIterator[Guarded]:
    """A registry of the same kind."""
    kind = "passwords" if registry.tokens is None else "tokens"
    async with guarded(tmp_path / "other", kind) as running:
        yield running


@pytest.fixture
def home() -> Iterator[Path]:
    """An operator's, in a short place for sockets."""
    directory = Path(tempfile.mkdtemp(prefix="bke-", dir="/tmp"))
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


# Through the proxy


@pytest.fixture(scope="module")
def daemon() -> Iterator[str]:
    directory = Path(tempfile.mkdtemp(prefix="bke-", dir="/tmp"))
    with simulator(directory / "daemon") as address:
        yield address
    shutil.rmtree(directory, ignore_errors=True)


async def build(address: str, name: str, login: Credentials | None, *, leaves_tokens: bool = False) -> None:
    """Build and push, as a client with this login; None is a client without credentials of any kind."""
    host = name.partition("/")[0]
    registries = RegistryOptions(credentials=StaticCredentials({} if login is None else {host: login}))
    exports = [Export("plugin.image", {"name": name, "push": "true"})]
    attrs = {SCENARIO: BUILD}
    options = SolveOptions(frontend="simulated", frontend_attrs=attrs, exports=exports, registries=registries)
    environ: Mapping[str, str] = {"BUILDKIT_NO_CLIENT_TOKEN": "1"} if leaves_tokens else {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "exporter.client.build_session.AuthServicer", lambda options: AuthServicer(options, environ)
        )
        async with BuildkitClient.connect(address) as client:
            result = await client.solve(options)
    assert result.response["containerimage.digest"] == DIGEST


@pytest.fixture(params=["here", "on a plugin server"])
def exporting(request: pytest.FixtureRequest, home: Path) -> Iterator[list[str]]:
    """Options of the proxy that say where exports run."""
    if request.param == "here":
        yield []
    else:
        (home / "s").mkdir()
        with server(home / "s", "--debug") as address:
            yield ["--exporter", f"image={address}"]
        nothing_secret_in((home / "s" / "server.log").read_text())


@pytest.mark.parametrize("leaves_tokens", [False, True])
async def test_the_client_s_login(
    registry: Guarded, daemon: str, home: Path, exporting: list[str], leaves_tokens: bool
) -> None:
    log_in(home, registry)
    with proxy(home, daemon, "--debug", *exporting) as running:
        await build(running.address, f"{registry.host}/jo/app:v1", JO, leaves_tokens=leaves_tokens)
        assert registry.users() == {"jo"}
        assert registry.has("jo/app")
        await refused(running, registry, NOBODY, leaves_tokens=leaves_tokens)
        await refused(running, registry, Credentials("jo", "wrong"), leaves_tokens=leaves_tokens)
    nothing_secret_in(running.log)


async def refused(
    running: Proxy, registry: Guarded, login: Credentials, *, leaves_tokens: bool = False
) -> None:
    """A client is refused although others were not, and although the operator would not be."""
    with pytest.raises(SolveError, match=f"docker login {registry.host}") as caught:
        await build(running.address, f"{registry.host}/no/app:v1", login, leaves_tokens=leaves_tokens)
    assert "failed to push" in str(caught.value)
    assert registry.users() == ({login.username} - {""})
    assert not registry.has("no/app")
    nothing_secret_in(str(caught.value))


async def test_the_operator_s_login_if_the_server_lends_it(
    registry: Guarded, other: Guarded, daemon: str, home: Path, exporting: list[str]
) -> None:
    log_in(home, registry, other)
    with proxy(home, daemon, "--debug", *exporting, "--operator-credentials", registry.host) as running:
        await build(running.address, f"{registry.host}/app:v1", NOBODY)
        await build(running.address, f"{registry.host}/app:v2", JO)
        assert registry.users() == {"ops"}
        assert registry.has("app")
        await refused(running, other, NOBODY)
        await build(running.address, f"{other.host}/app:v1", JO)
        assert other.users() == {"jo"}
    nothing_secret_in(running.log)


# On a plugin server


async def push(
    daemon: Daemon, registry: Guarded, login: Credentials | None, repository: str
) -> tuple[str, str]:
    """Push through a server, as a daemon whose client has this login; returns the status and its text."""
    logins = None if login is None else {registry.host: (login.username, login.password)}
    session = uuid.uuid4().hex  # the server may not have noticed yet that an earlier one has ended
    await daemon.do("attach", session=session, saved=str(scenario(BUILD)), logins=logins)
    attrs = {"name": f"{registry.host}/{repository}:v1", "push": "true"}
    request = await saved_request(scenario(BUILD), "image", inline=False, session=session, attrs=attrs)
    outcome = await daemon.finalize((await daemon.export(request)).token)
    await daemon.do("detach", session=session)
    nothing_secret_in(outcome.message)
    return outcome.code, outcome.message


def log_of(running: Server) -> str:
    return json.dumps(running.records) + "\n".join(running.noise)


async def test_the_login_of_a_session(registry: Guarded, home: Path) -> None:
    config = log_in(home, registry)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DOCKER_CONFIG", str(config.parent))
        async with Server.running("--debug") as running, Daemon.connected(running.address) as daemon:
            assert (await push(daemon, registry, JO, "jo"))[0] == "OK"
            assert registry.users() == {"jo"}
            assert registry.has("jo")
            for login in (NOBODY, None):
                code, message = await push(daemon, registry, login, "no")
                assert code == "PERMISSION_DENIED"
                assert f"docker login {registry.host}" in message
                assert registry.users() == set()
                assert not registry.has("no")
    nothing_secret_in(log_of(running))


async def test_a_server_lends_only_the_registries_it_names(
    registry: Guarded, other: Guarded, home: Path
) -> None:
    words = ("--registry-config", str(log_in(home, registry, other)), "--operator-credentials", registry.host)
    async with Server.running("--debug", *words) as running, Daemon.connected(running.address) as daemon:
        assert (await push(daemon, registry, None, "app"))[0] == "OK"
        assert registry.users() == {"ops"}
        assert (await push(daemon, other, None, "no"))[0] == "PERMISSION_DENIED"
        assert other.users() == set()
        assert not other.has("no")
        assert (await push(daemon, other, JO, "jo"))[0] == "OK"
        assert other.users() == {"jo"}
    nothing_secret_in(log_of(running))


async def test_a_session_that_has_ended(registry: Guarded, home: Path) -> None:
    """Its login goes with it; one that comes again under its name is asked."""
    async with (
        Server.running("--session-timeout", "0.2") as running,
        Daemon.connected(running.address) as daemon,
    ):
        await daemon.do(
            "attach", session="s", saved=str(scenario(BUILD)), logins={registry.host: ("jo", PASSWORD)}
        )
        attrs = {"name": f"{registry.host}/app:v1", "push": "true"}
        request = await saved_request(scenario(BUILD), "image", inline=False, session="s", attrs=attrs)
        token = (await daemon.export(request)).token
        await daemon.do("detach", session="s")
        outcome = await daemon.finalize(token)
        assert outcome.code == "UNAVAILABLE"
        assert "no active session s" in outcome.message
        await daemon.do("attach", session="s", logins={registry.host: ("jo", PASSWORD)})
        assert (await daemon.finalize(token)).code == "OK"
    assert registry.users() == {"jo"}
    assert registry.has("app")
