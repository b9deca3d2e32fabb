"""`exporter.client.Client`, with a real buildkitd."""

from __future__ import annotations

import asyncio
import io
import json
import tarfile
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from exporter import ArtifactKind, ExportContext, Exporter, ExportResult, Source
from exporter.client import (
    BuildCancelledError,
    BuildError,
    CachePlace,
    Client,
    DirectoryOutput,
    Event,
    ImageOutput,
    OCIOutput,
    StepChanged,
    StepOutput,
    StepState,
    TarOutput,
    sync,
)
from exporter.errors import InvalidArgumentError, NotFoundError, UnavailableError
from tests.buildkit import mortal_buildkitd, own_buildkitd
from tests.integration.client_contexts import SHELL, SLEEP, files
from tests.sessions import PATIENCE


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with own_buildkitd() as target:
        yield target


@pytest.fixture
async def client(address: str) -> AsyncIterator[Client]:
    async with Client(address) as client:
        yield client


class CountExporter(Exporter):
    """Counts layers."""

    type = "count"
    title = "Counts layers"
    artifact = ArtifactKind.NONE

    @property
    def name(self) -> str:
        return "counting layers"

    async def export(self, source: Source, context: ExportContext) -> ExportResult:
        assert source.ref is not None
        return ExportResult(response={"layers": str(len((await source.ref.remote()).descriptors))})


async def test_several_outputs_and_what_each_of_them_is(client: Client, tmp_path: Path) -> None:
    archive = io.BytesIO()
    result = await client.build(
        files("FROM scratch\nCOPY a /a\n", a="1"),
        tags="docker.io/local/a:1",
        outputs=[
            OCIOutput(dest=archive),
            CountExporter({}),
            OCIOutput(dest=tmp_path / "b.tar", names="docker.io/local/b:2", annotations={"x": "y"}),
            DirectoryOutput(tmp_path / "files"),
        ],
    )
    first, ours, second, directory = result.outputs
    archive.seek(0)
    with tarfile.open(fileobj=archive) as opened:
        index = json.load(opened.extractfile("index.json"))  # type: ignore[arg-type]
    assert index["manifests"][0]["digest"] == first.digest
    assert first.names == ("docker.io/local/a:1",) and second.names == ("docker.io/local/b:2",)
    assert second.digest == result.digest != first.digest
    assert second.descriptor["size"] > first.descriptor["size"]  # the annotation
    assert ours.metadata == {"layers": "1"}
    assert directory.metadata.get("layers") is None and directory.digest == ""
    assert (tmp_path / "files" / "a").read_text() == "1"


async def test_a_result_has_steps_provenance_and_warnings(client: Client) -> None:
    context = files(SHELL + "MAINTAINER me\nARG A\nRUN echo $A >/out\n")
    fresh = await client.build(context, args={"A": "provenance"}, attestations={"provenance": "max"})
    assert not fresh.cached
    [warning] = [each for each in fresh.warnings if each.message.startswith("MaintainerDeprecated")]
    assert warning.source is not None and warning.source.lines == ((3, "MAINTAINER me"),)
    assert warning.url.startswith("https://")
    again = await client.build(context, args={"A": "provenance"})
    assert "[2/2] RUN echo provenance >/out" in {step.name for step in again.cached}
    assert fresh.provenance["buildDefinition"]["externalParameters"]["request"]["frontend"] == "dockerfile.v0"
    [document] = fresh.attestations
    assert document.is_provenance and not document.is_sbom
    assert await client.attestations(fresh.ref) == fresh.attestations


async def test_secrets_come_from_functions_and_do_not_change_the_cache(client: Client) -> None:
    dockerfile = SHELL + "RUN --mount=type=secret,id=s read x </run/secrets/s; echo got $x\n"
    asked = []

    async def secret() -> str:
        asked.append(True)
        return "something\n"

    events: list[Event] = []
    await client.build(files(dockerfile), secrets={"s": secret}, on_event=events.append)
    assert asked == [True]
    assert b"".join(event.data for event in events if isinstance(event, StepOutput)) == b"got something\n"


