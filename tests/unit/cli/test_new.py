"""The command `new`."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

import pytest

from exporter.cli.failures import UsageError
from exporter.cli.main import main
from exporter.cli.new import check_name
from exporter.cli.package_template import package_files
from exporter.exporters.registry import Registry


@pytest.mark.parametrize("name", ["a", "layer-list", "sbom2html", "a-1", "a" * 64])
def test_names(name: str) -> None:
    check_name(name)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("", "beginning with a letter$"),
        ("LayerList", "such as layer-list$"),
        ("layer_list", "such as layer-list$"),
        ("layer.list", "such as layer-list$"),
        ("-a", "such as a$"),
        ("a--b", "such as a-b$"),
        ("1st", "beginning with a letter$"),
        ("a/../../b", "beginning with a letter$"),
        ("a\n", "such as a$"),
        ("ärger", "beginning with a letter$"),
        ("a" * 65, "beginning with a letter$"),
        ("class", "class is a keyword of Python$"),
        ("match", "match is a keyword of Python$"),
        ("json", "there is a module json already$"),
        ("exporter", "there is a module exporter already$"),
        ("oci", "cannot be the name of a type: it exists already$"),
    ],
)
def test_names_that_cannot_be(name: str, text: str) -> None:
    with pytest.raises(UsageError, match=text):
        check_name(name)


def test_the_package(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "deep" / "it"
    assert main(["new", "layer-list", str(place)]) == 0
    assert f"{place}: a package with an exporter of type layer-list" in capsys.readouterr().out
    written = {str(path.relative_to(place)) for path in place.rglob("*") if path.is_file()}
    assert written == set(package_files("layer-list"))
    project = tomllib.loads((place / "pyproject.toml").read_text())["project"]
    assert project["entry-points"] == {
        "buildkit_exporter.exporters": {"layer-list": "layer_list:LayerListExporter"}
    }
    for path in place.rglob("*.py"):
        ast.parse(path.read_text())
    kind = Registry(files=[place / "src" / "layer_list" / "__init__.py"]).get("layer-list")
    assert [attribute.name for attribute in kind.attributes] == ["min-size"]


def test_nothing_is_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["new", "layer-list"]) == 0
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert main(["new", "layer-list"]) == 2
    assert "layer-list is not empty: choose a new or empty directory" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    (tmp_path / "file").write_text("")
    assert main(["new", "other", "file"]) == 2
    assert main(["new", "other", "file/below"]) == 2
