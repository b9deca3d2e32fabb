"""Running an export, and the place where it runs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from exporter import ArtifactKind, Attribute, ExportContext, Exporter, ExportResult, FinalizeContext, Source
from exporter.engine.config import WorkplaceConfig
from exporter.engine.engine import Engine, ExportJob
from exporter.engine.finalize import FinalizeStore
from exporter.engine.limits import Admission
from exporter.engine.scratch import ScratchSpace
from exporter.engine.workplace import open_workplace, problem_of_store
from exporter.errors import FailedPreconditionError, ResourceExhaustedError
from exporter.exporters.plugins import Origin, PluginError, note_origin
from exporter.exporters.registry import default_registry
from exporter.progress.model import StatusUpdate
from exporter.remotes.containerd import ContainerdConfig
from exporter.source.types import BuildInfo
from exporter.testing.output import MemoryOutput


class Plain(Exporter):
    """Answers what it is told to, and remembers its context."""

    type = "plain"
    title = "Plain"
    artifact = ArtifactKind.NONE
    attributes = (Attribute("answer", "string", "", "The answer."),)
    answer: Any = ExportResult(response={"a": "b"})
    context: ExportContext

    @property
    def name(self) -> str:
        return "plain"

    async def export(self, source: Source, context: ExportContext) -> ExportResult:
        type(self).context = context
        return cast(ExportResult, self.answer)


class Place:
    def __init__(self, engine: Engine, tokens: FinalizeStore, shared: object) -> None:
        self.engine = engine
        self.tokens = tokens
        self.shared = shared
        self.updates: list[StatusUpdate] = []

    async def export(self, exporter: Exporter, *, output: MemoryOutput | None = None) -> Any:
        async def find_output() -> MemoryOutput | None:
            return output

        job = ExportJob(
            exporter=exporter,
            index=0,
            vertex_digest="sha256:v",
            source=Source(metadata={}),
            build=BuildInfo(ref="b"),
            find_output=find_output,
            credentials=cast(Any, None),
            resources=AsyncExitStack(),
        )
        return await self.engine.export(job, self.updates.append)

    def warnings(self) -> list[str]:
        return [warning.short for update in self.updates for warning in update.warnings]


@asynccontextmanager
async def place(config: WorkplaceConfig) -> AsyncIterator[Place]:
    tokens = FinalizeStore(600)
    async with open_workplace(config, admission=Admission(1, 0), tokens=tokens) as opened:
        yield Place(opened.engine, tokens, opened.shared)


async def test_an_export_without_output(tmp_path: Path) -> None:
    async with place(WorkplaceConfig(root=tmp_path)) as here:
        outcome = await here.export(Plain({}))
        assert (outcome.result.response, outcome.token) == ({"a": "b"}, "")
        assert Plain.context.output is None
        assert Plain.context.layer_cache is not None
        assert not Plain.context.scratch.exists()
        assert here.shared is None
        assert here.warnings() == []


async def test_an_export_with_output_can_write_to_it(tmp_path: Path) -> None:
    async with place(WorkplaceConfig(root=tmp_path)) as here:
        await here.export(Plain({}), output=MemoryOutput())
        assert Plain.context.output is not None


@pytest.mark.parametrize("answer", [None, "text", ExportResult(response=cast(Any, {"a": 1}))])
async def test_a_wrong_answer_is_the_exporters_fault(tmp_path: Path, answer: object) -> None:
    exporter = Plain({})
    exporter.answer = answer
    async with place(WorkplaceConfig(root=tmp_path)) as here:
        with pytest.raises(PluginError, match="has failed: TypeError: "):
            await here.export(exporter)


async def test_what_is_to_be_published_keeps_its_scratch_directory(tmp_path: Path) -> None:
    async def finalize(context: FinalizeContext) -> Mapping[str, str]:
        return {"published": "yes"}

    exporter = Plain({})
    exporter.answer = ExportResult(response={}, finalize=finalize)
    async with place(WorkplaceConfig(root=tmp_path)) as here:
        token = (await here.export(exporter)).token
        assert Plain.context.scratch.is_dir()
        assert here.tokens.type_of(token) == "plain"
        assert await here.engine.finalize(token, here.updates.append) == {"published": "yes"}
        assert not Plain.context.scratch.exists()


async def test_a_misspelt_attribute_is_a_warning(tmp_path: Path) -> None:
    async with place(WorkplaceConfig(root=tmp_path)) as here:
        await here.export(Plain({"answr": "x"}))
        assert here.warnings() == ["type=plain has no attribute answr: did you mean answer?"]


async def test_a_cache_of_layers_can_be_turned_off(tmp_path: Path) -> None:
    async with place(WorkplaceConfig(root=tmp_path, layer_cache_bytes=0)) as here:
        await here.export(Plain({}))
        assert Plain.context.layer_cache is None


@pytest.fixture
def unusable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's default root, where nothing can be made."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "file"))
    return tmp_path


async def test_without_a_usable_root_only_exports_that_store_images_fail(unusable: Path) -> None:
    config = WorkplaceConfig()
    assert await problem_of_store(config)
    image = default_registry().make("image", {"name": "x"})
    async with place(config) as here:
        await here.engine.check(Plain({}))
        with pytest.raises((FailedPreconditionError, OSError)):
            await here.engine.check(image)
        assert (await here.export(Plain({}))).result.response == {"a": "b"}
        assert Plain.context.layer_cache is None


async def test_a_chosen_root_or_containerd_has_no_problem_at_the_start(unusable: Path) -> None:
    assert await problem_of_store(WorkplaceConfig(root=unusable / "root")) == ""
    containerd = ContainerdConfig(address="/run/containerd.sock")
    assert await problem_of_store(WorkplaceConfig(containerd=containerd)) == ""


def test_where_images_go_is_told(tmp_path: Path) -> None:
    here = WorkplaceConfig(root=tmp_path)
    there = WorkplaceConfig(
        root=tmp_path, containerd=ContainerdConfig(address="/run/containerd.sock", namespace="n")
    )
    assert here.place_of("image", {}) == here.place_of("moby", {}) == f"the image store {tmp_path}"
    assert there.place_of("image", {}) == "the containerd at /run/containerd.sock, namespace n"
    assert there.place_of("moby", {}) == f"the image store {tmp_path}"
    assert here.place_of("tar", {}) == there.place_of("tar", {}) == ""


async def test_the_line_has_an_end() -> None:
    admission = Admission(1, 0)
    async with admission.slot(lambda ahead: None):
        for _ in range(2):
            with pytest.raises(ResourceExhaustedError):
                async with admission.slot(lambda ahead: None):
                    pass


async def test_a_root_is_made_with_its_parents(tmp_path: Path) -> None:
    async with place(WorkplaceConfig(root=tmp_path / "a" / "b")) as here:
        await here.export(Plain({}))
    async with ScratchSpace.open(tmp_path / "c" / "d") as scratch, scratch.directory() as directory:
        assert directory.is_relative_to(tmp_path / "c" / "d")


async def test_what_is_known_of_a_plugin_is_a_warning(tmp_path: Path) -> None:
    class Known(Plain):
        """Comes from a distribution."""

    note_origin(Known, Origin("distribution 1.0", ("another one is ignored",)))
    async with place(WorkplaceConfig(root=tmp_path)) as here:
        await here.export(Known({}))
        assert here.warnings() == ["another one is ignored"]
