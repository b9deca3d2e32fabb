"""Exporters in a single Python file."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from exporter.errors import InvalidArgumentError, NotFoundError
from exporter.exporters.blocking import run_export
from exporter.exporters.plugins import PluginError, blaming
from exporter.exporters.registry import Registry, default_registry
from exporter.exporters.single_file import load_exporters

ACME = """\
from __future__ import annotations

from dataclasses import dataclass

from exporter import ArtifactKind, ExportContext, Exporter, ExportResult, Source, option


@dataclass(frozen=True)
class Options:
    color: str = option(default="red", help="The color.")


class _Base(Exporter[Options]):
    title = "Acme's"
    artifact = ArtifactKind.NONE

    @property
    def name(self) -> str:
        return "exporting to acme"


class Acme(_Base):
    type = "acme"

    async def export(self, source: Source, context: ExportContext) -> ExportResult:
        raise KeyError("key")
"""

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(text: str) -> Path:
        path = tmp_path / "acme.py"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_classes_in_the_file_are_types(write: Write) -> None:
    registry = default_registry([write(ACME)])
    exporter = registry.make("acme", {"color": "blue"})
    assert exporter.options.color == "blue"  # type: ignore[attr-defined]
    assert registry.get("acme").attributes[0].name == "color"
    assert "oci" in registry.types


def test_the_file_runs_once_and_leaves_nothing_behind(write: Write) -> None:
    path = write(ACME)
    first = default_registry([path, path]).get("acme")
    assert default_registry([path]).get("acme") is first
    assert load_exporters(path.parent / "." / path.name) == (first,)
    assert [entry.name for entry in path.parent.iterdir()] == ["acme.py"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("\nclass X(:\n", "acme.py:2: SyntaxError: invalid syntax"),
        (
            "x = 1\n\nimport nothing_there\n",
            "acme.py:3: ModuleNotFoundError: No module named 'nothing_there'",
        ),
        ("def f():\n    raise SystemExit(3)\nf()\n", "acme.py:2: SystemExit: 3"),
        ("def f():\n    f()\nf()\n", "acme.py:2: RecursionError: maximum recursion depth exceeded"),
        ("x = 1\n", "acme.py: there is no exporter in it: no subclass of exporter.Exporter"),
        (
            ACME.replace('    type = "acme"\n', ""),
            'acme.py:22: class Acme has no type: add type = "..." to it',
        ),
        (
            ACME + "\n\nclass Other(Acme):\n    pass\n",
            'acme.py:29: classes Acme and Other are both of type "acme"',
        ),
        (
            ACME.replace("color: str", "color: float"),
            "acme.py:13: TypeError: Options.color: <class 'float'> is not a kind of option",
        ),
    ],
)
def test_errors_name_file_and_line(write: Write, text: str, problem: str) -> None:
    path = write(text)
    before = set(sys.modules)
    with pytest.raises(InvalidArgumentError) as raised:
        default_registry([path])
    assert raised.value.message.removeprefix(f"{path.parent}/").startswith(problem)
    assert {name for name in set(sys.modules) - before if name.startswith("exporter_module")} == set()


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="gone.py: no such file"):
        default_registry([tmp_path / "gone.py"])
    with pytest.raises(InvalidArgumentError, match="cannot be read: "):
        default_registry([tmp_path])


def test_a_type_that_exists_is_refused(write: Write) -> None:
    with pytest.raises(
        InvalidArgumentError,
        match=r'class Acme defines type "oci", which exists already \(built in\): choose another type',
    ):
        Registry(files=[write(ACME.replace('"acme"', '"oci"'))])


async def test_failures_name_the_file_and_the_line(write: Write) -> None:
    path = write(ACME)
    kind = Registry(files=[path]).get("acme")
    with pytest.raises(PluginError) as raised, blaming(kind):
        await run_export(kind({}), None, None)  # type: ignore[arg-type]
    assert raised.value.message == f"the exporter \"acme\" of {path} has failed: KeyError: 'key' (line 26)"
