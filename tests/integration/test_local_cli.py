"""Trees of files from the command line: in its own process, and through a server."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.builds import scenario
from tests.integration.cli_process import PATIENCE, Result, run, server, start, wait_for
from tests.trees import listing, recorded_listing


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def address(home: Path) -> Iterator[str]:
    with server(home) as address:
        yield address


@pytest.fixture(params=["in process", "on a server"])
def where(request: pytest.FixtureRequest, address: str) -> tuple[str, ...]:
    """The arguments that select where the export runs."""
    return () if request.param == "in process" else ("--addr", address)


def export(home: Path, name: str, where: tuple[str, ...], *outputs: str) -> Result:
    words = [word for output in outputs for word in ("-o", output)]
    return run(home, "export", "--source", str(scenario(name)), "--progress", "rawjson", *where, *words)


def timeless(tree: dict[str, dict[str, object]]) -> dict[str, dict[str, object]]:
    """The files of attestations have the time of their export."""
    return {
        path: {key: value for key, value in entry.items() if not (key == "mtime" and "provenance" in path)}
        for path, entry in tree.items()
    }


@pytest.mark.parametrize("name", ["local", "local-multi-split", "local-provenance", "local-metadata-only"])
@pytest.mark.parametrize("mode", ["copy", "delete"])
def test_a_directory(home: Path, tmp_path: Path, where: tuple[str, ...], name: str, mode: str) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "old").write_text("old")
    prefix = ",attestation-prefix=pre-" if name == "local-provenance" else ""
    metadata = tmp_path / "metadata.json"
    result = export(
        home, name, (*where, "--metadata-file", str(metadata)), f"type=local,dest={out},mode={mode}{prefix}"
    )
    assert result.status == 0, result.err
    found = listing(out)
    assert (found.pop("old", None) is not None) == (mode == "copy")
    assert timeless(found) == timeless(recorded_listing(name))
    assert json.loads(metadata.read_text()) == {}
    statuses = [status for line in result.err.splitlines() for status in json.loads(line).get("statuses", [])]
    assert {status["id"].partition(" linux")[0] for status in statuses} == {"copying files"}
    assert statuses[-1]["completed"]


@pytest.mark.parametrize("name", ["tar-epoch", "tar-multi"])
def test_a_tarball_and_a_directory_at_once(
    home: Path, tmp_path: Path, where: tuple[str, ...], name: str
) -> None:
    result = export(home, name, where, f"type=tar,dest={tmp_path}/out.tar", f"type=local,dest={tmp_path}/out")
    if name == "tar-epoch" and os.geteuid() != 0:
        assert "failed to create device null" in result.err
        return
    assert result.status == 0, result.err
    assert listing(tmp_path / "out")
    if name == "tar-multi":
        assert (tmp_path / "out.tar").read_bytes() == (scenario(name) / "result.tar").read_bytes()


def test_a_tarball_to_standard_output(home: Path, where: tuple[str, ...]) -> None:
    result = export(home, "tar-multi", where, "type=tar")
    assert result.out == (scenario("tar-multi") / "result.tar").read_bytes()


def test_files_of_the_same_path(home: Path, tmp_path: Path, where: tuple[str, ...]) -> None:
    out = tmp_path / "out"
    result = export(home, "local-multi-split", where, f"type=local,dest={out},platform-split=false")
    assert result.status == 1
    assert (
        "cannot overwrite d/b from linux/amd64 with linux/arm64 when split option is disabled" in result.err
    )
    assert not out.exists()


@pytest.mark.parametrize("words", ["mode=x", "platform-split=x", "source-date-epoch=x"])
@pytest.mark.parametrize("kind", ["local", "tar"])
def test_attributes_that_cannot_be_used(
    home: Path, tmp_path: Path, where: tuple[str, ...], kind: str, words: str
) -> None:
    result = export(home, "local", where, f"type={kind},dest={tmp_path}/out,{words}")
    assert result.status == 2
    assert words.partition("=")[0].partition("-")[0] in result.err or "local exporter mode" in result.err
    assert not list(tmp_path.iterdir())


def test_a_directory_that_cannot_be_written(home: Path, tmp_path: Path, where: tuple[str, ...]) -> None:
    (tmp_path / "file").touch()
    result = export(home, "local", where, f"type=local,dest={tmp_path}/file/out")
    assert result.status in {1, 2}
    assert str(tmp_path / "file") in result.err
    assert "Traceback" not in result.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_export_leaves_no_partial_file(
    home: Path, tmp_path: Path, where: tuple[str, ...], number: signal.Signals
) -> None:
    control, out = tmp_path / "control", tmp_path / "out"
    for directory in (control, out):
        directory.mkdir()
    (out / "old").write_text("old")
    process = start(
        home,
        *("export", "--source", str(scenario("local")), "--progress", "plain", *where),
        *("-o", f"type=endless,mode=delete,control={control},dest={out}"),
    )
    wait_for((control / "started").exists, process)
    wait_for((out / "a-file").exists, process)
    process.send_signal(number)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 128 + number
    assert err.decode().splitlines()[-1] == "#1 CANCELED"
    wait_for((control / "stopped").exists)
    assert {path.name for path in out.iterdir()} == {"a-file", "old"}
