from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from exporter.cli.workplace import workplace_config
from exporter.exporters.registry import default_registry
from exporter.takeover.local import LocalBackend
from tests.command import parse_args


@pytest.mark.parametrize("name", ["x" * 100, "ü" * 50, "a b%41ü?#"])
async def test_any_temporary_directory_will_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    odd = tmp_path / name
    odd.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(odd))
    options = parse_args("proxy", "--root", str(tmp_path / "root"))
    async with LocalBackend.open(workplace_config(options), default_registry()) as backend:
        assert (await backend.resolve(0, "oci", {})).name == "exporting to oci image format"
    assert list(odd.iterdir()) == []
