"""Every command, run as users run it: from the wheel without extras, outside of the repository."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.buildkit import own_buildkitd
from tests.installed.conftest import REPOSITORY, Installation
from tests.integration.cli_process import PATIENCE, wait_for_listener
from tests.integration.registry_peer import docker_registry
from tests.peers import require

pytestmark = pytest.mark.timeout(900)  # the first test makes an environment, with pip

TYPES = {"oci", "docker", "image", "registry", "delta", "moby", "report", "rootfs", "squash", "tar", "local"}

RUN: set[str] = set()
"""Commands that a test of this module has run."""


def run(installed: Installation, *words: str) -> str:
    """Run a command that has to succeed; gives what it printed."""
    RUN.add(words[0])
    done = installed.run(*words)
    assert done.status == 0, f"{words}\n{done.out}{done.err}"
    assert "Traceback" not in done.err
    return done.out


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="bke-", dir="/tmp"))  # the path of a socket has to be short
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="module")
def sample(installed: Installation) -> str:
    run(installed, "sample", "build")
    return str(installed.home / "build")


@contextmanager
def background(installed: Installation, socket: Path, *words: str) -> Iterator[str]:
    """Run a command that listens at a socket; it must exit with 0 after SIGTERM. Yields its address."""
    RUN.add(words[0])
    log = socket.with_suffix(".log")
    with log.open("wb") as file:
        process = subprocess.Popen(
            [installed.command, *words, "--addr", f"unix://{socket}"],
            cwd=installed.home,
            env=installed.environ,
            stderr=file,
        )
    try:
        wait_for_listener(process, socket)
        yield f"unix://{socket}"
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            status = process.wait(PATIENCE)
        finally:
            process.kill()
    assert status == 0, log.read_text()
    assert "Traceback" not in log.read_text()


@contextmanager
def daemon(place: Path) -> Iterator[str]:
    """A simulated buildkitd; it runs in the environment of the tests."""
    path = place / "d.sock"
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.integration.simulator", str(path)], cwd=REPOSITORY
    )
    try:
        wait_for_listener(process, path)
        yield f"unix://{path}"
    finally:
        process.kill()
        process.wait()


def expected_digest(installed: Installation) -> str:
    result = json.loads((installed.home / "build" / "result.json").read_bytes())
    digest: str = result["exporter_response"]["containerimage.digest"]
    return digest


def test_every_module_can_be_imported(installed: Installation) -> None:
    """Except for those that need extras."""
    program = """
import importlib, pkgutil, exporter
for module in pkgutil.walk_packages(exporter.__path__, "exporter."):
    if module.name.endswith("__main__"):
        continue
    try:
        importlib.import_module(module.name)
    except ModuleNotFoundError as error:
        print(module.name, error.name)