async def test_archives_and_more_contexts(client: Client, tmp_path: Path) -> None:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        for name, text in {"docker/file": "FROM scratch\nCOPY a /\nCOPY --from=more b /\n", "a": "1"}.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text.encode()))
    archive.seek(0)
    await client.build(
        archive,
        dockerfile="docker/file",
        contexts={"more": {"b": "2"}},
        outputs=DirectoryOutput(tmp_path),
    )
    assert (tmp_path / "a").read_text() == "1" and (tmp_path / "b").read_text() == "2"


async def test_an_image_of_a_layout_is_a_context(client: Client, tmp_path: Path) -> None:
    base = await client.build(
        files("FROM scratch\nCOPY a /a\n", a="1"), outputs=OCIOutput(layout=tmp_path / "base")
    )
    place = f"oci-layout://{tmp_path}/base@{base.digest}"
    await client.build(
        {"b": "2"},
        dockerfile_inline="FROM base\nCOPY b /b\n",
        contexts={"base": place},
        outputs=TarOutput(tmp_path / "out.tar"),
    )
    with tarfile.open(tmp_path / "out.tar") as opened:
        assert sorted(opened.getnames()) == ["a", "b"]


async def test_a_local_cache(client: Client, tmp_path: Path) -> None:
    cache = str(tmp_path / "cache")
    context = files(SHELL + "RUN echo cached >/out\n")
    await client.build(context, cache_to=CachePlace("local", {"dest": cache, "mode": "max"}))
    assert (tmp_path / "cache" / "index.json").exists()
    again = await client.build(context, cache_from=[CachePlace("local", {"src": cache})])
    assert any("importing cache manifest" in step.name for step in again.steps)


async def test_a_failing_step_tells_everything(client: Client) -> None:
    context = files(SHELL + "RUN echo before; echo reason >&2; exit 3\n")
    with pytest.raises(BuildError) as failure:
        await client.build(context)
    error = failure.value
    assert error.exit_code == 3
    assert error.command == "/bin/sh -c echo before; echo reason >&2; exit 3"
    assert error.vertex.startswith("sha256:") and "RUN echo before" in error.vertex_name
    assert set(error.log.splitlines()) == {"before", "reason"}
    assert [source.lines for source in error.sources] == [((3, "RUN echo before; echo reason >&2; exit 3"),)]
    assert error.report().endswith(f"error: {error}")
    assert (await client.record(error.ref)).error.endswith("exit code: 3")


@pytest.mark.parametrize(
    ("dockerfile", "text", "line"),
    [
        ("FROM scratch\nFOO x\n", "unknown instruction: FOO", (2, "FOO x")),
        ("FROM scratch\nCOPY nope /\n", '"/nope": not found', (2, "COPY nope /")),
    ],
)
async def test_mistakes_in_a_dockerfile(
    client: Client, dockerfile: str, text: str, line: tuple[int, str]
) -> None:
    with pytest.raises(BuildError, match=text) as failure:
        await client.build({"Dockerfile": dockerfile})
    assert failure.value.sources[-1].lines == (line,)
    assert failure.value.exit_code is None and failure.value.command == ""


async def test_an_entitlement_that_the_daemon_refuses(client: Client) -> None:
    with pytest.raises(BuildError, match=r"granting entitlement network\.host is not allowed"):
        await client.build({"Dockerfile": "FROM scratch\n"}, network="host")


async def test_invalid_options_are_found_before_the_build(client: Client, tmp_path: Path) -> None:
    context = {"Dockerfile": "FROM scratch\nCOPY a /\n", "a": ""}
    with pytest.raises(InvalidArgumentError, match="needs a name"):
        await client.build(context, outputs=ImageOutput(push=True))
    with pytest.raises(InvalidArgumentError, match="give either dest or layout"):
        await client.build(context, outputs=OCIOutput())
    with pytest.raises(TypeError, match="no option 'output'"):
        await client.build(context, output="x")  # type: ignore[call-arg]
    with pytest.raises(NotFoundError, match="no such directory"):
        await client.build(tmp_path / "none")
    assert not client.running


async def test_events_are_iterated_while_the_build_runs(client: Client) -> None:
    async with client.start(files(SHELL + "RUN echo iterated\n")) as build:
        events = [event async for event in build]
        result = await build
    assert [event.text for event in events if isinstance(event, StepOutput)] == ["iterated\n"]
    last = {event.step.digest: event.step for event in events if isinstance(event, StepChanged)}
    assert set(last) == {step.digest for step in result.steps}
    assert all(step.state.has_ended for step in last.values())


