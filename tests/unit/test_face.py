"""The modules that plugins may import, and that these are sufficient."""

from __future__ import annotations

import ast
import dataclasses
import enum
import importlib
import importlib.util
import inspect
import re
import subprocess
import sys
import types
import typing
from collections.abc import Iterator
from pathlib import Path

import pytest

import exporter
from exporter import client, face, testing
from exporter.exporters.registry import Registry

REPOSITORY = Path(__file__).parents[2]
GUIDE = REPOSITORY / "docs" / "writing-an-exporter.md"


def _imported(path: Path) -> Iterator[tuple[str, list[str]]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("exporter"):
            yield node.module or "", [alias.name for alias in node.names]


def _built_in() -> list[Path]:
    """The modules of the built-in types, and their own parts: what they import of the room."""
    found: set[Path] = set()
    pending = [Path(inspect.getfile(kind)) for kind in Registry().all()]
    while pending:
        path = pending.pop()
        if path in found:
            continue
        found.add(path)
        for module, names in _imported(path):
            for name in (module, *(f"{module}.{name}" for name in names)):
                part = REPOSITORY / f"{name.replace('.', '/')}.py"
                if name.startswith("exporter.exporters.") and part.exists():
                    pending.append(part)
    return sorted(found)


BUILT_IN = _built_in()


def public_modules() -> list[str]:
    """Those in the guide's table."""
    text = GUIDE.read_text(encoding="utf-8")
    section = text[text.index("## What a plugin may import") :]
    rows = re.findall(r"^\| (`exporter.*?) \|", section, re.MULTILINE)
    return [name for row in rows for name in re.findall(r"`(exporter[\w.]*)`", row)]


PUBLIC = public_modules()


@pytest.mark.parametrize("name", PUBLIC)
def test_public_modules_say_what_is_in_them(name: str) -> None:
    module = importlib.import_module(name)
    for public in getattr(module, "__all__", ()):
        assert hasattr(module, public), f"{name}.__all__ has {public}"


@pytest.mark.parametrize("module", ["exporter", "exporter.layer"])
def test_names_are_loaded_when_they_are_asked_for(module: str) -> None:
    code = f"import sys, {module}; print(len([name for name in sys.modules if name.startswith('exporter')]))"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert int(loaded.stdout) <= 4
    code = f"import sys; from {module} import *; sys.exit(bool({{'grpc', 'aiohttp'}} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_face_has_its_names_and_no_others() -> None:
    assert dir(exporter) == sorted(face.__all__)
    assert exporter.SavedSource is face.SavedSource
    with pytest.raises(AttributeError, match="'exporter' has no attribute 'gather'"):
        _ = exporter.gather  # type: ignore[attr-defined]


def _annotations(kind: type) -> Iterator[object]:
    """The types of a class's public fields, properties, parameters and results."""
    names: dict[str, object] = {}  # what modules import for the type checker alone is public, too
    for module in PUBLIC:
        names |= _public_names(importlib.import_module(module))
    if dataclasses.is_dataclass(kind):
        yield from typing.get_type_hints(kind, None, names).values()
    for name, member in vars(kind).items():
        if name.startswith("_") and name not in {"__init__", "__call__"}:
            continue
        function = member.fget if isinstance(member, property) else inspect.unwrap(member)
        function = getattr(function, "__func__", function)
        if isinstance(function, types.FunctionType):
            yield from typing.get_type_hints(function, None, names).values()


def _classes(annotation: object) -> Iterator[type]:
    """The classes of this package that an annotation names."""
    if isinstance(annotation, type) and annotation.__module__.split(".")[0] == "exporter":
        yield annotation
    for argument in typing.get_args(annotation):
        for one in argument if isinstance(argument, list) else [argument]:
            yield from _classes(one)


def test_the_listing_of_the_public_api_is_fresh() -> None:
    """A change of the API is a decision: see CONTRIBUTING.md."""
    if importlib.util.find_spec("griffe") is None:
        pytest.skip("griffe is not installed: it comes with the extra dev")
    script = REPOSITORY / "scripts" / "api"
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_types_of_the_export_context_can_be_imported() -> None:
    """And all that clients and tests get: through the attributes and methods of each type."""
    modules = [importlib.import_module(name) for name in PUBLIC]
    known = {id(value) for module in modules for value in _public_names(module).values()}
    seen: set[type] = set()
    pending: list[type] = [exporter.ExportContext, exporter.Source, exporter.SavedSource, exporter.Exporter]
    pending += [client.BuildkitClient, client.SolveOptions, client.SolveError, client.OurExport]
    pending += [testing.Run, testing.MemoryRegistry, testing.MemoryLayer]
    while pending:
        kind = pending.pop()
        if kind in seen or issubclass(kind, enum.Enum) or kind.__module__.startswith("exporter.pb."):
            continue
        seen.add(kind)
        assert id(kind) in known, f"{kind.__module__}.{kind.__qualname__} is in no public module"
        for annotation in _annotations(kind):
            pending.extend(_classes(annotation))
    assert {exporter.LayerCache, exporter.ImageStore, exporter.Pusher, exporter.StatusUpdate} <= seen


def _public_names(module: types.ModuleType) -> dict[str, object]:
    names = getattr(module, "__all__", None)
    if names is None:
        names = [name for name in vars(module) if not name.startswith("_")]
    return {name: getattr(module, name) for name in names}


@pytest.mark.parametrize("path", BUILT_IN, ids=[str(path.relative_to(REPOSITORY)) for path in BUILT_IN])
def test_built_in_types_use_only_what_plugins_can(path: Path) -> None:
    modules = [importlib.import_module(name) for name in PUBLIC]
    offered = [_public_names(module) for module in modules]
    for module, aliases in _imported(path):
        if module.startswith("exporter.exporters"):  # a type's own parts
            continue
        if module == "exporter.lazy":  # imports modules, and offers nothing itself
            continue
        for alias in aliases:
            if f"{module}.{alias}" in PUBLIC:
                continue
            found = getattr(importlib.import_module(module), alias)
            assert any(names.get(alias) is found for names in offered) or any(
                found is value and inspect.isclass(found) for names in offered for value in names.values()
            ), f"{alias} of {module} is in no public module"
