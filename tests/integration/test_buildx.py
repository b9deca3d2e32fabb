"""The proxy as a builder of buildx, by its remote driver: what it makes is what the daemon itself makes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.buildkit import own_buildkitd, require_buildkit
from tests.certificates import make_certificates
from tests.integration.cli_process import PATIENCE, wait_for
from tests.integration.docker_peer import dockerd
from tests.integration.dockerfiles import CASES, Case, write_context
from tests.integration.proxied import Proxy, blobs_of, proxy, root_of
from tests.integration.registry_peer import free_port

_EPOCH = "1700000000"  # else archives say when they were made

_PLATFORMS = Case(
    "FROM scratch AS files\nCOPY a /a\n"
    "FROM files\nARG TARGETARCH\nLABEL arch=$TARGETARCH\nCOPY --link a /b\n",
    {"a": b"a"},
)


@dataclass(frozen=True)
class Buildx:
    """The program, with a configuration of its own that has two builders.

    Attributes:
        home: Where the configuration is.
    """

    home: Path

    def environment(self, more: Mapping[str, str]) -> dict[str, str]:
        own = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "BUILDX_CONFIG": str(self.home / "buildx"),
            "DOCKER_CONFIG": str(self.home / "docker"),
            # Provenance is different in each build.
            "BUILDX_NO_DEFAULT_ATTESTATIONS": "1",
        }
        return {**own, **more}

    def run(self, *words: str, fails: bool = False, variables: Mapping[str, str] | None = None) -> str:
        """Run it, with more environment variables; gives what it says."""
        done = subprocess.run(
            [require_buildkit("docker-buildx"), *words],
            env=self.environment(variables or {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=PATIENCE,
            check=False,
        )
        said = done.stdout.decode()
        assert (done.returncode != 0) == fails, said
        return said

    def add(self, name: str, address: str, **options: str) -> None:
        """Add a builder with the remote driver."""
        words = [word for key, value in options.items() for word in ("--driver-opt", f"{key}={value}")]
        self.run("create", "--name", name, "--driver", "remote", *words, address)

    def build(self, builder: str, *words: str, **variables: str) -> Mapping[str, Any]:
        """Build, or bake; gives what it writes into ``--metadata-file``."""
        metadata = self.home / "metadata.json"
        verb = () if "bake" in words else ("build",)
        command = ("--builder", builder, *verb, *words, "--metadata-file", str(metadata))
        self.run(*command, variables=variables)
        return dict(json.loads(metadata.read_bytes()))


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="bke-", dir="/tmp"))  # the path of a socket has to be short
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="module")
def daemon() -> Iterator[str]:
    require_buildkit("docker-buildx")
    with own_buildkitd() as address:
        yield address


@pytest.fixture(scope="module")
def ours(directory: Path, daemon: str) -> Iterator[Proxy]:
    with proxy(directory / "proxy", daemon, "--strict", "--take", "oci,docker,local") as running:
        yield running


@pytest.fixture(scope="module")
def buildx(directory: Path, daemon: str, ours: Proxy) -> Buildx:
    (directory / "client").mkdir()
    program = Buildx(directory / "client")
    print(program.run("version"))
    program.add("direct", daemon)
    program.add("ours", ours.address)
    return program


def context_of(tmp_path: Path, case: Case) -> str:
    return str(write_context(tmp_path / "context", case))


def test_the_builder_is_the_daemon(buildx: Buildx) -> None:
    said = buildx.run("inspect", "ours")
    assert "Status:           running" in said
    assert "BuildKit version:" in said
    assert "ID" in buildx.run("--builder", "ours", "du")


@pytest.mark.parametrize(
    ("case", "words"),
    [
        (CASES["run-chain"], ()),
        (CASES["multi-stage"], ()),
        (CASES["metadata-only"], ()),
        (_PLATFORMS, ("--platform", "linux/amd64,linux/arm64,linux/s390x")),
        (CASES["inline-cache"], ("--cache-to", "type=inline")),
    ],
    ids=["run-chain", "multi-stage", "metadata-only", "platforms", "inline-cache"],
)
def test_the_image_is_that_of_a_direct_build(
    buildx: Buildx, ours: Proxy, tmp_path: Path, case: Case, words: tuple[str, ...]
) -> None:
    context = context_of(tmp_path, case)
    expected = buildx.build("direct", "--output", f"type=oci,dest={tmp_path}/direct.tar", *words, context)
    metadata = buildx.build("ours", "--output", "type=plugin.oci,proxy-dest=plugin.tar", *words, context)
    assert metadata["containerimage.digest"] == expected["containerimage.digest"]
    assert blobs_of(ours.output / "plugin.tar") == blobs_of(tmp_path / "direct.tar")


def test_files_are_those_of_a_direct_build(buildx: Buildx, tmp_path: Path) -> None:
    context = context_of(tmp_path, CASES["run-chain"])
    for builder in ("direct", "ours"):
        target = tmp_path / builder
        target.mkdir()
        buildx.build(
            *(builder, "--tag", "example.com/app:v1"),
            *("--output", f"type=oci,dest={target}/oci.tar"),
            *("--output", f"type=docker,dest={target}/docker.tar"),
            *("--output", f"type=local,dest={target}/files"),
            context,
            SOURCE_DATE_EPOCH=_EPOCH,
        )
    for name in ("oci.tar", "docker.tar", "files/d/one", "files/d/two", "files/d/three"):
        assert (tmp_path / "ours" / name).read_bytes() == (tmp_path / "direct" / name).read_bytes(), name


def test_targets_baked_at_once(buildx: Buildx, ours: Proxy, tmp_path: Path) -> None:
    cases = {name: CASES[name] for name in ("run-chain", "multi-stage", "scratch-copy")}
    targets = {}
    for name, case in cases.items():
        context = write_context(tmp_path / name, case)
        theirs = f"type=tar,dest={tmp_path}/{name}.files.tar"
        mine = [f"type=plugin.oci,proxy-dest={name}.tar", f"type=oci,dest={tmp_path}/{name}.tar"]
        targets[name] = {"context": str(context), "output": [theirs, *mine]}
    file = tmp_path / "bake.json"
    file.write_text(json.dumps({"group": {"default": {"targets": list(cases)}}, "target": targets}))
    words = ("bake", "--allow", f"fs={tmp_path}", "--file", str(file))
    metadata = buildx.build("ours", *words, SOURCE_DATE_EPOCH=_EPOCH)
    for name in cases:
        archive = f"type=oci,dest={tmp_path}/d.tar"
        expected = buildx.build("direct", "--output", archive, str(tmp_path / name), SOURCE_DATE_EPOCH=_EPOCH)
        assert metadata[name]["containerimage.digest"] == expected["containerimage.digest"]
        assert root_of(ours.output / f"{name}.tar") == expected["containerimage.digest"]
        assert (tmp_path / f"{name}.tar").read_bytes() == (tmp_path / "d.tar").read_bytes()
        assert (tmp_path / f"{name}.files.tar").stat().st_size


def test_targets_that_share_a_context(buildx: Buildx, ours: Proxy, tmp_path: Path) -> None:
    """Its files come through a session of their own, and one target is made from another one's result."""
    case = Case("FROM scratch AS one\nCOPY a /a\nFROM one AS two\nCOPY b /b\n", {"a": b"a", "b": b"b"})
    context = write_context(tmp_path / "context", case)
    (context / "Dockerfile.linked").write_text("FROM linked\nCOPY b /c\n")
    common = {"context": str(context)}
    targets = {
        "one": {**common, "target": "one", "output": ["type=plugin.image,name=x/one:1"]},
        "two": {**common, "target": "two", "output": ["type=plugin.local,proxy-dest=two"]},
        "three": {
            **common,
            "dockerfile": "Dockerfile.linked",
            "contexts": {"linked": "target:one"},
            "output": [f"type=local,dest={tmp_path}/files", "type=plugin.local,proxy-dest=three"],
        },
    }
    file = tmp_path / "bake.json"
    file.write_text(json.dumps({"group": {"default": {"targets": list(targets)}}, "target": targets}))
    metadata = buildx.build("ours", "bake", "--allow", f"fs={tmp_path}", "--file", str(file))
    assert metadata["one"]["image.name"] == "x/one:1"
    assert names_in(ours.output / "two") == ["a", "b"]
    assert names_in(ours.output / "three") == names_in(tmp_path / "files") == ["a", "c"]


