"""The events of a build: what happens to its steps, as typed values."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass

from exporter.client.sources import BuildSource, source_of
from exporter.image import Time
from exporter.progress.model import StatusUpdate, Vertex, VertexLog, VertexStatus, VertexWarning
from exporter.progress.producer import CANCELED


class StepState(enum.Enum):
    """The state of a step."""

    WAITING = "waiting"
    RUNNING = "running"
    CACHED = "cached"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def has_ended(self) -> bool:
        """Whether it is final. A step may still start again, for example when its result is exported."""
        return self not in {StepState.WAITING, StepState.RUNNING}


@dataclass(frozen=True, slots=True)
class Step:
    """A step of a build (BuildKit: vertex).

    Attributes:
        digest: Its digest, which identifies it.
        name: Its name for people, such as ``[2/3] RUN make``.
        state: Its state.
        inputs: The digests of the steps that it depends on.
        started: When it started, if it has.
        completed: When it ended, if it has.
        error: Why it failed; empty if it has not.
    """

    digest: str
    name: str = ""
    state: StepState = StepState.WAITING
    inputs: tuple[str, ...] = ()
    started: Time | None = None
    completed: Time | None = None
    error: str = ""

    @property
    def is_cached(self) -> bool:
        """Whether its result came from the cache."""
        return self.state is StepState.CACHED

    @property
    def seconds(self) -> float | None:
        """How long it took; None if it has not ended."""
        if self.started is None or self.completed is None:
            return None
        return (self.completed.unix_nano - self.started.unix_nano) / 1e9


@dataclass(frozen=True, slots=True)
class StepChanged:
    """A step is new, or its state has changed."""

    step: Step


@dataclass(frozen=True, slots=True)
class StepOutput:
    """Output of a step's process.

    Attributes:
        step: The step.
        data: The bytes; a piece may end within a line.
        is_stderr: Whether it was written to standard error.
        timestamp: When it was written.
    """

    step: Step
    data: bytes
    is_stderr: bool = False
    timestamp: Time | None = None

    @property
    def text(self) -> str:
        """The bytes as text."""
        return self.data.decode("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class StepProgress:
    """The progress of a part of a step's work, such as the download of a layer.

    Attributes:
        step: The step.
        id: What is in progress; unique within the step.
        name: The same for people.
        current: How much is done; usually bytes.
        total: How much there is; 0 if unknown, or if there is nothing to count.
        is_done: Whether it has ended.
    """

    step: Step
    id: str
    name: str = ""
    current: int = 0
    total: int = 0
    is_done: bool = False


@dataclass(frozen=True, slots=True)
class StepWarning:
    """Something that the user should know, but that is not an error.

    Attributes:
        step: The step that it is about.
        message: One line.
        detail: More lines.
        level: Its importance; 1 is ordinary.
        url: Where to read on.
        source: The lines of the user's file that it is about, if any.
    """

    step: Step
    message: str
    detail: tuple[str, ...] = ()
    level: int = 1
    url: str = ""
    source: BuildSource | None = None


Event = StepChanged | StepOutput | StepProgress | StepWarning
"""An event of a build."""


class EventReader:
    """Converts progress updates to events, and keeps the steps and warnings.

    Attributes:
        steps: The latest state of each step by digest, in the order of their appearance.
        warnings: The warnings so far.
    """

    def __init__(self) -> None:
        self.steps: dict[str, Step] = {}
        self.warnings: list[StepWarning] = []

    def read(self, update: StatusUpdate) -> Iterator[Event]:
        """Convert an update."""
        for vertex in update.vertexes:
            step = _step(vertex)
            if self.steps.get(step.digest) != step:
                self.steps[step.digest] = step
                yield StepChanged(step)
        yield from map(self._progress, update.statuses)
        yield from map(self._output, update.logs)
        for warning in update.warnings:
            event = self._warning(warning)
            self.warnings.append(event)
            yield event

    def _find(self, digest: str) -> Step:
        return self.steps.get(digest) or Step(digest)

    def _progress(self, status: VertexStatus) -> StepProgress:
        return StepProgress(
            self._find(status.vertex),
            status.id,
            status.name or status.id,
            status.current,
            status.total,
            status.completed is not None,
        )

    def _output(self, log: VertexLog) -> StepOutput:
        return StepOutput(self._find(log.vertex), log.data, log.stream == 2, log.timestamp)

    def _warning(self, warning: VertexWarning) -> StepWarning:
        return StepWarning(
            self._find(warning.vertex),
            warning.short,
            warning.detail,
            warning.level,
            warning.url,
            None if warning.source is None else source_of(warning.source),
        )


def _step(vertex: Vertex) -> Step:
    return Step(
        vertex.digest,
        vertex.name,
        _state(vertex),
        vertex.inputs,
        vertex.started,
        vertex.completed,
        vertex.error,
    )


def _state(vertex: Vertex) -> StepState:
    if vertex.error:
        return StepState.CANCELLED if vertex.error.endswith(CANCELED) else StepState.FAILED
    if vertex.cached:
        return StepState.CACHED
    if vertex.completed is not None:
        return StepState.DONE
    return StepState.RUNNING if vertex.started is not None else StepState.WAITING