"""
    done = subprocess.run(
        [installed.python, "-c", program],
        cwd=installed.home,
        env=installed.environ,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == [
        "exporter.proxy.prometheus prometheus_client",
        "exporter.pytest_plugin pytest",
        "exporter.server.prometheus prometheus_client",
    ]


OUTPUTS = [
    "type=oci,dest=oci.tar,name=example.com/a:v1",
    "type=oci,tar=false,dest=layout",
    "type=docker,dest=docker.tar,name=example.com/a:v1",
    "type=tar,dest=files.tar",
    "type=local,dest=files",
    "type=image,name=example.com/a:v1",
    "type=moby,name=example.com/a:v1",
    "type=squash,dest=squashed.tar,name=example.com/a:v1",
    "type=report,dest=report.html",
    "type=rootfs,dest=rootfs.ext4",
]


@pytest.mark.parametrize("output", OUTPUTS)
def test_exports_of_every_type(installed: Installation, sample: str, output: str) -> None:
    if output.startswith("type=rootfs"):
        require("mke2fs", "e2fsprogs")
    run(installed, "export", "--source", sample, "--output", output, "--metadata-file", "metadata.json")
    metadata = json.loads((installed.home / "metadata.json").read_bytes())
    if output.startswith("type=oci,dest"):
        assert metadata["containerimage.digest"] == expected_digest(installed)


async def test_pushes_to_a_registry(installed: Installation, sample: str, tmp_path: Path) -> None:
    async with docker_registry(tmp_path) as registry:
        name = f"{registry}/a:v1"
        for words in (
            ("export", "--source", sample, "--output", f"type=registry,name={name}"),
            ("verify", name),
            ("export", "--source", sample, "--output", f"type=delta,base={name},dest=delta.tar"),
        ):
            await asyncio.to_thread(run, installed, *words)


def test_every_type_is_exported() -> None:
    """A new type has to be added to `OUTPUTS`; ``registry`` and ``delta`` have a test of their own."""
    assert {re.split("[=,]", output)[1] for output in OUTPUTS} | {"delta", "registry"} == TYPES


def test_commands_that_read_images(installed: Installation, sample: str) -> None:
    run(installed, "export", "--source", sample, "--output", "type=oci,dest=looked-at.tar")
    assert expected_digest(installed)[7:19] in run(installed, "inspect", "looked-at.tar")
    run(installed, "verify", "looked-at.tar")
    run(installed, "export", "--source", sample, "--output", "type=image,name=example.com/kept:v1")
    run(installed, "prune")
    root = installed.home / ".local" / "share" / "buildkit-exporter"
    assert "example.com/kept:v1" in run(installed, "inspect", str(root))
    assert "example.com/kept:v1" in run(installed, "images")


def test_listing_types(installed: Installation) -> None:
    listed = {kind["type"] for kind in json.loads(run(installed, "exporters", "--json"))}
    assert listed == TYPES
    assert "compression" in run(installed, "exporters", "--type", "oci")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(installed: Installation, shell: str) -> None:
    assert "buildkit-exporter" in run(installed, "completion", shell)


def test_a_server_and_an_export_on_it(installed: Installation, sample: str, place: Path) -> None:
    with background(installed, place / "s.sock", "serve") as address:
        run(installed, "wait", "--addr", address)
        run(
            installed,
            *("export", "--addr", address, "--source", sample),
            *("--output", "type=oci,dest=served.tar", "--metadata-file", "served.json"),
        )
        assert "answers at" in run(installed, "wait", "--addr", address)
        assert "oci" in run(installed, "exporters", "--addr", address)
    metadata = json.loads((installed.home / "served.json").read_bytes())
    assert metadata["containerimage.digest"] == expected_digest(installed)


def test_builds_on_a_simulated_daemon_directly_and_through_the_proxy(
    installed: Installation, place: Path
) -> None:
    """A client of the distribution's Python, since the simulator has no Dockerfile frontend for `build`."""
    program = """
import asyncio, sys
from exporter.client import BuildkitClient, Export, SolveOptions
async def main():
    async with BuildkitClient.connect(sys.argv[1]) as client:
        options = SolveOptions(
            frontend="simulated",
            frontend_attrs={"scenario": "run-chain", "behaviour": ""},
            exports=[Export("plugin.image", {"name": "example.com/p:v1"})],
        )
        print((await client.solve(options)).response["containerimage.digest"])
asyncio.run(main())
"""
    with (
        daemon(place) as buildkitd,
        background(installed, place / "p.sock", "proxy", "--buildkitd", buildkitd) as address,
    ):
        done = subprocess.run(
            [installed.python, "-c", program, address],
            cwd=installed.home,
            env=installed.environ,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == expected_digest(installed)


def test_builds_on_a_real_daemon_directly_and_through_the_proxy(installed: Installation, place: Path) -> None:
    context = installed.home / "context"
    context.mkdir()
    (context / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /\n")
    with own_buildkitd() as buildkitd, ExitStack() as stack:
        address = stack.enter_context(
            background(installed, place / "r.sock", "proxy", "--buildkitd", buildkitd)
        )
        for addr, output in (
            (buildkitd, "type=plugin.oci,dest=direct.tar"),
            (address, "type=plugin.image,name=example.com/r:v1"),
        ):
            run(installed, "build", "--addr", addr, "--output", output, "--strict", str(context))
    run(installed, "verify", "direct.tar")


def test_build_reports_a_missing_daemon(installed: Installation, place: Path) -> None:
    RUN.add("build")
    done = installed.run("build", "--addr", f"unix://{place}/none.sock", "--output", "type=plugin.image", ".")
    assert done.status in {1, 2}
    assert "Traceback" not in done.err


@pytest.mark.parametrize("home", [None, "/proc/none"])
def test_no_home_directory_is_needed(
    installed: Installation, sample: str, place: Path, home: str | None
) -> None:
    """It may be unset, or a place that nobody can write to, as in many containers."""
    environ = {**installed.environ, "HOME": home} if home else {}
    bare = replace(installed, variables=environ)
    root = ("--root", str(place / f"root-{home is None}"))
    run(bare, "exporters")
    run(bare, "export", "--source", sample, "--output", f"type=oci,dest={place}/bare.tar", *root)
    with background(bare, place / "h.sock", "serve", *root) as address:
        run(bare, "exporters", "--addr", address)
    with (
        daemon(place) as buildkitd,
        background(bare, place / "q.sock", "proxy", "--buildkitd", buildkitd, *root),
    ):
        pass


def test_metrics_need_their_extra(installed: Installation, wheel: Path, place: Path) -> None:
    """The message names everything that has to be installed."""
    words = ("serve", "--metrics-addr", "127.0.0.1:0")
    done = installed.run(*words, "--addr", f"unix://{place}/m.sock")
    assert done.status != 0
    assert "pip install 'buildkit-exporter[metrics]'" in done.err
    assert "Traceback" not in done.err
    installed.pip("install", f"buildkit-exporter[metrics] @ file://{wheel}")
    try:
        with background(installed, place / "e.sock", *words):
            log = (place / "e.log").read_text()
        assert re.search(r"metrics on http://127\.0\.0\.1:\d+/metrics", log), log
    finally:
        installed.pip("uninstall", "--yes", "prometheus-client")


def test_ssh_keys_need_their_extra(installed: Installation, wheel: Path) -> None:
    openssl = require("openssl", "openssl")
    key = installed.home / "key.pem"
    subprocess.run([openssl, "genpkey", "-algorithm", "ed25519", "-out", str(key)], check=True)
    program = """
import sys, pathlib
from exporter.daemon.ssh.keys import KeyRing
from exporter.errors import ExporterError
try:
    KeyRing.read([pathlib.Path(sys.argv[1])])
except ExporterError as error:
    sys.exit(str(error))
"""

    def read() -> subprocess.CompletedProcess[str]:
        words = [str(installed.python), "-c", program, str(key)]
        return subprocess.run(
            words, env=installed.environ, cwd=installed.home, capture_output=True, text=True, check=False
        )

    assert "pip install 'buildkit-exporter[ssh]'" in read().stderr
    installed.pip("install", f"buildkit-exporter[ssh] @ file://{wheel}")
    try:
        assert read().returncode == 0
    finally:
        installed.pip("uninstall", "--yes", "cryptography")


def test_new(installed: Installation) -> None:
    """The package itself is tested in test_new.py."""
    run(installed, "new", "my-exporter")
    assert (installed.home / "my-exporter" / "pyproject.toml").exists()


def test_every_command_was_run(installed: Installation) -> None:
    """A new command has to be tested in this module."""
    commands = installed.run("--help").out.lower().partition("commands:")[2]
    names = set(re.findall(r"^ {2,4}([a-z]+) {2,}", commands, re.MULTILINE))
    assert {"serve", "proxy", "export"} <= names
    assert names <= RUN


def test_pipx_and_a_plugin(wheel: Path, system_python: str, tmp_path: Path) -> None:
    pipx = require("pipx", "pipx")
    plugin = tmp_path / "countlayers-1.0-py3-none-any.whl"
    code = """
from exporter import ArtifactKind, ExportContext, Exporter, ExportResult, Source

class Count(Exporter):
    type = "count"
    title = "Counts layers"
    artifact = ArtifactKind.NONE

    @property
    def name(self) -> str:
        return "counting layers"

    async def export(self, source: Source, context: ExportContext) -> ExportResult:
        remote = await source.ref.remote()
        return ExportResult(response={"layers": str(len(remote.descriptors))})
"""
    with zipfile.ZipFile(plugin, "w") as archive:
        archive.writestr("countlayers.py", code)
        info = "countlayers-1.0.dist-info"
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: countlayers\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(
            f"{info}/entry_points.txt", "[buildkit_exporter.exporters]\ncount = countlayers:Count\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    environ = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PYTHON")},
        "PIPX_HOME": str(tmp_path / "pipx"),
        "PIPX_BIN_DIR": str(tmp_path / "bin"),
        "PIPX_DEFAULT_PYTHON": system_python,
    }
    for words in (["install", str(wheel)], ["inject", "buildkit-exporter", str(plugin)]):
        done = subprocess.run([pipx, *words], env=environ, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    command = str(tmp_path / "bin" / "buildkit-exporter")
    user = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "LC_ALL": "C.UTF-8"}
    for words in (
        ["sample", "build"],
        ["export", "--source", "build", "--output", "type=count", "--metadata-file", "m.json"],
    ):
        subprocess.run([command, *words], cwd=tmp_path, env=user, check=True, capture_output=True)
    assert json.loads((tmp_path / "m.json").read_bytes())["layers"] == "6"