def is_sleeping(event: Event) -> bool:
    """Whether the sleep of `SLEEP` has begun."""
    return (
        isinstance(event, StepChanged)
        and event.step.state is StepState.RUNNING
        and event.step.name.endswith('RUN ["/bin/sleep", "600"]')
    )


async def running(events: AsyncIterator[Event]) -> None:
    async for event in events:
        if is_sleeping(event):
            return


async def test_cancelling_by_id_and_by_task(client: Client) -> None:
    async with asyncio.timeout(PATIENCE):
        build = client.start(files(SLEEP), ref="mine")
        await running(build.__aiter__())
        assert list(client.running) == ["mine"]
        assert client.cancel("mine")
        with pytest.raises(BuildCancelledError, match="build mine was cancelled"):
            await build
        assert not client.cancel("mine")

        found = asyncio.Event()

        def watch(event: Event) -> None:
            if is_sleeping(event):
                found.set()

        task = asyncio.create_task(client.build(files(SLEEP), on_event=watch, ref="task"))
        await found.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with client.start(files(SLEEP)) as build:
            await running(build.__aiter__())
        assert build.is_done
    assert not client.running
    assert "context canceled" in (await client.record("mine")).error
    names = {task.get_name() for task in asyncio.all_tasks()}
    assert not [name for name in names if name.startswith(("build ", "session ", "fsutil"))]


async def test_an_event_handler_that_fails_ends_the_build(client: Client) -> None:
    def handler(event: Event) -> None:
        raise LookupError("in the handler")

    with pytest.raises(LookupError, match="in the handler"):
        await client.build(files(SLEEP), on_event=handler)


async def test_a_daemon_that_dies_and_comes_back() -> None:
    # The path of a socket has to be short.
    with tempfile.TemporaryDirectory(prefix="bke-", dir="/tmp", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        with mortal_buildkitd(directory) as (target, process):
            address = f"unix://{target.removeprefix('unix:')}"
            client = Client(address)
            async with asyncio.timeout(PATIENCE):
                build = client.start(files(SLEEP))
                await running(build.__aiter__())
                process.kill()
                with pytest.raises(UnavailableError):
                    await build
                with pytest.raises(UnavailableError, match=f"cannot reach a BuildKit daemon at {address}"):
                    await client.workers()
            process.wait()
        (directory / "b.sock").unlink(missing_ok=True)
        with mortal_buildkitd(directory):
            assert (await client.build({"Dockerfile": "FROM scratch\nCOPY a /\n", "a": ""})).steps
            await client.close()


async def test_there_is_no_daemon(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="there is no such socket"):
        async with Client(f"unix://{tmp_path}/no.sock"):
            pass
    with pytest.raises(InvalidArgumentError, match="docker-container://NAME"):
        await Client("nowhere").connect()


async def test_many_builds_at_once(client: Client) -> None:
    async def build(number: int) -> str:
        context = {"Dockerfile": "FROM scratch\nCOPY a /a\n", "a": str(number)}
        archive = io.BytesIO()
        return (await client.build(context, outputs=OCIOutput(dest=archive))).digest

    digests = await asyncio.gather(*map(build, range(50)))
    assert len(set(digests)) == 50
    assert not client.running


def test_the_blocking_client(address: str, tmp_path: Path) -> None:
    before = {thread.name for thread in threading.enumerate()}
    with sync.Client(address) as client:
        assert client.workers() and client.info().package
        result = client.build(files(SHELL + "RUN echo blocking\n"), outputs=DirectoryOutput(tmp_path / "out"))
        assert (tmp_path / "out" / "bin" / "sh").exists()
        assert client.record(result.ref).ref == result.ref
        assert result.ref in {record.ref for record in client.history()}
        with client.start(files(SHELL + "RUN echo iterated blocking\n")) as build:
            texts = [event.text for event in build if isinstance(event, StepOutput)]
            assert texts == ["iterated blocking\n"]
            assert build.result().steps
        with pytest.raises(BuildError, match="exit code: 1"):
            client.build(files(SHELL + "RUN exit 1\n"))
        with client.start(files(SLEEP)) as build:
            pass
        assert build.is_done
    client.close()
    assert {thread.name for thread in threading.enumerate()} <= before
