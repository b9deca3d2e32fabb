"""Runs the command line as a user other than root, even if only root can read the checkout and its Python."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import exporter

NOBODY = 65534

_SCRIPT = """\
#!{python}
import sys
sys.path.insert(0, {packages!r})
from exporter.cli.main import main
sys.exit(main())
"""


@contextmanager
def ordinary_environment(directory: Path) -> Iterator[Mapping[str, str]]:
    """Variables with which `NOBODY` can run ``buildkit-exporter``.

    What is in root's home is out of the reach of others. If the environment of the tests is there, they get a
    copy of the package and of what it needs.

    Args:
        directory: For the copy.

    Raises:
        pytest.skip.Exception: there is no Python that others can run.
    """
    if _can_run(sys.executable, "-c", "import exporter.cli"):
        yield {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        return
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for python in (os.path.realpath(sys.executable), f"/usr/bin/{name}", f"/usr/local/bin/{name}"):
        if _can_run(python, "-c", "import asyncio"):
            break
    else:
        pytest.skip(f"ordinary users have no {name}: apt install {name}")
    packages, commands = directory / "packages", directory / "bin"
    shutil.copytree(exporter.__path__[0], packages / "exporter")
    for required in _required("buildkit-exporter"):
        _copy(required, packages)
    commands.mkdir()
    command = commands / "buildkit-exporter"
    command.write_text(_SCRIPT.format(python=python, packages=str(packages)))
    command.chmod(0o755)
    directory.chmod(0o755)
    yield {"PATH": f"{commands}:{os.environ['PATH']}"}


def _can_run(*words: str) -> bool:
    try:
        done = subprocess.run(words, user=NOBODY, cwd="/", check=False, capture_output=True)
    except PermissionError:
        return False
    return done.returncode == 0


def _required(name: str) -> Iterator[Distribution]:
    """A distribution, and all that it requires without extras."""
    seen: set[str] = set()
    waiting = [name]
    while waiting:
        found = distribution(waiting.pop())
        if found.name in seen:
            continue
        seen.add(found.name)
        yield found
        for text in found.requires or ():
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                waiting.append(requirement.name)


def _copy(found: Distribution, packages: Path) -> None:
    for file in found.files or ():
        source = Path(str(file.locate()))
        if ".." in file.parts or "__pycache__" in file.parts or not source.exists():
            continue
        target = packages / file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
