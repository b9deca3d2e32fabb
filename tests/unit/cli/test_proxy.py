"""``buildkit-exporter proxy`` without a daemon."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

import exporter.cli.proxy
from exporter.cli.main import main
from exporter.cli.workplace import workplace_config
from exporter.exporters.registry import default_registry
from exporter.takeover.local import LocalBackend
from tests.command import parse_args


@pytest.mark.parametrize("name", ["x" * 100, "ü" * 50, "a b%41ü?#"])
async def test_any_temporary_directory_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    odd = tmp_path / name
    odd.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(odd))
    options = parse_args("proxy", "--root", str(tmp_path / "root"))
    async with LocalBackend.open(workplace_config(options), default_registry()) as backend:
        assert (await backend.resolve(0, "oci", {})).name == "exporting to oci image format"
    assert list(odd.iterdir()) == []


def test_a_default_address_that_cannot_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(exporter.cli.proxy, "DEFAULT_PROXY_ADDRESS", f"unix://{tmp_path}/file/run/b.sock")
    assert main(["proxy", "--root", str(tmp_path / "root")]) == 2
    assert (
        f"error: cannot make {tmp_path}/file/run, where the default address is: Not a directory; "
        "choose an address with --addr\n"
    ) in capsys.readouterr().err
