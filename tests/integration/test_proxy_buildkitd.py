"""The proxy between stock buildctl and a real buildkitd: its images are the daemon's own, to the byte."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from exporter.content.layout import OCILayout
from exporter.content.root import open_root
from exporter.source.saved.load import SavedSource
from tests.buildkit import mortal_buildkitd, own_buildkitd, require_buildkit
from tests.integration import cli_process
from tests.integration.cli_process import PATIENCE
from tests.integration.dockerfiles import BASE_CASE, CASES, Case, write_context
from tests.integration.proxied import (
    Build,
    Built,
    Proxy,
    blobs_of,
    build,
    built,
    proxy,
    root_of,
)
from tests.integration.registry_peer import docker_registry
from tests.peers import require

_RUN = (
    CASES["run-chain"].dockerfile.partition("COPY")[0] + "COPY busybox /bin/busybox\nCOPY busybox /bin/sh\n"
)

KINDS: dict[str, tuple[Case, list[str]]] = {
    **{name: (case, []) for name, case in CASES.items() if "FROM local/" not in case.dockerfile},
    "copy-link": (
        Case(_RUN + "RUN echo a >/a\nCOPY --link a /sub/a\nCOPY --link b /sub/b\n", {"a": b"a", "b": b"b"}),
        [],
    ),
    "copy-link-scratch": (
        Case("FROM scratch\nCOPY --link a /a\nCOPY --link b /b\n", {"a": b"a", "b": b"b"}),
        [],
    ),
    "layers-on-links": (
        Case(_RUN + "COPY --link a /a\nRUN echo b >/b\nCOPY --link a /c\nRUN echo d >/d\n", {"a": b"a"}),
        [],
    ),
    "platforms": (
        Case("FROM scratch\nCOPY a /a\nCOPY b /b\n", {"a": b"a", "b": b"b"}),
        ["--opt", "platform=linux/amd64,linux/arm64"],
    ),
    "platforms-of-equal-refs": (
        Case("FROM scratch\nARG TARGETARCH\nLABEL arch=$TARGETARCH\nCOPY a /a\n", {"a": b"a"}),
        ["--opt", "platform=linux/amd64,linux/arm64,linux/s390x"],
    ),
    "platforms-one-without-layers": (
        Case(
            "FROM scratch AS base-amd64\nCOPY a /a\nFROM scratch AS base-arm64\n"
            "ARG TARGETARCH\nFROM base-$TARGETARCH\nENV A=1\n",
            {"a": b"a"},
        ),
        ["--opt", "platform=linux/amd64,linux/arm64"],
    ),
    "one-platform-keyed": (
        Case("FROM scratch\nCOPY a /a\n", {"a": b"a"}),
        ["--opt", "platform=linux/arm64", "--opt", "multi-platform=true"],
    ),
    "epoch": (
        Case(_RUN + "RUN echo a >/a\nENV A=1\n"),
        ["--opt", "build-arg:SOURCE_DATE_EPOCH=1600000000"],
    ),
    "epoch-of-platforms": (
        Case("FROM scratch\nCOPY a /a\nCOPY b /b\n", {"a": b"a", "b": b"b"}),
        ["--opt", "platform=linux/amd64,linux/arm64", "--opt", "build-arg:SOURCE_DATE_EPOCH=1600000000"],
    ),
    "provenance": (
        Case("FROM scratch\nCOPY a /a\n", {"a": b"a"}),
        ["--opt", "attest:provenance=mode=max"],
    ),
    "provenance-of-platforms": (
        Case("FROM scratch\nCOPY a /a\n", {"a": b"a"}),
        ["--opt", "platform=linux/amd64,linux/arm64", "--opt", "attest:provenance=mode=min"],
    ),
    "provenance-for-images-only": (
        Case("FROM scratch\nCOPY a /a\n", {"a": b"a"}),
        ["--opt", "attest:provenance=mode=min,inline-only=true"],
    ),
}


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="bke-", dir="/tmp"))  # the path of a socket has to be short
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="module")
def daemon() -> Iterator[str]:
    require_buildkit("buildctl")
    with own_buildkitd() as address:
        yield address


@pytest.fixture(scope="module")
def strict(directory: Path, daemon: str) -> Iterator[Proxy]:
    with proxy(directory / "proxy", daemon, "--strict", "--take", "oci,docker,image") as running:
        yield running


@pytest.fixture(scope="module")
def untaken(directory: Path, daemon: str) -> Iterator[Proxy]:
    with proxy(directory / "untaken", daemon, "--strict") as running:
        yield running


@pytest.fixture
def context(tmp_path: Path) -> Path:
    return write_context(tmp_path / "context", CASES["scratch-copy"])


@pytest.mark.parametrize("name", KINDS)
def test_the_image_is_that_of_the_daemon(strict: Proxy, daemon: str, tmp_path: Path, name: str) -> None:
    case, words = KINDS[name]
    words = [*words, *(w for key, value in case.attrs.items() for w in ("--opt", f"{key}={value}"))]
    if case.inline_cache:
        words += ["--export-cache", "type=inline"]
    context = write_context(tmp_path / "context", case)
    (context / "b").write_bytes(b"b")
    # Two in one build: provenance is different in each.
    outputs = [f"type=local,dest={tmp_path}/local", "type=plugin.oci,name=local/x:1,proxy-dest=ours.tar"]
    theirs = tmp_path / "theirs.tar"
    pair = Build(context, [f"type=oci,name=local/x:1,dest={theirs}"], words)
    assert build(daemon, pair).status == 0
    ours = build(strict.address, Build(context, outputs, words))
    assert ours.digest == root_of(strict.output / "ours.tar")
    blobs = blobs_of(strict.output / "ours.tar")
    if "provenance" in name:
        blobs, expected = without_provenance(blobs), without_provenance(blobs_of(theirs))
    else:
        assert ours.digest == root_of(theirs)
        expected = blobs_of(theirs)
    assert blobs == expected
    print(f"{name}: {ours.digest}")


def without_provenance(blobs: dict[str, bytes]) -> dict[str, bytes]:
    """All blobs but those with, or about, the provenance of one build."""
    return {
        digest: data
        for digest, data in blobs.items()
        if b"in-toto" not in data and b"attestation" not in data
    }


async def test_provenance_is_passed_on(strict: Proxy, context: Path) -> None:
    words = ["--opt", "attest:provenance=mode=max"]
    ours = build(strict.address, Build(context, ["type=plugin.oci,proxy-dest=p.tar"], words))
    blobs = blobs_of(strict.output / "p.tar")
    [statement] = [data for data in blobs.values() if data.startswith(b'{"_type":"https://in-toto.io/')]
    assert b'"predicateType":"https://slsa.dev/provenance/' in statement
    # The substitute's image, in which the daemon has put it, has the same digest.
    saved = list((strict.home / "sources").iterdir())
    source = await SavedSource.open(max(saved, key=lambda path: path.stat().st_mtime))
    [attestations] = source.source.attestations.values()
    assert attestations[0].content is not None
    assert attestations[0].content in statement
    assert ours.digest in blobs


async def test_a_lazy_base_image(strict: Proxy, daemon: str, tmp_path: Path) -> None:
    base = write_context(tmp_path / "base", BASE_CASE)
    (tmp_path / "registry").mkdir()
    async with docker_registry(tmp_path / "registry") as registry:
        name = f"{registry}/base:1"
        pushed = Build(base, [f"type=image,name={name},push=true,registry.insecure=true"])
        assert (await asyncio.to_thread(build, daemon, pushed)).status == 0
        for kind, rest in {"metadata": "ENV A=1\n", "layers": "RUN echo a >/a\n"}.items():
            prune = [require_buildkit("buildctl"), "--addr", daemon, "prune", "--all"]
            await asyncio.to_thread(subprocess.run, prune, check=True, capture_output=True)
            context = write_context(tmp_path / kind, Case(f"FROM {name}\n{rest}"))
            ours = await asyncio.to_thread(
                build, strict.address, Build(context, [f"type=plugin.oci,proxy-dest={kind}.tar"])
            )
            theirs = await asyncio.to_thread(
                build, daemon, Build(context, [f"type=oci,dest={tmp_path}/{kind}.tar"])
            )
            assert ours.digest == theirs.digest
            assert blobs_of(strict.output / f"{kind}.tar") == blobs_of(tmp_path / f"{kind}.tar")


@pytest.mark.parametrize("attrs", ["", ",compression=zstd,force-compression=true", ",oci-mediatypes=false"])
def test_layers_with_rewritten_times(strict: Proxy, daemon: str, tmp_path: Path, attrs: str) -> None:
    """They are compressed anew, which no two programs do alike: it is the daemon that does it."""
    context = write_context(tmp_path / "context", CASES["run-chain"])
    words = ["--opt", "build-arg:SOURCE_DATE_EPOCH=1600000000"]
    made: list[bytes] = []
    for address in (daemon, strict.address):
        archive = tmp_path / f"{len(made)}.tar"
        output = f"type=oci,rewrite-timestamp=true,dest={archive}{attrs}"
        assert build(address, Build(context, [output], words)).status == 0
        made.append(archive.read_bytes())
    assert made[0] == made[1]


def test_a_file_for_the_client(strict: Proxy, context: Path, tmp_path: Path) -> None:
    """With --take, stock clients take the files of our exporters as they take the daemon's."""
    ours = build(
        strict.address,
        Build(
            context, [f"type=oci,dest={tmp_path}/one.tar", f"type=docker,dest={tmp_path}/two.tar,name=x/y"]
        ),
    )
    assert ours.status == 0, ours.errors
    assert "preparing layers" in ours.statuses()  # so it was not the daemon's
    assert root_of(tmp_path / "one.tar") in blobs_of(tmp_path / "one.tar")
    assert "repositories" not in ours.errors
    with_names = blobs_of(tmp_path / "two.tar")
    assert with_names


