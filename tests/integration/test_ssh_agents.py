"""SSH agents through a session, as OpenSSH's own programs see them, and in builds of a real daemon."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import grpc
import grpc.aio
import pytest

from exporter.client import BuildkitClient, Export, SolveError, SolveOptions, SSHAgent
from exporter.daemon.services.ssh import ID_KEY, SSHServicer
from exporter.daemon.ssh.agents import agents_by_id, open_agent
from exporter.errors import ExporterError
from exporter.pb.moby.sshforward.v1 import ssh_pb2, ssh_pb2_grpc
from tests.buildkit import own_buildkitd
from tests.integration.cli_process import wait_for
from tests.integration.dockerfiles import Case, write_context
from tests.peers import require
from tests.sessions import attached


@pytest.fixture
def short() -> Iterator[Path]:
    """A directory in which sockets fit."""
    directory = Path(tempfile.mkdtemp(prefix="bks-", dir="/tmp"))
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


def make_key(directory: Path, kind: str = "ed25519", name: str = "key") -> Path:
    path = directory / name
    command = [
        require("ssh-keygen", "openssh-client"),
        "-q",
        "-t",
        kind,
        "-N",
        "",
        "-C",
        "c",
        "-f",
        str(path),
    ]
    subprocess.run(command, check=True)
    return path


def public_part(key: Path) -> str:
    return " ".join(Path(f"{key}.pub").read_text().split()[:2])


@contextmanager
def ssh_agent(directory: Path, *keys: Path) -> Iterator[Path]:
    """An agent of OpenSSH that has keys."""
    path = directory / "agent.sock"
    process = subprocess.Popen(
        [require("ssh-agent", "openssh-client"), "-D", "-a", str(path)], stdout=subprocess.DEVNULL
    )
    try:
        wait_for(path.exists, process)
        for key in keys:
            subprocess.run(
                ["ssh-add", "-q", str(key)], env={**os.environ, "SSH_AUTH_SOCK": str(path)}, check=True
            )
        yield path
    finally:
        process.terminate()
        process.wait()


@asynccontextmanager
async def forwarded(directory: Path, agent: SSHAgent, wanted: str = "") -> AsyncIterator[Path]:
    """A socket in the way of BuildKit's, whose connections go through a session to an agent."""
    servicer = SSHServicer(await asyncio.to_thread(agents_by_id, [agent], {}))
    async with attached(servicer.register) as session:
        stub = ssh_pb2_grpc.SSHStub(session.channel)
        await stub.CheckAgent(ssh_pb2.CheckAgentRequest(ID=wanted))

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            async def requests() -> AsyncIterator[ssh_pb2.BytesMessage]:
                while data := await reader.read(7):  # in pieces
                    yield ssh_pb2.BytesMessage(data=data)

            async for message in stub.ForwardAgent(requests(), metadata=((ID_KEY, wanted),)):
                writer.write(message.data)
            writer.close()

        path = directory / "forwarded.sock"
        async with await asyncio.start_unix_server(serve, path):
            yield path


async def run(agent: Path, *command: str, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return await asyncio.to_thread(
        subprocess.run,
        command,
        input=data,
        env={**os.environ, "SSH_AUTH_SOCK": str(agent)},
        capture_output=True,
        check=False,
        timeout=30,
    )


async def test_a_raw_socket_passes_any_bytes(short: Path) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.readuntil(b"\n")).upper())
        await writer.drain()
        writer.close()

    path = short / "any.sock"
    async with (
        await asyncio.start_unix_server(answer, path),
        forwarded(short, SSHAgent("", [str(path)], is_raw=True)) as agent,
    ):
        reader, writer = await asyncio.open_unix_connection(agent)
        writer.write(b"not what an agent understands\n")
        assert await reader.read() == b"NOT WHAT AN AGENT UNDERSTANDS\n"
        writer.close()


async def test_a_raw_socket_that_is_an_agent(short: Path) -> None:
    key = make_key(short)
    with ssh_agent(short, key) as socket_path:
        async with forwarded(short, SSHAgent("", [str(socket_path)], is_raw=True)) as agent:
            listed = await run(agent, "ssh-add", "-L")
            assert public_part(key) in listed.stdout.decode()
            removed = await run(agent, "ssh-add", "-D")  # what builds may not do otherwise
            assert removed.returncode == 0, removed.stderr
        left = await run(socket_path, "ssh-add", "-L")
        assert b"no identities" in left.stdout


