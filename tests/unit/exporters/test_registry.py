from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from exporter.errors import NotFoundError
from exporter.exporters.base import Exporter
from exporter.exporters.oci import OCIExporter
from exporter.exporters.registry import ENTRY_POINT_GROUP, Registry, default_registry

BUILT_IN = (
    "delta",
    "docker",
    "image",
    "local",
    "moby",
    "oci",
    "registry",
    "report",
    "rootfs",
    "squash",
    "tar",
)


def entry_point(name: str, value: str) -> EntryPoint:
    return EntryPoint(name, value, ENTRY_POINT_GROUP)


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "good_plugin.py").write_text(
        "from exporter import Exporter, ExportResult\n"
        "class Good(Exporter):\n"
        "    type = 'good'\n"
        "    title = 'Does nothing'\n"
        "    name = 'doing nothing'\n"
        "    async def export(self, source, context):\n"
        "        return ExportResult()\n"
        "class NoExporter:\n"
        "    type = 'none'\n"
    )
    (tmp_path / "broken_plugin.py").write_text("raise RuntimeError('no licence key')\n")
    monkeypatch.syspath_prepend(tmp_path)


def test_built_in_types_load() -> None:
    registry = Registry()
    assert registry.types == BUILT_IN
    assert [kind.type for kind in registry.all()] == list(BUILT_IN)
    assert registry.warnings == ()
    assert registry.get("oci") is OCIExporter


@pytest.mark.parametrize("exporter_type", BUILT_IN)
def test_built_in_types_describe_themselves(exporter_type: str) -> None:
    kind = Registry().get(exporter_type)
    assert kind.title
    names = [attribute.name for attribute in kind.attributes]
    assert len(names) == len(set(names))
    assert all(attribute.help.endswith(".") for attribute in kind.attributes)
    required = {"base": "example.com/base"} if exporter_type == "delta" else {}
    assert kind(required).name.startswith("exporting ")


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("dokcer", 'exporter "dokcer" could not be found (did you mean "docker"?)'),
        ("nosuch", f'exporter "nosuch" could not be found (available: {", ".join(BUILT_IN)})'),
        ('a"b', rf'exporter "a\"b" could not be found (available: {", ".join(BUILT_IN)})'),
    ],
)
def test_unknown_type(wanted: str, message: str) -> None:
    with pytest.raises(NotFoundError) as raised:
        Registry().get(wanted)
    assert raised.value.message == message
    assert raised.value.field == "type"


@pytest.mark.usefixtures("plugins")
def test_plugin_is_found() -> None:
    registry = Registry([entry_point("good", "good_plugin:Good")])
    assert issubclass(registry.get("good"), Exporter)
    assert registry.types == tuple(sorted((*BUILT_IN, "good")))


@pytest.mark.usefixtures("plugins")
@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("broken_plugin:Any", "does not load: RuntimeError: no licence key"),
        ("missing_plugin:Any", "does not load: ModuleNotFoundError: No module named 'missing_plugin'"),
        (
            "good_plugin:Missing",
            "does not load: AttributeError: module 'good_plugin' has no attribute 'Missing'",
        ),
        ("good_plugin:NoExporter", "is not a subclass of exporter.Exporter"),
        ("good_plugin:Good", 'says that its type is "good", but its entry point is named "bad"'),
    ],
)
def test_a_broken_plugin_does_not_affect_others(value: str, reason: str) -> None:
    registry = Registry([entry_point("bad", value), entry_point("good", "good_plugin:Good")])
    assert "good" in [kind.type for kind in registry.all()]
    assert registry.warnings == (f"plugin {value} {reason}",)
    with pytest.raises(NotFoundError) as raised:
        registry.get("bad")
    assert raised.value.message == f'exporter "bad" could not be found: plugin {value} {reason}'


@pytest.mark.usefixtures("plugins")
def test_plugin_cannot_replace_a_type() -> None:
    registry = Registry(
        [
            entry_point("oci", "good_plugin:Good"),
            entry_point("good", "good_plugin:Good"),
            entry_point("good", "other:Good"),
        ]
    )
    assert registry.get("oci") is OCIExporter
    assert registry.warnings == (
        'plugin other:Good defines type "good", which is taken (plugin good_plugin:Good); it is ignored',
        'plugin good_plugin:Good defines type "oci", which is taken (built in); it is ignored',
    )


def test_default_registry_has_the_built_in_types() -> None:
    assert set(BUILT_IN) <= set(default_registry().types)


def test_looking_for_types_loads_none() -> None:
    code = (
        "import sys\n"
        "from exporter.exporters.registry import default_registry\n"
        "default_registry().types\n"
        "sys.exit('exporter.exporters.oci' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