async def test_a_directory_for_the_client(strict: Proxy, context: Path, tmp_path: Path) -> None:
    target = tmp_path / "layout"
    ours = await asyncio.to_thread(
        build, strict.address, Build(context, [f"type=oci,tar=false,name=x/y,dest={target}"])
    )
    layout = await OCILayout.open(target, create=False)
    [entry] = await layout.index()
    assert entry.digest == ours.digest


async def test_a_layout_on_the_proxys_machine(strict: Proxy, context: Path) -> None:
    wanted = Build(context, ["type=plugin.oci,tar=false,name=x/y:z,proxy-dest=layout"])
    ours = await asyncio.to_thread(build, strict.address, wanted)
    assert ours.status == 0, ours.errors
    layout = await OCILayout.open(strict.output / "layout", create=False)
    assert [entry.digest for entry in await layout.index()] == [ours.digest]


def test_exports_of_the_daemon_are_left_to_it(strict: Proxy, context: Path, tmp_path: Path) -> None:
    ours = build(
        strict.address, Build(context, [f"type=tar,dest={tmp_path}/x.tar", f"type=local,dest={tmp_path}/d"])
    )
    assert ours.status == 0, ours.errors
    assert (tmp_path / "d" / "a").read_bytes() == b"a"
    assert "preparing layers" not in ours.statuses()


