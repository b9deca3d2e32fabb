"""Progress as typed events."""

from __future__ import annotations

from exporter.client import StepChanged, StepOutput, StepProgress, StepState, StepWarning
from exporter.client.events import EventReader
from exporter.image import Time
from exporter.progress.model import (
    SourceLines,
    StatusUpdate,
    Vertex,
    VertexLog,
    VertexStatus,
    VertexWarning,
)
from exporter.remotes.messages.progress import status_response
from exporter.remotes.messages.results import status_update

ONE, TWO = "sha256:" + "1" * 64, "sha256:" + "2" * 64


def at(second: int) -> Time:
    return Time.from_unix(second, 0)


def test_a_step_runs_and_ends() -> None:
    reader = EventReader()
    states = []
    for vertex in (
        Vertex(ONE, "[1/2] FROM x"),
        Vertex(ONE, "[1/2] FROM x", started=at(1)),
        Vertex(ONE, "[1/2] FROM x", started=at(1)),  # nothing new
        Vertex(ONE, "[1/2] FROM x", started=at(1), completed=at(3)),
    ):
        states += [
            event.step.state
            for event in reader.read(StatusUpdate((vertex,)))
            if isinstance(event, StepChanged)
        ]
    assert states == [StepState.WAITING, StepState.RUNNING, StepState.DONE]
    assert reader.steps[ONE].seconds == 2.0


def test_ends_of_steps() -> None:
    reader = EventReader()
    ends = {
        "cached": Vertex("a", "x", cached=True, started=at(1), completed=at(1)),
        "failed": Vertex("b", "x", started=at(1), completed=at(2), error="exit code: 1"),
        "cancelled": Vertex("c", "x", started=at(1), completed=at(2), error="x: context canceled"),
    }
    list(reader.read(StatusUpdate(tuple(ends.values()))))
    assert [step.state.value for step in reader.steps.values()] == list(ends)
    assert all(step.state.has_ended for step in reader.steps.values())


def test_output_and_progress_know_their_step() -> None:
    reader = EventReader()
    update = StatusUpdate(
        (Vertex(ONE, "RUN make"),),
        (VertexStatus("layer", ONE, current=1, total=2),),
        (VertexLog(ONE, b"caf\xc3\xa9\n", 2), VertexLog(TWO, b"unknown")),
    )
    _, progress, output, other = reader.read(update)
    assert isinstance(progress, StepProgress) and isinstance(output, StepOutput)
    assert (progress.step.name, progress.name, progress.current, progress.is_done) == (
        "RUN make",
        "layer",
        1,
        False,
    )
    assert (output.step.name, output.text, output.is_stderr) == ("RUN make", "café\n", True)
    assert isinstance(other, StepOutput) and other.step.digest == TWO


def test_a_warning_has_the_lines_that_it_is_about() -> None:
    source = SourceLines("Dockerfile", b"FROM a\nRUN b\nRUN c\n", ((2, 3),), "Dockerfile")
    update = StatusUpdate(warnings=(VertexWarning(ONE, "short", 2, ("detail",), "https://x", source),))
    assert status_update(status_response(update)) == update
    reader = EventReader()
    [event] = reader.read(update)
    assert isinstance(event, StepWarning) and event.source is not None
    assert event.source.lines == ((2, "RUN b"), (3, "RUN c"))
    assert reader.warnings == [event]
