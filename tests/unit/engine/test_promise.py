"""What an exporter says that it makes, and what it has made."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, ClassVar, cast

import pytest

from exporter import ArtifactKind, ExportContext, Exporter, ExportResult, Source
from exporter.content.memory import MemoryStore
from exporter.engine.promise import WatchedOutput
from exporter.errors import FailedPreconditionError


class Made(Exporter):
    type = "made"
    title = "Made"
    artifact: ClassVar[ArtifactKind] = ArtifactKind.ARCHIVE

    @property
    def name(self) -> str:
        return "making"

    async def export(self, source: Source, context: ExportContext) -> ExportResult:
        raise NotImplementedError


def exporter(kind: ArtifactKind) -> Exporter:
    made: Exporter = type("Made", (Made,), {"artifact": kind})({})
    return made


class Sink:
    """Takes files and images."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.taken: list[Any] = []

    @asynccontextmanager
    async def file(self, response: Mapping[str, str]) -> Any:
        yield self

    @asynccontextmanager
    async def layout(self) -> Any:
        yield self

    async def directory(
        self, entries: Iterable[Any], *, delete: bool = False, on_sent: Callable[[int], None] | None = None
    ) -> None:
        self.taken.append((list(entries), delete, on_sent))

    async def write(self, data: bytes) -> None:
        self.taken.append(data)

    async def commit(self) -> None:
        self.taken.append("committed")

    async def publish(self, root: Any, names: tuple[str, ...]) -> None:
        self.taken.append(names)


@pytest.fixture
def sink() -> Sink:
    return Sink()


@pytest.fixture
def output(sink: Sink) -> WatchedOutput:
    return WatchedOutput(cast(Any, sink))


@pytest.mark.parametrize(
    ("kind", "what"), [(ArtifactKind.ARCHIVE, "a file"), (ArtifactKind.FILES, "a directory")]
)
def test_nothing_has_been_written(output: WatchedOutput, kind: ArtifactKind, what: str) -> None:
    with pytest.raises(FailedPreconditionError, match=f"makes {what}, but has written nothing"):
        output.check(exporter(kind))


@pytest.mark.parametrize("kind", [ArtifactKind.IMAGE, ArtifactKind.NONE])
def test_others_promise_no_files(output: WatchedOutput, kind: ArtifactKind) -> None:
    output.check(exporter(kind))


async def test_a_file_has_to_be_committed(output: WatchedOutput, sink: Sink) -> None:
    async with output.file({}) as file:
        await file.write(b"data")
        with pytest.raises(FailedPreconditionError, match="has not committed what it wrote"):
            output.check(exporter(ArtifactKind.ARCHIVE))
        await file.commit()
    output.check(exporter(ArtifactKind.ARCHIVE))
    assert sink.taken == [b"data", "committed"]


async def test_a_layout_has_to_be_published(output: WatchedOutput, sink: Sink) -> None:
    async with output.layout() as layout:
        assert layout.store is sink.store
        with pytest.raises(FailedPreconditionError, match="has not committed what it wrote"):
            output.check(exporter(ArtifactKind.FILES))
        await layout.publish(cast(Any, None), ("name",))
    output.check(exporter(ArtifactKind.FILES))
    assert sink.taken == [("name",)]


async def test_files_stay_unless_the_exporter_says_otherwise(output: WatchedOutput, sink: Sink) -> None:
    await output.directory([])
    await output.directory([], delete=True)
    output.check(exporter(ArtifactKind.FILES))
    assert sink.taken == [([], False, None), ([], True, None)]