async def test_several_outputs(strict: Proxy, daemon: str, context: Path, tmp_path: Path) -> None:
    """The client's own layout names the image that is in it, whatever ours is."""
    ours = await asyncio.to_thread(
        build,
        strict.address,
        Build(
            context,
            [
                f"type=local,dest={tmp_path}/files",
                "type=plugin.oci,compression=zstd,force-compression=true,proxy-dest=several.tar",
                "type=plugin.image,name=x/several:1",
                "type=moby,name=x/several:2",
            ],
        ),
    )
    assert ours.status == 0, ours.errors
    assert (tmp_path / "files" / "a").read_bytes() == b"a"
    plain = await asyncio.to_thread(build, daemon, Build(context, [f"type=oci,dest={tmp_path}/plain.tar"]))
    store, _ = await open_root(strict.home / "root")
    assert plain.digest in {entry.digest for entry in await store.index()}
    assert root_of(strict.output / "several.tar") != plain.digest
    # The image ID: as in BuildKit the last exporter's keys count.
    assert ours.response["containerimage.digest"] == plain.response["containerimage.config.digest"]
    assert {v["name"] for v in ours.vertexes("exporting")} >= {"exporting to oci image format"}


async def test_a_layout_of_the_daemons_beside_ours(untaken: Proxy, daemon: str, context: Path) -> None:
    target = context.parent / "layout"
    beside = "compression=gzip,force-compression=true"
    ours = await asyncio.to_thread(
        build,
        untaken.address,
        Build(
            context,
            [f"type=oci,tar=false,{ZSTD},dest={target}", f"type=plugin.oci,{beside},proxy-dest=beside.tar"],
        ),
    )
    assert ours.status == 0, ours.errors
    layout = await OCILayout.open(target, create=False)
    [entry] = await layout.index()
    assert await layout.info(entry.digest)
    plain = await asyncio.to_thread(
        build, daemon, Build(context, [f"type=oci,{beside},dest={context.parent}/plain.tar"])
    )
    assert root_of(untaken.output / "beside.tar") == plain.digest != entry.digest


