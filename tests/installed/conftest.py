"""The wheel as users get it: built, and installed without extras by the distribution's Python."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]

DIST = "BUILDKIT_EXPORTER_DIST"
"""Environment variable with the directory of a wheel and an sdist that are built already."""


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    status: int
    out: str
    err: str


@dataclass(frozen=True)
class Installation:
    """A virtual environment with the wheel in it.

    Attributes:
        directory: Of the environment.
        home: The user's, empty at first; commands run here.
        variables: The environment variables, if others than those of a user who has set nothing.
    """

    directory: Path
    home: Path
    variables: Mapping[str, str] | None = None

    @property
    def python(self) -> Path:
        return self.directory / "bin" / "python"

    @property
    def command(self) -> str:
        return str(self.directory / "bin" / "buildkit-exporter")

    @property
    def environ(self) -> dict[str, str]:
        """The environment variables."""
        if self.variables is not None:
            return dict(self.variables)
        return {"PATH": f"{self.directory}/bin:/usr/bin:/bin", "HOME": str(self.home), "LC_ALL": "C.UTF-8"}

    def run(self, *words: str) -> Done:
        """Run ``buildkit-exporter`` to its end."""
        done = subprocess.run(
            [self.command, *words],
            cwd=self.home,
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def pip(self, *words: str) -> None:
        """Run the environment's pip."""
        _run(str(self.python), "-m", "pip", "--quiet", "--disable-pip-version-check", *words)


def _run(*words: str) -> None:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(words, env=environ, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout}{done.stderr}"


@pytest.fixture(scope="session")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the wheel and the sdist."""
    if built := os.environ.get(DIST):
        return REPOSITORY / built
    directory = tmp_path_factory.mktemp("dist")
    _run(sys.executable, "-m", "build", "--outdir", str(directory), str(REPOSITORY))
    return directory


@pytest.fixture(scope="session")
def wheel(dist: Path) -> Path:
    (found,) = dist.glob("*.whl")
    return found


@pytest.fixture(scope="session")
def system_python() -> str:
    """The distribution's Python if it is new enough, else the one that runs the tests."""
    for path in ("/usr/bin/python3", "/usr/local/bin/python3"):
        check = [path, "-c", "import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))"]
        if shutil.which(path) and subprocess.run(check, capture_output=True, check=False).returncode == 0:
            return path
    return sys.executable


def install(python: str, directory: Path, *requirements: str) -> Installation:
    """Make an environment with what is required in it."""
    _run(python, "-m", "venv", str(directory / "venv"))
    home = directory / "home"
    home.mkdir()
    installation = Installation(directory / "venv", home)
    installation.pip("install", *requirements)
    return installation


@pytest.fixture(scope="session")
def installed(wheel: Path, system_python: str, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """The wheel, without extras."""
    return install(system_python, tmp_path_factory.mktemp("installed"), str(wheel))