def test_raw_is_for_one_socket(short: Path) -> None:
    key = make_key(short)
    with pytest.raises(ExporterError, match="raw mode only supported with socket paths"):
        open_agent(SSHAgent("", [str(key)], is_raw=True), {})
    for paths in ([], ["a", "b"]):
        with pytest.raises(ExporterError, match="must supply exactly one socket path"):
            open_agent(SSHAgent("", paths, is_raw=True), {"SSH_AUTH_SOCK": str(key)})


async def sign_and_verify(directory: Path, agent: Path, key: Path) -> None:
    """Have ssh-keygen sign with the agent, which has the private key, and verify that."""
    data = b"what is signed"
    signer = directory / "signer.pub"  # without the private key beside it
    await asyncio.to_thread(shutil.copy, f"{key}.pub", signer)
    signed = await run(agent, "ssh-keygen", "-Y", "sign", "-n", "test", "-f", str(signer), data=data)
    assert signed.returncode == 0, signed.stderr
    (directory / "sig").write_bytes(signed.stdout)
    (directory / "allowed").write_text(f"me {public_part(key)}\n")
    verify = ["ssh-keygen", "-Y", "verify", "-n", "test", "-I", "me", "-f", str(directory / "allowed")]
    verified = await run(agent, *verify, "-s", str(directory / "sig"), data=data)
    assert verified.returncode == 0, verified.stderr


@pytest.mark.parametrize("kind", ["ed25519", "rsa", "ecdsa"])
async def test_key_files(short: Path, kind: str) -> None:
    key = make_key(short, kind)
    async with forwarded(short, SSHAgent(paths=[str(key)])) as agent:
        listed = await run(agent, "ssh-add", "-L")
        assert listed.stdout.decode().split()[:2] == public_part(key).split()
        await sign_and_verify(short, agent, key)


async def test_a_running_agent_can_be_used_but_not_changed(short: Path) -> None:
    key, other = make_key(short), make_key(short, name="other")
    with ssh_agent(short, key) as path:
        async with forwarded(short, SSHAgent("mine", [str(path)]), "mine") as agent:
            assert public_part(key) in (await run(agent, "ssh-add", "-L")).stdout.decode()
            await sign_and_verify(short, agent, key)
            for command in (["ssh-add", str(other)], ["ssh-add", "-D"], ["ssh-add", "-d", str(key)]):
                assert (await run(agent, *command)).returncode != 0, command
        left = (await run(path, "ssh-add", "-L")).stdout.decode()
        assert public_part(key) in left
        assert public_part(other) not in left


async def test_an_agent_that_ends(short: Path) -> None:
    with ssh_agent(short, make_key(short)) as path:
        opened = open_agent(SSHAgent(paths=[str(path)]), {})
        servicer = SSHServicer({"default": opened})
    async with attached(servicer.register) as session:
        stub = ssh_pb2_grpc.SSHStub(session.channel)

        async def requests() -> AsyncIterator[ssh_pb2.BytesMessage]:
            yield ssh_pb2.BytesMessage(data=b"\0\0\0\1\x0b")

        with pytest.raises(grpc.aio.AioRpcError, match="no SSH agent can be reached") as caught:
            [message async for message in stub.ForwardAgent(requests())]
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_unknown_ids_are_refused(short: Path) -> None:
    servicer = SSHServicer(agents_by_id([SSHAgent("mine", [str(make_key(short))])], {}))
    async with attached(servicer.register) as session:
        stub = ssh_pb2_grpc.SSHStub(session.channel)
        await stub.CheckAgent(ssh_pb2.CheckAgentRequest(ID="mine"))
        for name in ("", "other"):
            with pytest.raises(grpc.aio.AioRpcError, match=f"unset ssh forward key {name or 'default'}"):
                await stub.CheckAgent(ssh_pb2.CheckAgentRequest(ID=name))


@pytest.mark.parametrize("size", [256 * 1024 + 1, 0xFFFFFFFF])
async def test_frames_that_are_too_long(short: Path, size: int) -> None:
    servicer = SSHServicer(agents_by_id([SSHAgent(paths=[str(make_key(short))])], {}))
    async with attached(servicer.register) as session:

        async def requests() -> AsyncIterator[ssh_pb2.BytesMessage]:
            yield ssh_pb2.BytesMessage(data=size.to_bytes(4, "big"))

        with pytest.raises(grpc.aio.AioRpcError, match="too long"):
            [message async for message in ssh_pb2_grpc.SSHStub(session.channel).ForwardAgent(requests())]