ZSTD = "compression=zstd,force-compression=true"


@pytest.mark.parametrize(
    "outputs",
    [
        ["type=plugin.image,name=x/a:1", "type=local,dest={}/files"],
        ["type=plugin.image,name=x/a:1", "type=tar,dest={}/files.tar", "type=plugin.local,proxy-dest=files"],
        [f"type=image,name=x/a:1,{ZSTD}", "type=plugin.tar,proxy-dest=x.tar"],
        [
            f"type=image,name=x/a:1,{ZSTD},annotation.a=b,oci-mediatypes=true",
            "type=plugin.local,proxy-dest=x",
        ],
        [f"type=image,name=x/a:1,{ZSTD}", "type=image,name=x/b:1", "type=plugin.tar,proxy-dest=x.tar"],
        [f"type=oci,name=x/a:1,{ZSTD},dest={{}}/x.tar", "type=plugin.tar,proxy-dest=x.tar"],
        ["type=docker,name=x/a:1,dest={}/x.tar", f"type=plugin.tar,proxy-dest=x.tar,{ZSTD}"],
        ["type=plugin.oci,proxy-dest=a.tar,name=x/a:1", f"type=plugin.oci,proxy-dest=b.tar,{ZSTD}"],
        [f"type=plugin.oci,proxy-dest=a.tar,{ZSTD}", "type=plugin.oci,proxy-dest=b.tar,name=x/a:1"],
        [f"type=oci,dest={{}}/x.tar,{ZSTD}", "type=plugin.image,name=x/a:1", "type=local,dest={}/files"],
        [f"type=plugin.image,name=x/a:1,{ZSTD}", "type=oci,dest={}/x.tar", "type=tar,dest={}/y.tar"],
        ["type=plugin.local,proxy-dest=a", "type=plugin.local,proxy-dest=b", "type=local,dest={}/files"],
    ],
)
def test_the_response_is_that_of_the_daemon(
    untaken: Proxy, daemon: str, context: Path, tmp_path: Path, outputs: list[str]
) -> None:
    """Of several exporters that describe an image, the last one counts, ours or the daemon's."""
    outputs = [output.format(tmp_path) for output in outputs]
    ours = build(untaken.address, Build(context, outputs))
    plain = [
        output.replace("plugin.", "").replace("proxy-dest=", f"dest={tmp_path}/stock-") for output in outputs
    ]
    theirs = build(daemon, Build(context, plain))
    assert (ours.status, theirs.status) == (0, 0), ours.errors + theirs.errors
    assert told_images(ours) == told_images(theirs)
    assert len({vertex["digest"] for vertex in ours.vertexes("exporting")}) == len(outputs)


def told_images(done: Built) -> dict[str, object]:
    """The response keys about images; their descriptors have the time of the build."""
    found = {
        key: value for key, value in done.response.items() if key.startswith(("containerimage", "image"))
    }
    descriptor = found.pop("containerimage.descriptor", None)
    return {**found, "descriptor": {**descriptor, "annotations": None} if descriptor else None}


