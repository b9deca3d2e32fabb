"""Hooks: the operator's commands that have to succeed before anything of an export is published."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from exporter.content.copy import copy_chain
from exporter.engine.hooks import Hooks
from exporter.errors import DeadlineError, FailedPreconditionError, InvalidArgumentError, NotFoundError
from exporter.exporters.base import ArtifactKind, ExportContext, Exporter, ExportResult, FinalizeContext
from exporter.exporters.registry import Registry
from exporter.source.types import Source
from exporter.testing import MemoryLayer, MemoryRegistry, ProgressLog, Run, Workbench, source_of
from tests.peers import require

CONFIG = b'{"architecture":"amd64","os":"linux"}'
NAME = "example.com/app:v1"


def source() -> Source:
    return source_of(MemoryLayer({"a": b"1"}), config=CONFIG)


@asynccontextmanager
async def bench(command: str, *, timeout: float = 600) -> AsyncIterator[tuple[Workbench, MemoryRegistry]]:
    registry = MemoryRegistry()
    async with Workbench.open(pusher=registry, hooks={"scan": command}, hook_timeout=timeout) as opened:
        yield opened, registry


def make(exporter_type: str, **attrs: str) -> Exporter:
    return Registry().make(exporter_type, {"before-publish": "scan", **attrs})


async def refused(opened: Workbench, exporter: Exporter, log: ProgressLog | None = None) -> str:
    """Export; gives the error with which the hook has refused."""
    with pytest.raises(FailedPreconditionError) as caught:
        await opened.export(exporter, source(), progress=log)
    return caught.value.message


# --- what a hook gets ---


async def facts(tmp_path: Path, exporter_type: str, **attrs: str) -> tuple[Run, dict[str, str]]:
    command = f'cp -r "$BUILDKIT_EXPORTER_LAYOUT" {tmp_path}/layout; env | grep ^BUILDKIT_EX > {tmp_path}/env'
    outside = {name for name in os.environ if name.startswith("BUILDKIT_EXPORTER_")}
    async with bench(command) as (opened, _):
        run = await opened.export(make(exporter_type, **attrs), source())
    lines = (await asyncio.to_thread((tmp_path / "env").read_text)).splitlines()
    variables = dict(line.split("=", 1) for line in lines)
    own = variables.keys() - outside  # the tests have variables of this prefix, too
    return run, {name.removeprefix("BUILDKIT_EXPORTER_"): variables[name] for name in own}


@pytest.mark.parametrize("exporter_type", ["oci", "docker", "squash", "image"])
async def test_it_gets_the_image_that_is_published(exporter_type: str, tmp_path: Path) -> None:
    attrs = {"name": NAME, "annotation.a": "b"}
    run, found = await facts(tmp_path, exporter_type, **attrs)
    assert run.descriptor is not None
    layout = found.pop("LAYOUT")
    assert found == {
        "HOOK": "scan",
        "TYPE": exporter_type,
        "DIGEST": run.descriptor.digest,
        "NAME": NAME,
    }
    assert not await asyncio.to_thread(Path(layout).exists)
    index = json.loads(await asyncio.to_thread((tmp_path / "layout" / "index.json").read_bytes))
    assert [manifest["digest"] for manifest in index["manifests"]] == [run.descriptor.digest]


@pytest.mark.parametrize("exporter_type", ["tar", "local", "moby", "rootfs"])
async def test_other_types_give_it_the_image_of_the_build(exporter_type: str, tmp_path: Path) -> None:
    if exporter_type == "rootfs":
        require("mke2fs", "e2fsprogs")
    attrs = {"format": "ext4"} if exporter_type == "rootfs" else {}
    async with Workbench.open() as opened:
        image = await opened.export(Registry().make("oci", {}), source())
    _, found = await facts(tmp_path, exporter_type, **attrs)
    assert image.descriptor is not None
    assert found["DIGEST"] == image.descriptor.digest
    assert found["NAME"] == ""


async def test_its_output_is_the_export_s_log() -> None:
    log = ProgressLog()
    async with bench("echo to out; echo to err >&2") as (opened, _):
        await opened.export(make("oci"), source(), progress=log)
    assert "to out" in log.log
    assert "to err" in log.log
    assert any(status.startswith("running hook scan for sha256:") for status in log.statuses)


async def test_it_runs_once_for_an_image() -> None:
    log = ProgressLog()
    async with bench("echo again") as (opened, registry):
        run = await opened.export(make("image", name=NAME, push="true"), source(), progress=log)
        await opened.finalize(run)
        assert [push.name for push in registry.pushes] == [NAME]
    assert log.log.count("again") == 1


# --- nothing is published if it fails ---


async def test_the_error_says_why() -> None:
    async with bench("echo CVE-2020-1 >&2; exit 3") as (opened, _):
        said = await refused(opened, make("oci"))
    assert said.startswith("nothing was published: hook scan refused sha256:")
    assert said.endswith(": exit status 3: CVE-2020-1")


async def test_no_name_moves() -> None:
    async with bench("exit 1") as (opened, _):
        before = await opened.export(Registry().make("image", {"name": NAME}), source_of(config=CONFIG))
        await refused(opened, make("image", name=NAME))
        (entry,) = await opened.store.index()
        assert before.descriptor is not None
        assert entry.digest == before.descriptor.digest


async def test_no_image_of_moby() -> None:
    async with bench("exit 1") as (opened, _):
        await refused(opened, make("moby", name=NAME))
        assert await opened.images.list() == ()
        assert await opened.images.tags() == {}


@pytest.mark.parametrize("exporter_type", ["image", "registry"])
async def test_nothing_is_pushed(exporter_type: str) -> None:
    async with bench("exit 1") as (opened, registry):
        await refused(opened, make(exporter_type, name=NAME, push="true", store="false"))
        assert registry.pushes == []


@pytest.mark.parametrize(
    ("exporter_type", "attrs"),
    [("oci", {}), ("oci", {"tar": "false"}), ("docker", {}), ("tar", {}), ("local", {}), ("squash", {})],
)
async def test_no_file_is_written(exporter_type: str, attrs: Mapping[str, str], tmp_path: Path) -> None:
    from exporter.exporters.output import LocalOutput

    output = LocalOutput(str(tmp_path / "out"))
    async with bench("exit 1") as (opened, _):
        with pytest.raises(FailedPreconditionError, match="nothing was published"):
            await opened.export(make(exporter_type, **attrs), source(), output=output)
    assert await asyncio.to_thread(lambda: list(tmp_path.rglob("*"))) == []


async def test_it_takes_too_long() -> None:
    async with bench("echo busy; sleep 1000", timeout=0.5) as (opened, _):
        with pytest.raises(DeadlineError, match=r"hook scan did not end within 0\.5 s \(--hook-timeout\)"):
            await opened.export(make("oci"), source())


async def test_cancellation_ends_it(tmp_path: Path) -> None:
    async with bench(f"sleep 1000 & echo $! > {tmp_path}/pid; wait") as (opened, _):
        task = asyncio.create_task(opened.export(make("oci"), source()))
        await asyncio.to_thread(_wait_for, tmp_path / "pid")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    pid = (await asyncio.to_thread((tmp_path / "pid").read_text)).strip()
    state = await asyncio.to_thread(_state_of, pid)
    assert state in {"", "Z"}


def _wait_for(path: Path) -> None:
    while not (path.exists() and path.read_text().endswith("\n")):
        time.sleep(0.01)


def _state_of(pid: str) -> str:
    try:
        return (Path("/proc") / pid / "stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


# --- exporters that know nothing of hooks ---


class _Plugin(Exporter):
    type = "plugin"
    title = "Publishes the image in several ways"
    artifact = ArtifactKind.NONE
    name = "publishing"

    def __init__(self, attrs: Mapping[str, str], published: list[str]) -> None:
        super().__init__(attrs)
        self._published = published

    async def export(self, source: Source, context: ExportContext) -> ExportResult:
        image = await context.image(source)
        assert context.output is not None
        match self.attrs["way"]:
            case "store":
                await copy_chain(context.store, image.provider, image.descriptor)
                await context.store.publish(image.descriptor, [NAME])
            case "layout":
                async with context.output.layout() as layout:
                    await copy_chain(layout.store, image.provider, image.descriptor)
                    await layout.publish(image.descriptor, (NAME,))
            case "pusher":
                assert context.pusher is not None
                await context.pusher(image.provider, image.descriptor, NAME, progress=context.progress)
            case "write":
                return await context.write(image)
        return ExportResult(finalize=self._publish)

    async def _publish(self, context: FinalizeContext) -> Mapping[str, str]:
        self._published.append("finalized")
        return {}


@pytest.mark.parametrize("way", ["store", "layout", "pusher", "write", "own"])
@pytest.mark.parametrize("status", [0, 1])
async def test_an_exporter_that_knows_nothing_of_hooks(way: str, status: int) -> None:
    published: list[str] = []
    log = ProgressLog()
    exporter = _Plugin({"before-publish": "scan", "way": way}, published)
    async with bench(f"echo here; exit {status}") as (opened, registry):
        if status:
            await refused(opened, exporter, log)
            assert await opened.store.index() == ()
            assert registry.pushes == []
        else:
            run = await opened.export(exporter, source(), progress=log)
            await opened.finalize(run)
            assert way == "write" or published == ["finalized"]
    assert log.log.count("here") == 1


# --- names and mistakes ---


@pytest.mark.parametrize("exporter_type", ["oci", "tar"])
async def test_a_hook_that_does_not_exist(exporter_type: str) -> None:
    async with Workbench.open(hooks={"a": "true", "b": "true"}) as opened:
        text = r'there is no hook "scan" \(available: a, b\): operators configure them with --hook'
        with pytest.raises(InvalidArgumentError, match=text):
            await opened.export(make(exporter_type), source())


async def test_a_misspelt_attribute_does_not_publish() -> None:
    async with bench("true") as (opened, _):
        exporter = Registry().make("oci", {"before-publsh": "scan"})
        with pytest.raises(InvalidArgumentError, match="before-publsh: did you mean before-publish"):
            await opened.export(exporter, source())


def test_what_an_operator_writes() -> None:
    hooks = Hooks.parse(["a=cosign sign --key k.pem x=y", "b.c-d=true"], 5)
    assert hooks == Hooks({"a": "cosign sign --key k.pem x=y", "b.c-d": "true"}, 5)
    for text in ("a", "=true", "a=", "a= ", "a b=true", "../a=true"):
        with pytest.raises(InvalidArgumentError, match="is not NAME=COMMAND"):
            Hooks.parse([text])
    with pytest.raises(InvalidArgumentError, match="there are two hooks a"):
        Hooks.parse(["a=true", "a=false"])


async def test_a_command_never_comes_from_a_request(tmp_path: Path) -> None:
    async with bench('test -z "$BUILDKIT_EXPORTER_NAME"') as (opened, _):
        for text in (f"touch {tmp_path}/x", "scan; true", "$(true)", "scan "):
            with pytest.raises(InvalidArgumentError, match="there is no hook"):
                await opened.export(Registry().make("oci", {"before-publish": text}), source())
        with pytest.raises((InvalidArgumentError, NotFoundError, ValueError)):
            await opened.export(make("tar", name=f"$(touch {tmp_path}/x)"), source())
    assert await asyncio.to_thread(lambda: list(tmp_path.iterdir())) == []