def names_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_a_builder_that_is_stopped(buildx: Buildx, directory: Path, daemon: str, tmp_path: Path) -> None:
    """The running build succeeds, and its client still gets the build's record."""
    context, control = context_of(tmp_path, CASES["scratch-copy"]), tmp_path / "control"
    control.mkdir()
    with proxy(directory / "ending", daemon) as running:
        buildx.add("ending", running.address)
        metadata = tmp_path / "metadata.json"
        words = ("--output", f"type=waiting,control={control}", "--metadata-file", str(metadata), context)
        command = [require_buildkit("docker-buildx"), "--builder", "ending", "build", *words]
        with subprocess.Popen(command, env=buildx.environment({}), stderr=subprocess.DEVNULL) as process:
            wait_for((control / "started").exists, process)
            running.process.terminate()
            (control / "go").touch()
            assert process.wait(PATIENCE) == 0
        assert running.process.wait(PATIENCE) == 0
    told = json.loads(metadata.read_bytes())
    assert told["waited"] == "yes"
    assert "buildx.build.provenance" in told


def test_attestations_are_added_by_default(buildx: Buildx, ours: Proxy, tmp_path: Path) -> None:
    context = context_of(tmp_path, CASES["scratch-copy"])
    plain = buildx.build("ours", "--output", "type=plugin.image,name=x/plain:1", context)
    words = ("--output", "type=plugin.image,name=x/attested:1", context)
    attested = buildx.build("ours", *words, BUILDX_NO_DEFAULT_ATTESTATIONS="0")
    digest = attested["containerimage.digest"].removeprefix("sha256:")
    index = json.loads((ours.home / "root" / "oci" / "blobs" / "sha256" / digest).read_bytes())
    image, attestation = index["manifests"]
    assert image["digest"] == plain["containerimage.digest"]
    assert attestation["annotations"]["vnd.docker.reference.digest"] == image["digest"]