@pytest.mark.parametrize("words", [[], ["--opt", "attest:provenance=mode=min"]])
async def test_the_pushed_image_is_reported(
    untaken: Proxy, context: Path, tmp_path: Path, words: list[str]
) -> None:
    (tmp_path / "registry").mkdir()
    async with docker_registry(tmp_path / "registry") as registry:
        pushed = f"type=image,name={registry}/app:1,push=true,registry.insecure=true,{ZSTD}"
        outputs = [pushed, f"type=ordered,label=x,log={tmp_path}/log"]
        ours = await asyncio.to_thread(build, untaken.address, Build(context, outputs, words))
        assert ours.status == 0, ours.errors
        name = f"docker://{registry}/app:1"
        skopeo = [require("skopeo", "skopeo"), "inspect", "--raw", "--tls-verify=false", name]
        shown = await asyncio.to_thread(subprocess.run, skopeo, check=True, capture_output=True)
        assert ours.digest == f"sha256:{hashlib.sha256(shown.stdout).hexdigest()}"
        assert ours.response["image.name"] == f"{registry}/app:1"
        assert ours.response["label"] == "x"


@contextmanager
def started(address: str, wanted: Build) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    metadata = wanted.context.with_suffix(".metadata")
    with subprocess.Popen(wanted.command(address, metadata), stderr=subprocess.PIPE) as process:
        try:
            yield process, metadata
        finally:
            process.kill()


def finished(process: subprocess.Popen[bytes], metadata: Path) -> Built:
    _, output = process.communicate(timeout=PATIENCE)
    return built(process.returncode, output, metadata)


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} does not come"
        time.sleep(0.01)


def stalled(context: Path, control: Path) -> Build:
    control.mkdir()
    return Build(context, [f"type=stalled,control={control},proxy-dest=half"])


def test_a_failing_exporter(strict: Proxy, context: Path) -> None:
    ours = build(strict.address, Build(context, ["type=failing,proxy-dest=failing.tar"]))
    assert ours.status != 0
    assert ours.errors.strip().splitlines()[-1].endswith("it is of no use")
    assert "tar:" not in ours.errors
    last = ours.vertexes("exporting what is of no use")[-1]
    assert last["error"] == "it is of no use"
    assert not (strict.output / "failing.tar").exists()
    assert strict.scratch() == []


def test_wrong_attributes_cost_no_build(strict: Proxy, context: Path) -> None:
    ours = build(strict.address, Build(context, ["type=plugin.oci,compression=lzw"]))
    assert "unsupported compression type lzw" in ours.errors
    assert ours.vertexes("[internal]") == []
    ours = build(strict.address, Build(context, ["type=plugin.ocy"]))
    assert 'exporter "ocy" could not be found (did you mean "oci"?)' in ours.errors
    ours = build(strict.address, Build(context, ["type=plugin.oci,proxy-dest=../x"]))
    assert "is not a path below" in ours.errors
    ours = build(strict.address, Build(context, ["type=nonesuch"]))
    assert 'exporter "nonesuch" could not be found' in ours.errors


def test_buildctl_shows_a_misspelt_attribute(strict: Proxy, context: Path) -> None:
    wanted = Build(context, ["type=plugin.oci,compresion=zstd,proxy-dest=misspelt.tar"])
    ours = build(strict.address, wanted)
    assert ours.status == 0, ours.errors
    warning = "type=oci has no attribute compresion: did you mean compression?"
    assert ours.warnings() == [warning]
    line = wanted.command(strict.address, context.with_suffix(".metadata"), "plain")
    assert warning in subprocess.run(line, capture_output=True, check=True).stderr.decode()


