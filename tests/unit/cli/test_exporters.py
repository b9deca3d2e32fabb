"""``buildkit-exporter exporters`` as a user meets it."""

from __future__ import annotations

import sys

import pytest

from exporter.cli.main import main


def test_a_narrow_terminal_hides_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    for name, value in {"COLUMNS": "80", "TERM": "xterm", "NO_COLOR": "1"}.items():
        monkeypatch.setenv(name, value)
    assert main(["exporters", "--type", "oci"]) == 0
    out = capsys.readouterr().out
    assert "…" not in out
    meanings = "".join(line[56:].strip() for line in out.splitlines())
    assert "annotation[-TYPE][[PLATFORM]]" in meanings
