"""BuildKit's output is valid by our rules, too."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from exporter.verify import Outcome
from tests.builds import read_json, scenario, scenario_names
from tests.unit.verify.layouts import found, texts, verify

LAYOUTS = [name for name in scenario_names() if (scenario(name) / "oci").is_dir()]
SAVED = [name for name in scenario_names(daemon="moby") if (scenario(name) / "save").is_dir()]

# The daemon was not made to pull the layers of a base image that nothing was built on.
INCOMPLETE = {"lazy-image-nohistory"}

# Results of LLB without a config: the daemon took the machine's platform for all of them.
OF_ANOTHER_PLATFORM = {"llb-multi", "llb-multi-shared"}


@pytest.mark.parametrize("name", LAYOUTS)
async def test_recorded_layouts(name: str) -> None:
    report = await verify(scenario(name) / "oci")
    missing = read_json(name, "result.json")["missing_blobs"]
    assert bool(missing) is (name in INCOMPLETE)
    lacking = [result for result in report.results if result.outcome is Outcome.PROBLEM]
    assert sorted(result.subject.digest for result in lacking) == sorted(missing), texts(report)
    assert all("it is missing" in result.findings[0].what for result in lacking)
    platforms = [check for _, _, check in found(report, Outcome.NOTE) if check == "platform"]
    assert bool(platforms) is (name in OF_ANOTHER_PLATFORM)


@pytest.mark.parametrize("name", LAYOUTS[:: len(LAYOUTS) // 8])
@pytest.mark.parametrize("mode", ["w", "w:gz"])
async def test_archives_and_layouts_give_the_same_report(tmp_path: Path, name: str, mode: str) -> None:
    with tarfile.open(tmp_path / "image.tar", mode) as tar:  # type: ignore[call-overload]
        tar.add(scenario(name) / "oci", arcname=".")
    layout = await verify(scenario(name) / "oci")
    archive = await verify(tmp_path / "image.tar")
    assert archive.is_ok is layout.is_ok
    # Archives of docker's type have a manifest.json besides.
    assert archive.results[: len(layout.results)] == layout.results


@pytest.mark.parametrize("name", SAVED)
async def test_docker_save_archives_are_valid(tmp_path: Path, name: str) -> None:
    with tarfile.open(tmp_path / "image.tar", "w") as tar:
        tar.add(scenario(name) / "save", arcname=".")
    report = await verify(tmp_path / "image.tar")
    assert report.is_ok, texts(report)
    config = read_json(name, "result.json")["image_id"]
    assert ("config", "digest", config) in [
        (result.subject.kind, result.check, result.subject.digest) for result in report.results
    ]