def test_agents_that_cannot_be_used(short: Path) -> None:
    key = str(make_key(short))
    dead = str(short / "dead.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(dead)
    with ssh_agent(short) as path:
        for agents, environ, text in (
            ([SSHAgent()], {}, "there is no SSH agent: make sure SSH_AUTH_SOCK is set"),
            ([SSHAgent()], {"SSH_AUTH_SOCK": "/no/such"}, "/no/such: no such file or directory"),
            ([SSHAgent(paths=["/no/such"])], {}, "/no/such: no such file or directory"),
            ([SSHAgent(paths=[dead])], {}, f"no SSH agent can be reached at {dead}: connection refused"),
            ([SSHAgent(paths=[key, str(path)])], {}, "invalid combination of keys and sockets"),
            ([SSHAgent(paths=[dead, str(path)])], {}, "only single socket allowed"),
            ([SSHAgent("a", [key]), SSHAgent("a", [key])], {}, "duplicate agent ID 'a'"),
            ([SSHAgent("", [key]), SSHAgent("default", [key])], {}, "duplicate agent ID 'default'"),
        ):
            with pytest.raises(ExporterError, match=re.escape(text)):
                agents_by_id(agents, environ)
        assert agents_by_id([SSHAgent()], {"SSH_AUTH_SOCK": str(path)})["default"].socket == str(path)


@pytest.fixture(scope="module")
def buildkit() -> Iterator[str]:
    with own_buildkitd() as target:
        yield target


SSH_ADD = Case(
    "FROM scratch\nCOPY root /\nCOPY busybox /bin/sh\n"
    "RUN --mount=type=ssh,id=mine,required=true /usr/bin/ssh-add -L >/keys && ! /usr/bin/ssh-add -D\n",
    {"root/etc/passwd": b"root:x:0:0:root:/:/bin/sh\n"},
)


def ssh_add_context(directory: Path) -> Path:
    """A context with ssh-add and the libraries that it takes."""
    context = write_context(directory, SSH_ADD)
    program = require("ssh-add", "openssh-client")
    libraries = subprocess.run(["ldd", program], capture_output=True, check=True, text=True).stdout
    for path in (program, *re.findall(r"(/\S+) \(0x", libraries)):
        target = context / "root" / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    return context


@pytest.mark.parametrize("forwards", [False, True])
async def test_a_build_of_a_real_daemon(buildkit: str, short: Path, tmp_path: Path, forwards: bool) -> None:
    key = make_key(short, "rsa" if forwards else "ed25519")
    context = ssh_add_context(tmp_path / "context")
    options = SolveOptions(
        frontend="dockerfile.v0",
        frontend_attrs={"no-cache": ""},
        directories={"context": context, "dockerfile": context},
        exports=[Export("local", directory=tmp_path / "out")],
        ssh=[SSHAgent("mine", [str(key)])],
    )
    with ssh_agent(short, key) as path:
        if forwards:
            options = SolveOptions(
                frontend="dockerfile.v0",
                frontend_attrs={"no-cache": ""},
                directories=options.directories,
                exports=options.exports,
                ssh=[SSHAgent("mine", [str(path)])],
            )
        async with BuildkitClient.connect(buildkit) as client:
            await client.solve(options)
        assert public_part(key) in (await run(path, "ssh-add", "-L")).stdout.decode()
    assert " ".join((tmp_path / "out" / "keys").read_text().split()[:2]) == public_part(key)


async def test_a_build_without_its_agent(buildkit: str, tmp_path: Path, short: Path) -> None:
    context = write_context(tmp_path / "context", SSH_ADD)
    (context / "root").mkdir(exist_ok=True)
    options = SolveOptions(
        frontend="dockerfile.v0",
        directories={"context": context, "dockerfile": context},
        ssh=[SSHAgent("other", [str(make_key(short))])],
    )
    async with BuildkitClient.connect(buildkit) as client:
        with pytest.raises(SolveError, match="unset ssh forward key mine"):
            await client.solve(options)
