"""The progress of a build in a notebook."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest

from exporter.client import Step, StepChanged, StepOutput, StepProgress, StepState, StepWarning
from exporter.client.notebook import ProgressTable, show_progress
from exporter.image import Time

RUNNING = Step("a", "[1/2] RUN <make> & test", StepState.RUNNING, started=Time.from_unix(1, 0))
CACHED = Step("b", "FROM x", StepState.CACHED)
FAILED = Step("c", "RUN exit 1", StepState.FAILED, error="exit code: 1")
WAITING = Step("d", "not yet")


def fill(table: ProgressTable) -> None:
    for step in (CACHED, RUNNING, WAITING):
        table(StepChanged(step))
    table(StepOutput(RUNNING, b"one\n\x1b[31mtwo <3>\n"))
    table(StepProgress(RUNNING, "layer", "downloading", 1_500_000, 3_000_000))
    table(StepWarning(CACHED, "careful & slow"))


def test_the_table_has_steps_output_amounts_and_warnings() -> None:
    table = ProgressTable()
    fill(table)
    text = table._repr_html_()
    assert "[1/2] RUN &lt;make&gt; &amp; test" in text and "<make>" not in text
    assert "two &lt;3&gt;" in text and "\x1b" not in text
    assert "downloading 1.50MB / 3.00MB" in text
    assert "⚠ careful &amp; slow" in text
    assert "not yet" not in text
    table(
        StepChanged(Step("a", RUNNING.name, StepState.DONE, (), Time.from_unix(1, 0), Time.from_unix(3, 0)))
    )
    text = table._repr_html_()
    assert "2.0s" in text and "two" not in text and "downloading" not in text


def test_a_failed_step_keeps_its_output() -> None:
    table = ProgressTable()
    table(StepChanged(FAILED))
    table(StepOutput(FAILED, b"reason\n"))
    assert "reason" in table._repr_html_() and "exit code: 1" in table._repr_html_()
    assert str(table) == "✗ RUN exit 1: exit code: 1"


def test_without_a_notebook_the_end_is_text(capsys: pytest.CaptureFixture[str]) -> None:
    with show_progress() as on_event:
        on_event(StepChanged(CACHED))
        assert capsys.readouterr().out == ""
    assert capsys.readouterr().out == "○ FROM x cached\n"


def test_a_notebook_s_cell_is_updated(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown: list[str] = []

    class Handle:
        def update(self, table: ProgressTable) -> None:
            shown.append(table._repr_html_())

    def display(table: ProgressTable, *, display_id: bool) -> Handle:
        assert display_id
        shown.append(table._repr_html_())
        return Handle()

    shell, module = ModuleType("IPython"), ModuleType("IPython.display")
    monkeypatch.setattr(shell, "get_ipython", SimpleNamespace, raising=False)
    monkeypatch.setattr(module, "display", display, raising=False)
    monkeypatch.setitem(sys.modules, "IPython", shell)
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    with show_progress() as on_event:
        fill(on_event.table)
        on_event(StepChanged(FAILED))
    assert "FROM x" not in shown[0] and "exit code: 1" in shown[-1]
    assert capsys.readouterr().out == ""
