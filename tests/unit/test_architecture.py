"""Who may import whom (design: arrows point down only)."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "exporter"

# Rank of each part; a module may import parts of its own rank or lower.
RANKS = {
    "errors": 0,
    "image": 1,
    "pb": 1,
    "progress": 2,
    "rpc": 3,
    "content": 4,
    "source": 5,
    "layer": 6,
    "remotes": 6,
    "exporters": 7,
    "verify": 7,
    "engine": 8,
    "daemon": 8,
    "takeover": 9,
    "client": 9,
    "proxy": 9,
    "server": 10,
    "cli": 11,
}

# Where messages cross the wire; only these may know protobuf and gRPC.
WIRE = {"pb", "rpc", "remotes", "daemon", "takeover", "client", "proxy", "server", "cli"}


def _modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = ("exporter", *path.relative_to(PACKAGE).with_suffix("").parts)
        yield ".".join(parts).removesuffix(".__init__"), path


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _part(module: str) -> str | None:
    pieces = module.split(".")
    return pieces[1] if len(pieces) > 1 and pieces[0] == "exporter" else None


MODULES = [(name, path) for name, path in _modules() if _part(name) not in {None, "pb"}]


@pytest.mark.parametrize(("name", "path"), MODULES, ids=[name for name, _ in MODULES])
def test_imports_point_down(name: str, path: Path) -> None:
    own = _part(name)
    assert own in RANKS, f"{name}: a new part needs a rank"
    for imported in _imports(path):
        part = _part(imported)
        if part is None:
            continue
        if part not in RANKS:  # a name of the package's face
            assert RANKS[own] > RANKS["exporters"], f"{name} imports the package's face"
            continue
        assert RANKS[part] <= RANKS[own], f"{name} must not import {imported}"


@pytest.mark.parametrize(("name", "path"), MODULES, ids=[name for name, _ in MODULES])
def test_only_the_wire_knows_grpc(name: str, path: Path) -> None:
    if _part(name) in WIRE:
        return
    for imported in _imports(path):
        assert not imported.startswith(("grpc", "google.protobuf", "exporter.pb", "exporter.rpc.status")), (
            f"{name} must not import {imported}"
        )


def test_the_image_core_is_pure() -> None:
    forbidden = ("asyncio", "threading", "socket", "subprocess", "pathlib", "tempfile", "grpc", "logging")
    for name, path in _modules():
        if not name.startswith("exporter.image"):
            continue
        for imported in _imports(path):
            assert not imported.startswith(forbidden), f"{name} must not import {imported}"
            assert _part(imported) in {None, "image", "errors"}, f"{name} must not import {imported}"


@pytest.mark.parametrize(
    ("module", "library"),
    [
        ("exporter", "grpc"),
        ("exporter", "aiohttp"),
        ("exporter.cli.main", "grpc"),
        ("exporter.cli.build.command", "aiohttp"),
        ("exporter.cli.export.command", "aiohttp"),
    ],
)
def test_what_takes_long_to_load_is_loaded_when_it_is_needed(module: str, library: str) -> None:
    code = f"import sys, {module}; sys.exit({library!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
