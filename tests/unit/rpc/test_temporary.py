from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from exporter.rpc import temporary
from exporter.rpc.temporary import make_private_directory, private_directory

_KILLED = """
import os, sys, pathlib
from exporter.rpc.temporary import make_private_directory
path, _ = make_private_directory(pathlib.Path(sys.argv[1]))
(path / "s").write_bytes(b"x")
os._exit(9)
"""


@pytest.fixture(autouse=True)
def as_a_new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(temporary, "_swept", set())


def test_a_directory_is_private_and_removed_with_its_contents(tmp_path: Path) -> None:
    with private_directory(tmp_path) as path:
        assert path.parent == tmp_path
        assert path.stat().st_mode & 0o777 == 0o700
        (path / "s").write_bytes(b"x")
    assert list(tmp_path.iterdir()) == []


def test_only_directories_of_killed_processes_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    living, _ = make_private_directory(tmp_path)
    others = [tmp_path / name for name in ("buildkit-exporter-abc", "buildkit-exporter-notes", "x")]
    for path in others:
        path.mkdir()
    assert subprocess.run([sys.executable, "-c", _KILLED, str(tmp_path)], check=False).returncode == 9
    assert len(list(tmp_path.iterdir())) == 5
    monkeypatch.setattr(temporary, "_swept", set())
    with private_directory(tmp_path) as own:
        assert set(tmp_path.iterdir()) == {living, own, *others}
