"""The example of docs/writing-an-exporter.md works as it stands there."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from exporter.images import Image, Workshop
from exporter.images.reading import read_image
from exporter.testing import MemoryLayer, Workbench, source_of
from tests.builds import read_json, scenario
from tests.documents import blocks

GUIDE = Path(__file__).parents[2] / "docs" / "writing-an-exporter.md"


def block(language: str) -> str:
    match = re.search(rf"```{language}\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    assert match is not None
    return match[1]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """An environment in which the example is installed, as an installer of its wheel would have done it."""
    site = tmp_path / "site"
    project = tomllib.loads(block("toml"))["project"]
    info = site / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir(parents=True)
    (site / "layer_report.py").write_text(block("python"))
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    lines = [
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in entries.items())
        for group, entries in project["entry-points"].items()
    ]
    (info / "entry_points.txt").write_text("".join(lines))
    return {**os.environ, "PYTHONPATH": str(site), "XDG_DATA_HOME": str(tmp_path / "data")}


def run(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-c",
        "from exporter.cli.main import main; raise SystemExit(main())",
        *arguments,
    ]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def export(environment: dict[str, str], name: str, output: str) -> subprocess.CompletedProcess[str]:
    return run(
        environment, "export", "--source", str(scenario(name)), "--progress", "plain", "--output", output
    )


def test_the_type_is_listed(environment: dict[str, str]) -> None:
    result = run(environment, "exporters", "--type", "layer-report", "--json")
    assert result.returncode == 0, result.stderr
    (description,) = json.loads(result.stdout)
    assert description["type"] == "layer-report"
    assert [attribute["name"] for attribute in description["attributes"]] == ["min-size"]


@pytest.mark.parametrize(("name", "platforms"), [("from-base", 1), ("multi-platform", 2)])
def test_the_type_exports(environment: dict[str, str], tmp_path: Path, name: str, platforms: int) -> None:
    dest = tmp_path / "layers.json"
    metadata = tmp_path / "metadata.json"
    result = run(
        environment,
        *("export", "--source", str(scenario(name)), "--metadata-file", str(metadata)),
        *("--progress", "plain", "--output", f"type=layer-report,dest={dest}"),
    )
    assert result.returncode == 0, result.stderr
    assert "exporting a report of the layers" in result.stderr
    report = json.loads(dest.read_text())
    chains = {entry["key"]: entry["chain"] for entry in read_json(name, "chains.json")["refs"]}
    assert len(report) == platforms
    assert {key: [layer["digest"] for layer in layers] for key, layers in report.items()} == {
        key: [layer["blob"]["digest"] for layer in chain] for key, chain in chains.items()
    }
    count = sum(len(layers) for layers in report.values())
    assert json.loads(metadata.read_text())["layer-report.count"] == str(count)


def test_attributes_take_effect(environment: dict[str, str], tmp_path: Path) -> None:
    dest = tmp_path / "layers.json"
    result = export(environment, "from-base", f"type=layer-report,min-size=1000,dest={dest}")
    assert result.returncode == 0, result.stderr
    (layers,) = json.loads(dest.read_text()).values()
    assert len(layers) == 1


def test_wrong_attributes_are_refused(environment: dict[str, str], tmp_path: Path) -> None:
    dest = tmp_path / "x"
    for value, text in (
        ("big", 'min-size: "big" is not a whole number'),
        ("-1", "min-size must not be negative"),
    ):
        result = export(environment, "from-base", f"type=layer-report,min-size={value},dest={dest}")
        assert result.returncode != 0
        assert text in result.stderr
    assert not dest.exists()


async def test_the_example_of_a_changed_image(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    text = GUIDE.read_text(encoding="utf-8")
    match = re.search(r"<!-- file: package_list.py -->\n```python\n(.*?)```", text, re.DOTALL)
    assert match is not None
    (tmp_path / "package_list.py").write_text(match[1])
    monkeypatch.syspath_prepend(tmp_path)
    kind = importlib.import_module("package_list").PackageList
    status = b"Package: base-files\nStatus: installed\n\nPackage: dash\n"
    source = source_of(MemoryLayer({"var/lib/dpkg/status": status}))
    async with Workbench.open() as bench:
        run = await bench.export(kind({"tar": "false"}), source)
        (layout,) = run.output.layouts
        (published,) = layout.images
        image = await read_image(layout.store, published.root, Workshop(tmp_path))
        assert isinstance(image, Image)
        assert image.labels == {"com.example.packages": "2"}
        assert [step.created_by for step in image.history] == ["RUN make", "package-list"]
        async with image.files() as files:
            assert await files.read("packages.txt") == b"base-files\ndash\n"


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A directory with the Python files of the guide."""
    directory = tmp_path / "files"
    directory.mkdir()
    for item in blocks(GUIDE):
        if item.language == "python" and "file" in item.notes:
            (directory / item.notes["file"]).write_text(item.text)
    return directory


def test_the_tests_of_the_guide_pass(files: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_local_report.py"],
        cwd=files,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout


@pytest.mark.skipif(importlib.util.find_spec("mypy") is None, reason="mypy comes with the extra dev")
def test_the_files_of_the_guide_are_typed(files: Path, tmp_path: Path) -> None:
    names = sorted(path.name for path in files.iterdir())
    assert {"layer_report.py", "local_report.py", "members.py", "test_local_report.py"} <= set(names)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), *names],
        cwd=files,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("name", "exporter_type"), [("local_report", "local-report"), ("members", "members")]
)
def test_files_of_the_guide_export(files: Path, tmp_path: Path, name: str, exporter_type: str) -> None:
    dest = tmp_path / "out"
    result = run(
        dict(os.environ),
        *("export", "--exporter-module", str(files / f"{name}.py"), "--source", str(scenario("from-base"))),
        *("--progress", "plain", "--output", f"type={exporter_type},dest={dest}"),
    )
    assert result.returncode == 0, result.stderr
    assert len(dest.read_text().splitlines()) > 1
