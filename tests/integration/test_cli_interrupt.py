"""What an interrupted export leaves, and the order of several outputs."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.builds import scenario
from tests.integration.cli_process import PATIENCE, Result, run, server, start, wait_for

Place = tuple[list[str], Path]


@pytest.fixture(scope="module")
def server_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("server")


@pytest.fixture(scope="module")
def address(server_home: Path) -> Iterator[str]:
    with server(server_home) as address:
        yield address


@pytest.fixture(params=["here", "on a server"])
def place(request: pytest.FixtureRequest, tmp_path: Path, server_home: Path) -> Place:
    """Where the export runs: flags, and the root."""
    if request.param == "here":
        return ["--root", str(tmp_path / "root")], tmp_path / "root"
    return ["--addr", request.getfixturevalue("address")], server_home / "server"


def scratch_of(root: Path) -> set[Path]:
    """The directories of exports: of those that run, or wait to be published."""
    return set((root / "scratch").glob("*/export-*"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_export_leaves_nothing(place: Place, number: signal.Signals, tmp_path: Path) -> None:
    flags, root = place
    control, target = tmp_path / "control", tmp_path / "target"
    control.mkdir()
    target.mkdir()
    (target / "image.tar").write_bytes(b"before")
    others = scratch_of(root)
    process = start(
        tmp_path,
        *("export", "--source", str(scenario("docker")), *flags, "--progress", "plain"),
        *("--output", f"type=stalled,control={control},dest={target}/image.tar"),
        *("--metadata-file", str(target / "metadata.json")),
    )
    wait_for((control / "started").exists, process)
    process.send_signal(number)
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (128 + number, b"")
    lines = err.decode().splitlines()
    assert lines[0] == "#1 exporting half a file"
    assert lines[-1] == "#1 CANCELED"
    wait_for((control / "stopped").exists)
    assert [path.name for path in target.iterdir()] == ["image.tar"]
    assert (target / "image.tar").read_bytes() == b"before"
    wait_for(lambda: scratch_of(root) <= others)
    assert not list(tmp_path.glob("buildkit-exporter-*"))


def test_a_server_that_dies_fails_the_export(tmp_path: Path) -> None:
    control = tmp_path / "control"
    control.mkdir()
    with server(tmp_path, dies=True) as address:
        process = start(
            tmp_path,
            *("export", "--source", str(scenario("docker")), "--addr", address, "--progress", "plain"),
            *("--output", f"type=stalled,control={control},dest={tmp_path}/image.tar"),
        )
        wait_for((control / "started").exists, process)
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (1, b"")
    assert err.decode().splitlines()[-1].startswith("error: ")
    assert "Traceback" not in err.decode()
    assert not (tmp_path / "image.tar").exists()


def export_in_order(place: Place, home: Path, *fails: str) -> tuple[Result, list[str]]:
    log = home / "log"
    outputs = [
        f"type=ordered,log={log},label={label},fails={fail}"
        for label, fail in zip(("first", "second"), (*fails, "", ""), strict=False)
    ]
    result = run(
        home,
        *("export", "--source", str(scenario("docker")), *place[0], "--progress", "quiet"),
        *(word for output in outputs for word in ("--output", output)),
        *("--metadata-file", str(home / "metadata.json")),
    )
    return result, log.read_text().splitlines() if log.exists() else []


def test_outputs_are_published_when_all_have_been_made(place: Place, tmp_path: Path) -> None:
    result, log = export_in_order(place, tmp_path)
    assert (result.status, result.err) == (0, "")
    assert log == ["export first", "export second", "finalize first", "finalize second"]
    metadata = json.loads((tmp_path / "metadata.json").read_bytes())
    assert metadata == {"first": "finalized", "label": "second", "second": "finalized"}


def test_nothing_is_published_if_one_output_fails(place: Place, tmp_path: Path) -> None:
    result, log = export_in_order(place, tmp_path, "", "export")
    assert result.status == 1
    assert "cannot export" in result.err
    assert log == ["export first"]
    assert not (tmp_path / "metadata.json").exists()


def test_a_failure_to_publish_is_a_failure(place: Place, tmp_path: Path) -> None:
    result, log = export_in_order(place, tmp_path, "finalize")
    assert result.status == 1
    assert "cannot finalize" in result.err
    assert log == ["export first", "export second"]
    assert not (tmp_path / "metadata.json").exists()