def test_ctrl_c_stops_the_exporter(strict: Proxy, context: Path, tmp_path: Path) -> None:
    with started(strict.address, stalled(context, tmp_path / "control")) as (process, metadata):
        wait_for(tmp_path / "control" / "started")
        process.send_signal(signal.SIGINT)
        wait_for(tmp_path / "control" / "stopped")
        assert finished(process, metadata).status != 0
    assert not (strict.output / "half").exists()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_client_that_leaves_while_it_receives_a_file(
    strict: Proxy, tmp_path: Path, how: signal.Signals
) -> None:
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text("FROM scratch\nCOPY blob /\n")
    (context / "blob").write_bytes(os.urandom(64 << 20))
    as_oci = "type=oci,compression=uncompressed,dest="
    line = Build(context, [f"{as_oci}-"]).command(strict.address, tmp_path / "metadata")
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        assert len(process.stdout.read(1 << 20)) == 1 << 20
        process.send_signal(how)  # nobody reads on, so it cannot have taken all
        assert process.wait(PATIENCE) != 0
    cli_process.wait_for(lambda: strict.scratch() == [], strict.process)

    archive = tmp_path / "archive.tar"
    whole = build(strict.address, Build(context, [f"{as_oci}{archive}"]))
    assert root_of(archive) == whole.digest


def test_a_client_that_is_killed(strict: Proxy, context: Path, tmp_path: Path) -> None:
    with started(strict.address, stalled(context, tmp_path / "control")) as (process, _):
        wait_for(tmp_path / "control" / "started")
        process.kill()
        wait_for(tmp_path / "control" / "stopped")


def test_a_proxy_that_is_killed(directory: Path, daemon: str, context: Path, tmp_path: Path) -> None:
    with proxy(directory / "killed", daemon, dies=True) as running:
        with started(running.address, stalled(context, tmp_path / "control")) as (process, metadata):
            wait_for(tmp_path / "control" / "started")
            running.process.kill()
            done = finished(process, metadata)
        assert done.status != 0
        assert "EOF" in done.errors or "Unavailable" in done.errors or "closed" in done.errors
    with proxy(directory / "killed", daemon) as running:
        assert running.scratch() == []
        again = replace(stalled(context, tmp_path / "again"), outputs=["type=plugin.oci,proxy-dest=a.tar"])
        assert build(running.address, again).status == 0


def test_a_proxy_that_is_stopped(directory: Path, daemon: str, context: Path, tmp_path: Path) -> None:
    """A running build ends normally."""
    (tmp_path / "control").mkdir()
    waiting = Build(context, [f"type=waiting,control={tmp_path}/control"])
    with proxy(directory / "ending", daemon) as running:
        with started(running.address, waiting) as (process, metadata):
            wait_for(tmp_path / "control" / "started")
            running.process.terminate()
            (tmp_path / "control" / "go").touch()
            done = finished(process, metadata)
        assert done.status == 0, done.errors
        assert done.response["waited"] == "yes"
        assert done.vertexes("exporting nothing")[-1]["completed"]
        assert running.process.wait(PATIENCE) == 0


def test_a_daemon_that_is_killed(tmp_path: Path) -> None:
    require_buildkit("buildctl")
    home = Path(tempfile.mkdtemp(prefix="bke-", dir="/tmp"))
    try:
        context = write_context(tmp_path / "context", CASES["scratch-copy"])
        (home / "d").mkdir()
        with mortal_buildkitd(home / "d") as (target, victim):
            address = f"unix://{target.removeprefix('unix:')}"
            with proxy(home / "p", address) as running:
                with started(running.address, stalled(context, tmp_path / "control")) as (process, metadata):
                    wait_for(tmp_path / "control" / "started")
                    victim.kill()
                    wait_for(tmp_path / "control" / "stopped")
                    assert finished(process, metadata).status != 0
                late = build(running.address, Build(context, []))
                assert "cannot reach buildkitd at" in late.errors
    finally:
        shutil.rmtree(home, ignore_errors=True)


async def test_build_results_are_saved(strict: Proxy, context: Path) -> None:
    before = set((strict.home / "sources").iterdir()) if (strict.home / "sources").exists() else set()
    ours = await asyncio.to_thread(
        build, strict.address, Build(context, ["type=plugin.oci,proxy-dest=s.tar"])
    )
    [new] = set((strict.home / "sources").iterdir()) - before
    saved = await SavedSource.open(new)
    assert saved.source.ref is not None
    assert len(await saved.source.ref.layer_chain()) == 1
    assert ours.status == 0