def test_load_into_an_engine(buildx: Buildx, tmp_path: Path) -> None:
    context = context_of(tmp_path, CASES["scratch-copy"])
    with dockerd() as engine:
        host = f"unix://{engine.socket}"
        metadata = buildx.build("ours", "--load", "--tag", "x/loaded:1", context, DOCKER_HOST=host)
        assert engine.images() == [f"x/loaded:1 {metadata['containerimage.config.digest']}"]


def test_an_exporter_that_fails(buildx: Buildx, ours: Proxy, tmp_path: Path) -> None:
    context = context_of(tmp_path, CASES["scratch-copy"])
    words = ("--progress", "plain", "--output", "type=failing,proxy-dest=failing.tar", context)
    said = buildx.run("--builder", "ours", "build", *words, fails=True)
    assert said.strip().splitlines()[-1].endswith("it is of no use")
    assert not (ours.output / "failing.tar").exists()
    assert ours.scratch() == []


def test_ctrl_c(buildx: Buildx, ours: Proxy, tmp_path: Path) -> None:
    context, control = context_of(tmp_path, CASES["scratch-copy"]), tmp_path / "control"
    control.mkdir()
    output = f"type=stalled,control={control},proxy-dest=half"
    command = [require_buildkit("docker-buildx"), "--builder", "ours", "build", "--output", output, context]
    process = subprocess.Popen(command, env=buildx.environment({}), stderr=subprocess.DEVNULL)
    with process:
        wait_for((control / "started").exists, process)
        process.send_signal(signal.SIGINT)
        wait_for((control / "stopped").exists)
        assert process.wait(PATIENCE) != 0
    assert not (ours.output / "half").exists()


def test_builds_are_in_the_history(buildx: Buildx, tmp_path: Path) -> None:
    context = context_of(tmp_path, CASES["scratch-copy"])
    metadata = buildx.build("ours", "--output", "type=plugin.image,name=x/history:1", context)
    build = metadata["buildx.build.ref"].rpartition("/")[2]
    assert build in buildx.run("--builder", "ours", "history", "ls")
    assert f"ours/ours0/{build}" in buildx.run("--builder", "ours", "history", "inspect", build)


def test_a_builder_with_tls(buildx: Buildx, directory: Path, daemon: str, tmp_path: Path) -> None:
    make_certificates(tmp_path)
    port = free_port()
    listener = [
        *("--addr", f"tcp://127.0.0.1:{port}", "--tlscacert", str(tmp_path / "ca.pem")),
        *("--tlscert", str(tmp_path / "server.pem"), "--tlskey", str(tmp_path / "server.key")),
    ]
    with proxy(directory / "tls", daemon, "--strict", *listener):
        files = {"cacert": "ca.pem", "cert": "client.pem", "key": "client.key"}
        options = {name: str(tmp_path / file) for name, file in files.items()}
        buildx.add("secure", f"tcp://127.0.0.1:{port}", servername="localhost", **options)
        context = context_of(tmp_path, CASES["run-chain"])
        metadata = buildx.build("secure", "--output", "type=plugin.image,name=x/secure:1", context)
    assert metadata["image.name"] == "x/secure:1"
