"""How `exporter.client.Client` reaches a real buildkitd: TLS, connection helpers, registries, SSH agents."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from exporter.client import TLS, BuildError, Client, ImageOutput, OCIOutput, StepOutput, sync
from exporter.errors import InvalidArgumentError, UnavailableError
from exporter.remotes.registry import Credentials
from tests.buildkit import mortal_buildkitd, own_buildkitd, require_buildkit
from tests.certificates import SERVER_NAME, make_certificates
from tests.integration.client_contexts import SHELL, files
from tests.integration.registry.tokens import token_server
from tests.integration.registry_peer import docker_registry, free_port
from tests.peers import require

CONTEXT = {"Dockerfile": "FROM scratch\nCOPY a /a\n", "a": "1"}


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with own_buildkitd() as target:
        yield target


@pytest.fixture
def programs(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stands for docker, kubectl, podman and ssh: a program that only runs ``buildctl dial-stdio`` here.

    Returns:
        The file that has the arguments of each call.
    """
    buildctl = require_buildkit("buildctl")
    log = tmp_path / "calls"
    for name in ("docker", "kubectl", "podman", "ssh", "nerdctl"):
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(
            f'#!/bin/sh\necho "{name} $*" >>{log}\nexec {buildctl} --addr {address} dial-stdio\n'
        )
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    return log


def calls(log: Path) -> list[str]:
    """The arguments of each call."""
    return log.read_text().splitlines()


def kill_helpers() -> None:
    """Kill the connection helpers of this process."""
    for child in Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split():
        if b"dial-stdio" in Path(f"/proc/{child}/cmdline").read_bytes():
            os.kill(int(child), signal.SIGKILL)


@pytest.mark.parametrize(
    "helper",
    [
        "docker-container://builder?context=far",
        "podman-container://builder",
        "nerdctl-container://builder",
        "kube-pod://builder-0?namespace=n",
        "ssh://me@host:2222",
    ],
)
async def test_builds_through_connection_helpers(programs: Path, helper: str) -> None:
    async with Client(helper) as client:
        assert (await client.build(CONTEXT)).steps
        results = await asyncio.gather(*(client.build({**CONTEXT, "a": str(n)}) for n in range(4)))
        assert len({result.ref for result in results}) == 4
        with pytest.raises(BuildError, match="unknown instruction"):
            await client.build({"Dockerfile": "FOO\n"})
    [call] = calls(programs)
    assert "dial-stdio" in call
    assert not [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]


async def test_a_helper_that_ends_is_started_again(programs: Path) -> None:
    client = Client("docker-container://builder")
    await client.connect()
    kill_helpers()
    while True:  # until the loss is noticed
        try:
            assert await client.workers()
            break
        except UnavailableError:
            await asyncio.sleep(0.01)
    await client.close()
    assert len(calls(programs)) == 2


async def test_a_helper_that_fails_tells_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "docker"
    program.write_text("#!/bin/sh\necho 'Error response from daemon: No such container: b' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    with pytest.raises(
        UnavailableError,
        match=r"(?s)docker-container://b: `docker exec -i b buildctl dial-stdio` has ended with status 1: "
        "Error response from daemon: No such container: b",
    ):
        await Client("docker-container://b").connect()
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    with pytest.raises(UnavailableError, match="is podman installed"):
        await Client("podman-container://b").connect()


@pytest.fixture(scope="module")
def tls_daemon() -> Iterator[tuple[str, Path]]:
    with tempfile.TemporaryDirectory(prefix="bke-", dir="/tmp", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        make_certificates(directory)
        address = f"tcp://127.0.0.1:{free_port()}"
        more = ["--addr", address, "--tlscacert", f"{name}/ca.pem"]
        more += ["--tlscert", f"{name}/server.pem", "--tlskey", f"{name}/server.key"]
        with mortal_buildkitd(directory, *more):
            yield address, directory


async def test_tls_with_client_certificates(tls_daemon: tuple[str, Path]) -> None:
    address, files_ = tls_daemon
    tls = TLS(cacert=files_ / "ca.pem", cert=files_ / "client.pem", key=files_ / "client.key")
    async with Client(address, tls=tls) as client:
        assert (await client.build(CONTEXT)).steps
    named = TLS(
        cacert=files_ / "ca.pem",
        cert=files_ / "client.pem",
        key=files_ / "client.key",
        servername=SERVER_NAME,
    )
    async with Client(address, tls=named) as client:
        assert await client.workers()


async def test_mistakes_with_tls(tls_daemon: tuple[str, Path], address: str) -> None:
    target, files_ = tls_daemon

    async def reason(tls: TLS | None, to: str = target) -> str:
        with pytest.raises((UnavailableError, InvalidArgumentError)) as failure:
            await Client(to, tls=tls).connect()
        return failure.value.message

    assert "it asks clients for a certificate: give one with TLS.cert" in await reason(
        TLS(cacert=files_ / "ca.pem")
    )
    assert "TLS.cacert" in await reason(TLS(cert=files_ / "client.pem", key=files_ / "client.key"))
    assert "cert and TLS.key belong together" in await reason(TLS(cert=files_ / "client.pem"))
    assert "cannot be used" in await reason(TLS(cacert=files_ / "ca.key"))
    assert "TLS is for tcp://HOST:PORT" in await reason(TLS(), address)
    assert "it speaks TLS" in await reason(None)


async def test_credentials_come_from_a_function(address: str, tmp_path: Path) -> None:
    asked = []

    async def login(host: str) -> Credentials | tuple[str, str] | None:
        asked.append(host)
        return ("jo", "s3cret")

    for name in ("tokens", "registry"):
        (tmp_path / name).mkdir()
    async with (
        token_server(tmp_path / "tokens") as tokens,
        docker_registry(tmp_path / "registry", auth=tokens.settings) as host,
    ):
        image = f"{host}/private/image:v1"
        async with Client(address, auth=login) as client:
            result = await client.build(CONTEXT, tags=image, outputs=ImageOutput(push=True))
            assert result.names == (image,) and result.digest
        async with Client(address, auth={host: None}) as client:
            with pytest.raises(BuildError, match="insufficient_scope|anonymous"):
                await client.build(CONTEXT, tags=image, outputs=ImageOutput(push=True))
            pulled = await client.build(
                {"Dockerfile": f"FROM {image}\n"}, auth={host: ("jo", "s3cret")}, pull=True
            )
            assert pulled.steps
    assert set(asked) == {host}


def test_ssh_keys_are_offered_to_steps(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keygen = require("ssh-keygen", "openssh-client")
    key = tmp_path / "key"
    subprocess.run([keygen, "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    dockerfile = SHELL + "RUN --mount=type=ssh,id=mine test -S $SSH_AUTH_SOCK && echo there is a socket\n"
    texts: list[str] = []
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    with sync.Client(address) as client:
        client.build(
            files(dockerfile),
            ssh={"mine": key},
            on_event=lambda event: texts.append(event.text) if isinstance(event, StepOutput) else None,
        )
        assert texts == ["there is a socket\n"]
        with pytest.raises(InvalidArgumentError, match="there is no SSH agent"):
            client.build(files(dockerfile), ssh=True)
        with pytest.raises(BuildError, match="unset ssh forward key mine"):
            client.build(files(dockerfile.replace("=mine", "=mine,required")), ssh={"other": key})


def test_the_fixtures_run_a_daemon_of_the_tests_own(buildkit_client: sync.Client, buildkitd: str) -> None:
    assert buildkit_client.address == buildkitd
    result = buildkit_client.build(CONTEXT, outputs=OCIOutput(dest=io.BytesIO()))
    assert result.digest.startswith("sha256:")
