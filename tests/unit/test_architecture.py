"""Who may import whom (design: arrows point down only)."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "exporter"

# The rooms, from the ground up. A module imports only its own room and lower floors.
FLOORS = (
    {"errors", "lazy", "pb"},
    {"image"},
    {"progress", "rpc"},
    {"content"},
    {"source"},
    {"layer", "remotes"},
    {"images"},
    {"exporters", "verify"},
    {"face"},
    {"daemon", "engine"},
    {"takeover"},
    {"client", "proxy", "server"},
    {"cli", "testing"},
    {"pytest_plugin"},
)
RANKS = {room: rank for rank, floor in enumerate(FLOORS) for room in floor}

# Where messages cross the wire; only these may know protobuf and gRPC.
WIRE = {
    "pb",
    "rpc",
    "remotes",
    "daemon",
    "takeover",
    "client",
    "proxy",
    "server",
    "cli",
    "testing",
    "pytest_plugin",
}


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


def _imported_modules(path: Path) -> Iterator[str]:
    """The modules that the file imports anywhere: at load time, for types, or inside functions."""
    known = {name for name, _ in MODULES}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                yield submodule if submodule in known else node.module or ""


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
            assert RANKS[own] > RANKS["face"], f"{name} imports the package's face"
            continue
        assert part == own or RANKS[part] < RANKS[own], f"{name} must not import {imported}"


def test_no_modules_import_each_other() -> None:
    """Neither directly nor indirectly, even if only for types or inside a function."""
    paths = dict(MODULES)
    imports = {name: set(_imported_modules(path)) & paths.keys() for name, path in paths.items()}
    done: set[str] = set()
    trail: list[str] = []

    def visit(name: str) -> None:
        assert name not in trail, " -> ".join([*trail[trail.index(name) :], name])
        if name in done:
            return
        trail.append(name)
        for imported in sorted(imports[name]):
            visit(imported)
        trail.pop()
        done.add(name)

    for name in paths:
        visit(name)


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
        if _part(name) != "image":
            continue
        for imported in _imports(path):
            assert not imported.startswith(forbidden), f"{name} must not import {imported}"
            assert _part(imported) in {None, "image", "errors"}, f"{name} must not import {imported}"


@pytest.mark.parametrize(
    ("module", "library"),
    [
        ("exporter", "grpc"),
        ("exporter", "aiohttp"),
        ("exporter.testing", "grpc"),
        ("exporter.pytest_plugin", "exporter.testing"),
        ("exporter.testing", "aiohttp"),
        ("exporter.cli.main", "grpc"),
        ("exporter.cli.build.command", "aiohttp"),
        ("exporter.cli.export.command", "aiohttp"),
        ("exporter.cli.export.command", "grpc"),
        ("exporter.cli.export.command", "google.protobuf"),
        ("exporter.cli.export.command", "yarl"),
        ("exporter.cli.commands.build", "msgspec"),
        ("exporter.cli.build.command", "exporter.client.facade"),
        ("exporter.cli.build.command", "exporter.exporters.writer"),
        ("exporter.engine.config", "exporter.exporters.writer"),
    ],
)
def test_slow_imports_are_loaded_on_demand(module: str, library: str) -> None:
    code = f"import sys, {module}; sys.exit({library!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("room", sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py")))
def test_rooms_say_what_lives_in_them_and_what_may_not(room: str) -> None:
    if room != "pb":  # generated
        text = ast.get_docstring(ast.parse((PACKAGE / room / "__init__.py").read_text(encoding="utf-8")))
        assert text is not None
        assert len(text.splitlines()) >= 3


def test_the_map_names_what_exists() -> None:
    text = (PACKAGE.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
    rooms = {name for floor in FLOORS for name in floor}
    quoted = re.findall(r"`([a-z_0-9]+(?:/[a-z_0-9]+)*(?:\.py|/)?)`", text)
    named = {name for name in quoted if name.split("/")[0].removesuffix(".py") in rooms}
    assert len(named) > 80
    for name in named:
        path = PACKAGE / name
        assert path.exists() or path.with_suffix(".py").exists(), f"docs/architecture.md names {name}"
    for room in rooms - {"pb", "errors", "lazy", "face", "pytest_plugin"}:
        assert f"**`{room}`**" in text, f"docs/architecture.md says nothing of {room}"
