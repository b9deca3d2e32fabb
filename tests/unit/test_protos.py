from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STUBS = ROOT / "exporter" / "pb"


def _tree(directory: Path) -> dict[str, str]:
    files = (path for path in directory.rglob("*.py*") if path.suffix in {".py", ".pyi"})
    return {str(path.relative_to(directory)): path.read_text("utf-8") for path in files}


def test_the_committed_stubs_are_those_of_the_protos(tmp_path: Path) -> None:
    if importlib.util.find_spec("grpc_tools") is None:
        message = "grpcio-tools is not installed: pip install 'buildkit-exporter[dev]'"
        if os.environ.get("CI"):
            pytest.fail(message, pytrace=False)
        pytest.skip(message)
    subprocess.run([sys.executable, ROOT / "scripts" / "gen-protos", tmp_path], check=True)
    assert _tree(tmp_path) == _tree(STUBS)


def test_generating_removes_stubs_whose_proto_is_gone_and_nothing_else(tmp_path: Path) -> None:
    if importlib.util.find_spec("grpc_tools") is None:
        pytest.skip("grpcio-tools is not installed: pip install 'buildkit-exporter[dev]'")
    old = tmp_path / "old"
    old.mkdir()
    for name in ("gone_pb2.py", "gone_pb2.pyi", "gone_pb2_grpc.py", "kept.txt"):
        (old / name).write_text("")
    subprocess.run([sys.executable, ROOT / "scripts" / "gen-protos", tmp_path], check=True)
    assert [path.name for path in old.iterdir()] == ["kept.txt"]
