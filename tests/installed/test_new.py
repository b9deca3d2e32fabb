"""A package that `new` has created: installed with the wheel, tested, type-checked and used."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.installed.conftest import Installation, install

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def made(wheel: Path, system_python: str, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """An environment with the package in it, whose sources are in ``layer-list``."""
    place = install(system_python, tmp_path_factory.mktemp("new"), str(wheel))
    done = place.run("new", "layer-list")
    assert done.status == 0, done.err
    place.pip("install", f"{place.home / 'layer-list'}[dev]")
    return place


@pytest.mark.parametrize("words", [("pytest", "-q", "-W", "error"), ("mypy",)])
def test_a_generated_package_passes_its_own_tests(made: Installation, words: tuple[str, ...]) -> None:
    done = subprocess.run(
        [made.python, "-m", *words],
        cwd=made.home / "layer-list",
        env=made.environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_generated_package_exports(made: Installation) -> None:
    for words in (
        ("exporters", "--type", "layer-list"),
        ("sample", "build"),
        ("export", "--source", "build", "--output", "type=layer-list,dest=layers.txt"),
    ):
        done = made.run(*words)
        assert done.status == 0, done.err
    assert (made.home / "layers.txt").read_text().startswith("sha256:")
    done = made.run("export", "--source", "build", "--output", "type=layer-list,min-size=x,dest=y")
    assert done.status == 2
    assert "specified for min-size" in done.err
