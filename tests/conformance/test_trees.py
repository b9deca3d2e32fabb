"""Every recorded tarball and directory, recreated from the layers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from exporter.exporters.output import LocalOutput
from exporter.exporters.registry import Registry
from exporter.image import Time
from exporter.layer.entry_tar import tar_pieces
from exporter.source.saved.load import SavedSource
from tests.builds import read_json, scenario, scenario_names
from tests.trees import listing, recorded_entries, recorded_listing, unlike_the_recorded
from tests.unit.exporters.harness import Workplace


def names(exporter_type: str) -> list[str]:
    return [
        name
        for name in scenario_names(daemon="buildkit")
        if read_json(name, "scenario.json")["exporter"]["type"] == exporter_type
    ]


async def export(name: str, directory: Path) -> Path:
    saved = await SavedSource.open(scenario(name))
    exporter = read_json(name, "scenario.json")["exporter"]
    output = directory / "output"
    await Workplace(directory).export(
        Registry().get(exporter["type"])(exporter["attrs"]), saved.source, output=LocalOutput(str(output))
    )
    return output


@pytest.mark.parametrize("name", names("tar"))
def test_the_bytes_of_a_tarball(name: str) -> None:
    written = b"".join(tar_pieces(recorded_entries(name, xattrs=True)))
    assert written == (scenario(name) / "result.tar").read_bytes()


@pytest.mark.parametrize("name", names("tar"))
async def test_tarball(name: str, tmp_path: Path) -> None:
    expected = b"".join(tar_pieces(recorded_entries(name, xattrs=False)))
    assert (await export(name, tmp_path)).read_bytes() == expected


def test_only_tar_exports_have_pax_headers() -> None:
    entries = {
        name: read_json(name, "tar_listing.json")["entries"]
        for name in scenario_names(daemon="buildkit")
        if name in names("tar")
    }
    beyond = {name for name, found in entries.items() if any(entry["pax_headers"] for entry in found)}
    assert beyond == {"tar", "tar-epoch"}


@pytest.mark.parametrize("name", names("local"))
async def test_directory(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "local-devices" and os.geteuid() != 0:
        pytest.skip("only root makes devices")
    statements = [e for e in read_json(name, "tree_listing.json") if "provenance.json" in e["path"]]
    if statements:
        made = Time.from_unix_nano(statements[0]["mtime_ns"])
        monkeypatch.setattr("exporter.exporters.files.source.now", lambda: made)
    output = await export(name, tmp_path)
    assert listing(output) == recorded_listing(name)
    assert unlike_the_recorded(name, output) == []
