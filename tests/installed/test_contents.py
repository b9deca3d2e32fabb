"""What is in the wheel and the sdist."""

from __future__ import annotations

import email
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.installed.conftest import REPOSITORY

pytestmark = pytest.mark.timeout(900)  # the first test builds, in an environment that pip makes


def sources() -> list[str]:
    """The files that the wheel is made of: those that git knows. Without git and in an sdist, all."""
    if (REPOSITORY / ".git").exists() and (git := shutil.which("git")):
        words = [git, "ls-files", "exporter", "protos"]
        done = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, check=True)
        return done.stdout.split()
    found = [path for room in ("exporter", "protos") for path in (REPOSITORY / room).rglob("*")]
    return [
        str(path.relative_to(REPOSITORY))
        for path in found
        if path.is_file() and path.parent.name != "__pycache__"
    ]


def test_the_wheel_has_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    expected = {f"exporter/{name}" if name.startswith("protos/") else name for name in sources()}
    assert {name for name in names if name.startswith("exporter/")} == expected
    rest = {name.split("/", 1)[1] for name in names - expected}
    assert rest == {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE"}


def test_the_metadata_is_valid_for_pypi(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = email.message_from_bytes(archive.read(name))
        (scripts,) = (name for name in archive.namelist() if name.endswith("entry_points.txt"))
        assert b"buildkit-exporter = exporter.cli.main:main" in archive.read(scripts)
    assert metadata["Name"] == "buildkit-exporter"
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Description-Content-Type"] == "text/markdown"
    urls = {text.partition(",")[0] for text in metadata.get_all("Project-URL", [])}
    assert urls == {"Homepage", "Documentation", "Changelog", "Issues", "Source"}
    description = metadata.get_payload()
    assert isinstance(description, str)
    assert "](docs/" not in description, "links into the repository lead nowhere on PyPI"
    assert "/blob/main/docs/" in description
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    # Each extra for users has a test in test_commands.py.
    assert set(metadata.get_all("Provides-Extra", [])) == set(project["optional-dependencies"])
    assert set(project["optional-dependencies"]) == {"metrics", "ssh", "test", "bench", "dev"}


def test_pypi_would_accept_both(dist: Path) -> None:
    files = map(str, dist.glob("*.*"))
    done = subprocess.run(
        [sys.executable, "-m", "twine", "check", "--strict", *files],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_sdist_has_what_the_tests_need(dist: Path) -> None:
    (path,) = dist.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    assert {
        "pyproject.toml",
        "README.md",
        "scripts/test",
        "tests/data/builds/builds.tar.xz",
        "buf.yaml",
    } <= names
    assert "protos/buildkit/exporter/v1/exporter.proto" in names
    assert not [name for name in names if "__pycache__" in name or name.startswith((".venv", "dist"))]
