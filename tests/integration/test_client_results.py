"""What `exporter.client.Client` does with results and records of a real buildkitd."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from exporter.client import (
    BuildError,
    Client,
    DirectoryOutput,
    Event,
    FileKind,
    HistoryChange,
    ProcessError,
    StepChanged,
    StepOutput,
    llb,
    sync,
)
from exporter.errors import ExporterError, InvalidArgumentError, NotFoundError
from tests.buildkit import own_buildkitd
from tests.integration.client_contexts import SHELL, files
from tests.sessions import PATIENCE


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with own_buildkitd() as target:
        yield target


@pytest.fixture
async def client(address: str) -> AsyncIterator[Client]:
    async with Client(address) as client:
        yield client


LINKS = "".join(f"COPY busybox /bin/{name}\n" for name in ("sh", "mkdir", "ln", "chmod", "cat", "touch"))
DOCKERFILE = (
    f"FROM scratch\n{LINKS}"
    "RUN mkdir -p /d/sub; echo hello >/d/file; ln -s file /d/link; chmod 4711 /d/file; echo made\n"
)


async def test_files_are_read_without_an_export(client: Client) -> None:
    context = files(DOCKERFILE)
    async with client.open(context) as built:
        assert await built.read("/d/file") == b"hello\n"
        assert await built.read("d/link", offset=1, length=3) == b"ell"
        assert [(info.path, info.kind) for info in await built.list("/d")] == [
            ("/d/file", FileKind.FILE),
            ("/d/link", FileKind.SYMLINK),
            ("/d/sub", FileKind.DIRECTORY),
        ]
        assert [info.name for info in await built.list("/d", pattern="f*")] == ["file"]
        info = await built.stat("/d/file")
        assert (info.mode, info.size, info.uid, info.kind) == (0o4711, 6, 0, FileKind.FILE)
        assert (await built.stat("/d/link")).link == "file"
        assert await built.exists("/d/sub") and not await built.exists("/d/other")
        with pytest.raises(NotFoundError, match="/nope: there is no such file in the result"):
            await built.read("/nope")
        busybox = await built.read("/bin/sh")
    assert busybox == context["busybox"].data  # type: ignore[union-attr]
    assert built.result is not None and built.result.ref == built.ref
    assert (await client.record(built.ref)).error == ""


async def test_an_empty_result_has_no_files(client: Client) -> None:
    async with client.open({"Dockerfile": "FROM scratch\nENV A=1\n"}) as built:
        assert await built.list() == []
        assert b'"A=1"' in built.metadata["containerimage.config"]
        with pytest.raises(NotFoundError, match="the result has no files"):
            await built.read("/a")


async def test_processes_run_in_the_file_system_of_the_result(client: Client) -> None:
    async with client.open(files(DOCKERFILE)) as built:
        done = await built.run("echo to stdout $X; echo to stderr >&2; exit 7", env={"X": "1"}, cwd="/d")
        assert (done.exit_code, done.stdout, done.stderr) == (7, b"to stdout 1\n", b"to stderr\n")
        with pytest.raises(ProcessError, match="exit code 7: to stderr") as failure:
            done.check()
        assert failure.value.completed is done
        pieces: list[tuple[int, bytes]] = []
        large = bytes(range(256)) * 1000
        echoed = await built.run(["/bin/cat"], input=large, on_output=lambda *piece: pieces.append(piece))
        assert echoed.stdout == large == b"".join(data for fd, data in pieces if fd == 1)
        await built.run("touch /made", check=True)
        assert not await built.exists("/made")
        with pytest.raises(ExporterError, match="/bin/nope"):
            await built.run(["/bin/nope"], check=True)
        several = await asyncio.gather(*(built.run(f"echo {number}") for number in range(5)))
        assert [each.stdout for each in several] == [b"%d\n" % number for number in range(5)]


async def test_a_process_is_cancelled_with_its_task(client: Client) -> None:
    async with asyncio.timeout(PATIENCE), client.open(files(DOCKERFILE)) as built:
        started = asyncio.Event()
        command = "echo started; read x </dev/zero; while true; do read x </dev/zero; done"
        task = asyncio.create_task(built.run(command, on_output=lambda *_: started.set()))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await built.exists("/d")


async def test_outputs_are_made_at_the_end_of_the_block(client: Client, tmp_path: Path) -> None:
    output = DirectoryOutput(tmp_path / "out")
    async with client.open(files("FROM scratch\nCOPY a /\n", a="1"), outputs=output) as built:
        assert await built.read("/a") == b"1"
        assert not (tmp_path / "out").exists()
    assert (tmp_path / "out" / "a").read_text() == "1"
    with pytest.raises(LookupError):
        other = DirectoryOutput(tmp_path / "other")
        async with client.open(files("FROM scratch\nCOPY a /\n", a="1"), outputs=other):
            raise LookupError
    assert not (tmp_path / "other").exists()
    assert not client.running


async def test_a_build_that_fails_has_no_result(client: Client) -> None:
    with pytest.raises(BuildError, match="exit code: 4") as failure:
        async with client.open(files(SHELL + "RUN exit 4\n")):
            pytest.fail("there is no result")
    assert failure.value.exit_code == 4 and "RUN exit 4" in failure.value.vertex_name


async def test_llb_with_directories_in_memory(client: Client) -> None:
    state = llb.scratch().copy(llb.local("src"), "/", "/").make_file("/made", b"2")
    async with client.open_llb(state, directories={"src": {"a": "1"}}) as built:
        assert [info.path for info in await built.list()] == ["/a", "/made"]
    result = await client.solve(state, directories={"src": {"a": "1"}})
    assert result.cached


async def test_llb_with_mounts_secrets_and_changes_of_files(client: Client) -> None:
    tools = llb.local("tools")
    base = llb.scratch().file(
        llb.MakeDirectory(path="/bin"),
        llb.Copy(source=tools, src="/busybox", dest="/bin/sh", mode=0o755),
        llb.Copy(source=tools, src="/busybox", dest="/bin/cat", mode=0o755),
    )
    built = base.run(
        "cat /src/a /run/secrets/s >/made; echo $TOKEN >>/made; echo kept >/cache/x; exit 3",
        mounts=[
            llb.BindMount("/src", llb.scratch().make_file("/a", b"from a mount\n")),
            llb.CacheMount("/cache", "a-cache"),
            llb.TmpfsMount("/tmp"),
            llb.SecretMount("/run/secrets/s", "s"),
        ],
        secret_env={"TOKEN": "token"},
        network="none",
        valid_exit_codes=[3],
        name="making it",
    )
    merged = llb.merge([llb.diff(base, built), llb.scratch().make_dir("/d").link("/l", "made").remove("/d")])
    events: list[Event] = []
    opening = client.open_llb(
        merged,
        directories={"tools": files("")},
        secrets={"s": "a secret\n", "token": lambda: "a token"},
        on_event=events.append,
    )
    async with opening as tree:
        assert await tree.read("/l") == b"from a mount\na secret\na token\n"
        assert not await tree.exists("/bin/sh") and not await tree.exists("/d")
    assert "making it" in {event.step.name for event in events if isinstance(event, StepChanged)}


async def test_a_definition_says_itself_what_a_frontend_would(client: Client) -> None:
    with pytest.raises(InvalidArgumentError, match="args is an option of the Dockerfile frontend"):
        await client.solve(llb.scratch().make_file("/a", b""), args={"A": "1"})
    with pytest.raises(InvalidArgumentError, match="the empty state has no definition"):
        await client.solve(llb.scratch())
    with pytest.raises(NotFoundError, match=r"directories\[x\]: /nowhere is not a directory"):
        await client.solve(llb.local("x"), directories={"x": "/nowhere"})


async def test_history(client: Client) -> None:
    result = await client.build(files(SHELL + "RUN echo kept in the history\n"))
    assert result.ref in {record.ref for record in await client.history()}
    record = await client.record(result.ref)
    assert record.completed_at is not None and record.logs is not None
    assert b"kept in the history\n" in await client.logs(result.ref)
    events = [event async for event in client.events(result.ref)]
    assert any(isinstance(event, StepOutput) for event in events)
    await client.pin(result.ref)
    assert (await client.record(result.ref)).is_pinned
    await client.pin(result.ref, pinned=False)
    await client.delete_record(result.ref)
    with pytest.raises(NotFoundError, match=f"there is no build {result.ref}"):
        await client.record(result.ref)
    with pytest.raises(NotFoundError):
        await client.attestations(result.ref)


async def test_the_history_is_followed(client: Client) -> None:
    past = await client.build({"Dockerfile": "FROM scratch\nENV A=1\n"})
    is_watching = asyncio.Event()
    changes: list[tuple[HistoryChange, str]] = []

    async def watch() -> None:
        async for change, record in client.watch_history():
            changes.append((change, record.ref))
            is_watching.set()
            if (change, record.ref) == (HistoryChange.COMPLETE, "next"):
                return

    async with asyncio.timeout(PATIENCE):
        watching = asyncio.create_task(watch())
        await is_watching.wait()
        await client.build({"Dockerfile": "FROM scratch\nENV A=2\n"}, ref="next")
        await watching
    assert (HistoryChange.COMPLETE, past.ref) in changes
    assert changes.index((HistoryChange.STARTED, "next")) < changes.index((HistoryChange.COMPLETE, "next"))


async def test_another_client_s_running_build_is_followed(address: str, client: Client) -> None:
    async with Client(address) as other, asyncio.timeout(PATIENCE):
        building = asyncio.create_task(other.build(files(SHELL + "RUN echo followed\n"), ref="followed"))
        assert b"followed\n" in await client.logs("followed")
        await building


async def test_pruning_with_filters(client: Client) -> None:
    await client.build(files(SHELL + "RUN echo pruned >/pruned\n"))
    before = await client.disk_usage()
    steps = {key for key, record in before.items() if "echo pruned" in record.description}
    assert steps
    removed = await client.prune("type==exec.cachemount")
    assert all(record.description.startswith("cached mount") for record in removed)
    assert steps <= (await client.disk_usage()).keys()
    removed = await client.prune(all=True)
    assert steps <= {record.id for record in removed}
    assert not steps & (await client.disk_usage()).keys()
    with pytest.raises(ExporterError, match="pruning the cache"):
        await client.prune("not a filter ==")


def test_the_blocking_client_has_the_same(address: str, tmp_path: Path) -> None:
    with sync.Client(address) as client:
        with client.open(files(DOCKERFILE), outputs=DirectoryOutput(tmp_path / "out")) as built:
            assert built.read("/d/file") == b"hello\n"
            assert built.exists("/d/link") and built.stat("/d/link").link == "file"
            assert len(built.list("/d")) == 3
            assert built.run("echo $0", check=True).stdout == b"/bin/sh\n"
        assert built.result is not None and (tmp_path / "out" / "d" / "file").exists()
        with pytest.raises(LookupError), client.open(files(DOCKERFILE)):
            raise LookupError
        assert not client.running
        assert b"made\n" in client.logs(built.ref) or client.record(built.ref).cached_steps
        assert list(client.events(built.ref))
        change, record = next(client.watch_history())
        assert record.ref and change is not HistoryChange.DELETED
        state = llb.scratch().make_file("/a", b"")
        with client.open_llb(state) as tree:
            assert tree.exists("/a")
        assert client.solve(state).steps
        client.pin(built.ref)
        client.delete_record(built.ref)
        client.prune(all=True)
