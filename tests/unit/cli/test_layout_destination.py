from __future__ import annotations

from pathlib import Path

from exporter.cli.destinations import problem_of_directory


def test_a_layout_whose_creator_was_killed_at_once_can_be_written(tmp_path: Path) -> None:
    (tmp_path / ".buildkit-exporter").mkdir()
    (tmp_path / ".buildkit-exporter" / "staged-0").write_bytes(b"{")
    assert problem_of_directory(tmp_path, is_layout=True) == ""
    (tmp_path / "something else").mkdir()
    assert "neither empty nor an OCI image layout" in problem_of_directory(tmp_path, is_layout=True)
