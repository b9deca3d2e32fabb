"""Users without a home, such as those of services and containers: what stores no image needs none."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.builds import scenario
from tests.integration.cli_process import PATIENCE, run, start, wait_for, wait_for_listener

NO_HOME = {"HOME": "/dev/null"}
PROBLEM = (
    "the image store in /dev/null/.local/share/buildkit-exporter cannot be used: Not a directory; "
    "choose another one with --root"
)


@pytest.mark.parametrize("kind", ["oci", "docker", "tar", "local"])
def test_an_export_here(kind: str, tmp_path: Path) -> None:
    output = f"type={kind},dest={tmp_path / 'out'}"
    result = run(tmp_path, "export", "--source", str(scenario("run-chain")), "-o", output, variables=NO_HOME)
    assert result.status == 0, result.err
    assert (tmp_path / "out").exists()
    assert not list(tmp_path.glob("buildkit-exporter-*"))  # scratch files


def test_a_server(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    address = f"unix://{path}"
    export = (
        "export",
        "--source",
        str(scenario("run-chain")),
        "--addr",
        address,
        "--progress",
        "quiet",
        "-o",
    )
    process = start(tmp_path, "serve", "--addr", address, variables=NO_HOME)
    try:
        wait_for_listener(process, path)
        archive = run(tmp_path, *export, f"type=oci,dest={tmp_path / 'out'}")
        image = run(tmp_path, *export, "type=image,name=app")
    finally:
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=PATIENCE)
    assert archive.status == 0, archive.err
    assert image.err.splitlines()[-1] == f"error: {PROBLEM}"
    assert f"{PROBLEM}. Until then, only exports that store no image work" in log.decode()
    assert process.returncode == 0


def test_a_proxy(tmp_path: Path) -> None:
    path = tmp_path / "p.sock"
    process = start(
        tmp_path,
        *("proxy", "--buildkitd", f"unix://{tmp_path}/none.sock", "--addr", f"unix://{path}"),
        variables=NO_HOME,
    )
    try:
        wait_for(path.exists, process)
    finally:
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=PATIENCE)
    assert f"{PROBLEM}. Until then, only exports that store no image work" in log.decode()
