"""``buildkit-exporter build`` in processes of its own, with real daemons."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import signal
import tarfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from exporter.content.layout import OCILayout
from tests.buildkit import own_buildkitd, require_buildkit
from tests.builds import scenario
from tests.integration.cli_process import PATIENCE, Result, command, environment, run, start
from tests.integration.docker_peer import Dockerd, dockerd
from tests.integration.dockerfiles import CASES, Case, write_context
from tests.integration.mistake_peers import HTPASSWD
from tests.integration.registry.tokens import token_server
from tests.integration.registry_peer import docker_registry

_CREATED = re.compile(rb'(?<="org.opencontainers.image.created":")[^"]+(?=")')


@pytest.fixture(scope="module")
def buildkit() -> Iterator[str]:
    with own_buildkitd() as target:
        yield target


@pytest.fixture(scope="module")
def engine() -> Iterator[Dockerd]:
    with dockerd() as daemon:
        yield daemon


def files_in(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as archive:
        return {m.name: archive.extractfile(m).read() for m in archive if m.isfile()}  # type: ignore[union-attr]


def _take_time(files: dict[str, bytes]) -> datetime:
    """Remove the time of the export from an image's index, byte for byte; gives it."""
    (created,) = _CREATED.findall(files["index.json"])
    files["index.json"] = _CREATED.sub(b"", files["index.json"])
    return datetime.fromisoformat(created.decode())


def test_the_daemon_s_outputs_and_ours_are_the_same(buildkit: str, tmp_path: Path) -> None:
    context = write_context(tmp_path / "context", CASES["run-chain"])
    started = datetime.now(UTC).replace(microsecond=0)
    result = run(
        tmp_path,
        *("build", "--addr", buildkit, "--progress", "plain", "-t", "docker.io/local/x:v1", "--strict"),
        *("-o", f"type=oci,dest={tmp_path}/daemon.tar", "-o", f"type=plugin.oci,dest={tmp_path}/ours.tar"),
        *(
            "--metadata-file",
            str(tmp_path / "metadata.json"),
            "--iidfile",
            str(tmp_path / "id"),
            str(context),
        ),
    )
    assert result.status == 0, result.err
    daemon, ours = files_in(tmp_path / "daemon.tar"), files_in(tmp_path / "ours.tar")
    # Each of the two says when it was exported, in seconds; all else is the same.
    times = [_take_time(files) for files in (daemon, ours)]
    assert ours == daemon
    assert started <= min(times) <= max(times) <= datetime.now(UTC)
    metadata = json.loads((tmp_path / "metadata.json").read_text())
    [entry] = json.loads(ours["index.json"])["manifests"]
    assert metadata["containerimage.digest"] == entry["digest"]
    assert metadata["containerimage.config.digest"] == (tmp_path / "id").read_text()
    assert metadata["image.name"] == "docker.io/local/x:v1"
    assert "RUN echo one" in result.err
    assert result.err.count("exporting to oci image format") >= 2


@pytest.mark.parametrize(
    "name", ["multi-stage", "metadata-only", "inline-cache", "ignored-files", "copy-chown"]
)
def test_types_of_this_package(buildkit: str, tmp_path: Path, name: str) -> None:
    case = CASES[name]
    context = write_context(tmp_path / "context", case)
    cache = ["--cache-to", "type=inline"] if case.inline_cache else []
    result = run(
        tmp_path,
        *(
            "build",
            "--addr",
            buildkit,
            "--take",
            "image",
            "--strict",
            "--root",
            str(tmp_path / "root"),
            *cache,
        ),
        *("-o", "type=image,name=docker.io/local/x:v1", "-o", f"type=plugin.local,dest={tmp_path}/files"),
        *("-o", f"type=oci,tar=false,dest={tmp_path}/layout", "--save-source", str(tmp_path / "saved")),
        *("--metadata-file", str(tmp_path / "metadata.json"), str(context)),
    )
    assert result.status == 0, result.err
    layout = json.loads((tmp_path / "layout" / "index.json").read_text())
    daemon_digest = layout["manifests"][0]["digest"]
    inspected = run(tmp_path, "inspect", "--json", str(tmp_path / "root"))
    assert daemon_digest in inspected.out.decode()
    assert (tmp_path / "files").exists() or name == "metadata-only"
    [saved] = [path for path in (tmp_path / "saved").iterdir() if path.name.endswith("-0")]
    exported = run(
        tmp_path, "export", "--source", str(saved), "-o", f"type=oci,tar=false,dest={tmp_path}/again"
    )
    assert exported.status == 0, exported.err
    again = json.loads((tmp_path / "again" / "index.json").read_text())
    assert again["manifests"][0]["digest"] == daemon_digest


def test_secrets_arguments_and_a_dockerfile_elsewhere(buildkit: str, tmp_path: Path) -> None:
    text = "FROM scratch\nARG A\nARG B=unset\nCOPY busybox /bin/sh\nCOPY --from=more x /x\n"
    text += "RUN --mount=type=secret,id=s read s </run/secrets/s; echo $A $B $s >/out\n"
    write_context(tmp_path / "files", Case(text))
    context = write_context(tmp_path / "context", Case("FROM nothing-here\n"))
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "x").write_text("x")
    result = run(
        tmp_path,
        *("build", "--addr", buildkit, "-f", str(tmp_path / "files" / "Dockerfile"), "--build-arg", "A=1"),
        *("--build-arg", "B", "--secret", "id=s,env=TOKEN", "--build-context", f"more={tmp_path}/more"),
        *("-o", f"type=tar,dest={tmp_path}/out.tar", str(context)),
        variables={"B": "2", "TOKEN": "hidden\n"},
    )
    assert result.status == 0, result.err
    files = files_in(tmp_path / "out.tar")
    assert (files["out"], files["x"]) == (b"1 2 hidden\n", b"x")


def test_a_failing_build(buildkit: str, tmp_path: Path) -> None:
    case = Case("FROM scratch\nCOPY busybox /bin/sh\nRUN echo bad >&2; exit 3\n")
    context = write_context(tmp_path / "context", case)
    result = run(
        tmp_path, "build", "--addr", buildkit, "-o", f"type=tar,dest={tmp_path}/out.tar", str(context)
    )
    assert result.status == 1
    assert "exit code: 3" in result.err.splitlines()[-1]
    assert not (tmp_path / "out.tar").exists()


def test_ctrl_c_ends_the_build(buildkit: str, tmp_path: Path) -> None:
    case = Case('FROM scratch\nCOPY busybox /bin/sleep\nRUN ["/bin/sleep", "601"]\n')
    context = write_context(tmp_path / "context", case)
    process = start(tmp_path, "build", "--addr", buildkit, "--progress", "rawjson", str(context))
    assert process.stderr is not None
    try:
        for line in process.stderr:
            steps = json.loads(line).get("vertexes") or ()
            if any("601" in step["name"] and step.get("started") for step in steps):
                break
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, rest = process.communicate(timeout=PATIENCE)
        assert time.monotonic() - began < PATIENCE / 2
    finally:
        process.kill()
    assert process.returncode == 130
    assert b"context canceled" in rest


def test_plugins(buildkit: str, tmp_path: Path) -> None:
    context = write_context(tmp_path / "context", CASES["scratch-copy"])
    log = tmp_path / "log"
    result = run(
        tmp_path,
        *("build", "--addr", buildkit, "--metadata-file", str(tmp_path / "metadata.json")),
        *("-o", f"type=ordered,label=one,log={log}", "-o", f"type=ordered,label=two,log={log}", str(context)),
    )
    assert result.status == 0, result.err
    lines = log.read_text().splitlines()
    assert sorted(lines[:2]) == ["export one", "export two"]
    assert sorted(lines[2:]) == ["finalize one", "finalize two"]
    metadata = json.loads((tmp_path / "metadata.json").read_text())
    assert metadata == {"label": "two", "one": "finalized", "two": "finalized"}


def test_a_plugin_that_fails(buildkit: str, tmp_path: Path) -> None:
    context = write_context(tmp_path / "context", CASES["scratch-copy"])
    result = run(
        tmp_path,
        *("build", "--addr", buildkit, "--progress", "plain"),
        *("-o", f"type=failing,commit=,dest={tmp_path}/file", str(context)),
    )
    assert result.status == 1
    assert re.search("#[0-9]+ exporting what is of no use", result.err)
    assert re.search(r"#[0-9]+ ERROR: (?!.*tar)", result.err)
    assert "tar" not in result.err.splitlines()[-1]
    assert not (tmp_path / "file").exists()


def test_an_unreachable_engine_is_reported_before_the_build(buildkit: str, tmp_path: Path) -> None:
    context = write_context(tmp_path / "context", CASES["scratch-copy"])
    result = run(
        tmp_path,
        *("build", "--addr", buildkit, "--progress", "plain", "-o", "type=docker,load=true", str(context)),
        variables={"DOCKER_HOST": "unix:///no/such.sock"},
    )
    assert result.status == 1
    assert "/no/such.sock" in result.err.splitlines()[-1]
    assert "[internal]" not in result.err


def test_with_a_docker_engine(engine: Dockerd, tmp_path: Path) -> None:
    context = write_context(tmp_path / "context", CASES["run-chain"])
    result = run(
        tmp_path,
        *("build", "--addr", f"unix://{engine.socket}", "--network", "host", "-t", "local/built:v1"),
        *("--strict", "--iidfile", str(tmp_path / "id"), str(context)),
    )
    assert result.status == 0, result.err
    image_id = engine.docker("image", "inspect", "--format", "{{.Id}}", "local/built:v1")
    assert (tmp_path / "id").read_text() == image_id


def test_load_into_the_engine_that_builds(engine: Dockerd, tmp_path: Path) -> None:
    context = write_context(tmp_path / "context", CASES["scratch-copy"])
    address = f"unix://{engine.socket}"
    result = run(tmp_path, "build", "--addr", address, "--load", "-t", "local/loaded:v1", str(context))
    assert result.status == 0, result.err
    assert any(line.startswith("local/loaded:v1 ") for line in engine.images())


async def test_push_with_a_docker_engine(engine: Dockerd, tmp_path: Path) -> None:
    """As with buildx: the engine pushes what it has built, with the user's credentials."""
    (tmp_path / "registry").mkdir()
    (tmp_path / "registry" / "htpasswd").write_text(HTPASSWD)
    auth = {"htpasswd": {"realm": "tests", "path": str(tmp_path / "registry" / "htpasswd")}}
    context = write_context(tmp_path / "context", CASES["scratch-copy"])
    async with docker_registry(tmp_path / "registry", auth=auth) as host:

        async def build(*words: str) -> Result:
            flags = ("--addr", f"unix://{engine.socket}", "-t", f"{host}/app:v1", "-t", f"{host}/app:v2")
            return await asyncio.to_thread(run, tmp_path, "build", *flags, *words, str(context))

        refused = await build("--push")
        assert refused.status == 1
        said = refused.err.splitlines()[-1]
        assert (
            f"did not push the image: no basic auth credentials; there are no credentials for {host}" in said
        )
        (tmp_path / ".docker").mkdir()
        login = {"auth": base64.b64encode(b"jo:s3cret").decode()}
        (tmp_path / ".docker" / "config.json").write_text(json.dumps({"auths": {host: login}}))
        metadata = tmp_path / "metadata.json"
        pushed = await build("--push", "--metadata-file", str(metadata), "--iidfile", str(tmp_path / "id"))
        assert pushed.status == 0, pushed.err
        assert f"pushing {host}/app:v2 with docker" in pushed.err
        response = json.loads(metadata.read_text())
        verified = await asyncio.to_thread(run, tmp_path, "verify", "--json", f"{host}/app:v2")
        assert response["containerimage.digest"] in verified.out.decode()
        assert verified.status == 0, verified.err
    image_id = engine.docker("image", "inspect", "--format", "{{.Id}}", f"{host}/app:v1")
    assert response["containerimage.config.digest"] == image_id == (tmp_path / "id").read_text()


async def test_push_names_the_same_images_as_buildx(engine: Dockerd, tmp_path: Path) -> None:
    (tmp_path / "registry").mkdir()
    context = write_context(tmp_path / "context", CASES["scratch-copy"])
    keys = ("containerimage.digest", "containerimage.config.digest", "image.name")
    responses = []
    async with docker_registry(tmp_path / "registry") as host:
        program = require_buildkit("docker-buildx")
        ours = (*command("build"), "--addr", "docker")
        for line in ((program, "build"), ours):
            metadata = tmp_path / "metadata.json"
            words = ["--push", "-t", f"{host}/app:v1", "--metadata-file", str(metadata), str(context)]
            process = await asyncio.create_subprocess_exec(
                *line,
                *words,
                env={**environment(tmp_path), "DOCKER_HOST": f"unix://{engine.socket}"},
                stderr=asyncio.subprocess.PIPE,
            )
            _, said = await process.communicate()
            assert process.returncode == 0, said.decode()
            found = json.loads(metadata.read_text())
            responses.append({key: found.get(key) for key in keys})
    assert responses[0] == responses[1]


async def test_a_private_base_with_a_docker_engine(engine: Dockerd, tmp_path: Path) -> None:
    """The engine pulls with a token that we have fetched, and has not been told the password."""
    (tmp_path / "registry").mkdir()
    (tmp_path / ".docker").mkdir()
    async with (
        token_server(tmp_path) as tokens,
        docker_registry(tmp_path / "registry", auth=tokens.settings) as host,
    ):
        login = {"auth": base64.b64encode(b"jo:s3cret").decode()}
        (tmp_path / ".docker" / "config.json").write_text(json.dumps({"auths": {host: login}}))
        image = f"{host}/private/base:v1"
        pushed = await asyncio.to_thread(
            run,
            tmp_path,
            *("export", "--root", str(tmp_path / "root"), "--source", str(scenario("scratch-copy"))),
            *("-o", f"type=image,name={image},push=true"),
        )
        assert pushed.status == 0, pushed.err
        context = write_context(tmp_path / "context", Case(f"FROM {image}\nCOPY b /b\n", {"b": b"b"}))
        words = ("build", "--addr", f"unix://{engine.socket}", "-o", f"type=tar,dest={tmp_path}/out.tar")
        result = await asyncio.to_thread(run, tmp_path, *words, str(context))
    assert result.status == 0, result.err
    assert files_in(tmp_path / "out.tar")["b"] == b"b"
    assert set(tokens.agents) == {"buildkit-exporter"}


def test_the_engine_of_docker_s_own_choice(engine: Dockerd, tmp_path: Path) -> None:
    context = write_context(tmp_path / "context", CASES["copy-chown"])
    result = run(
        tmp_path,
        *("build", "--addr", "docker", "-o", f"type=local,dest={tmp_path}/out", str(context)),
        variables={"DOCKER_HOST": f"unix://{engine.socket}"},
    )
    assert result.status == 0, result.err
    assert (tmp_path / "out" / "dir" / "sub" / "y").read_bytes() == b"y"


@pytest.mark.parametrize(
    ("words", "status", "problem"),
    [
        (["--addr", "unix:///no/such.sock", "CONTEXT"], 1, "is it running"),
        (["--addr", "somewhere", "CONTEXT"], 2, "is not an address"),
        (["--addr", "unix:///no/such.sock", "CONTEXT/missing"], 2, "not found"),
        (["--progress", "loud", "CONTEXT"], 2, "--progress: 'loud' is not one of"),
    ],
)
def test_unsupported_options(tmp_path: Path, words: list[str], status: int, problem: str) -> None:
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").touch()
    result = run(tmp_path, "build", *(word.replace("CONTEXT", str(context)) for word in words))
    assert result.status == status
    assert problem in result.err


async def test_a_layout_as_a_context(buildkit: str, tmp_path: Path) -> None:
    base = write_context(tmp_path / "base", CASES["scratch-copy"])
    first = run(
        tmp_path,
        *("build", "--addr", buildkit, "-o", f"type=oci,tar=false,dest={tmp_path}/layout", str(base)),
    )
    assert first.status == 0, first.err
    [root] = await (await OCILayout.open(tmp_path / "layout")).index()
    context = write_context(tmp_path / "context", Case("FROM example.com/base:v1\nCOPY b /b\n", {"b": b"b"}))
    place = f"example.com/base:v1=oci-layout://{tmp_path}/layout@{root.digest}"
    second = run(
        tmp_path,
        *("build", "--addr", buildkit, "--build-context", place, "-o", f"type=tar,dest={tmp_path}/out.tar"),
        str(context),
    )
    assert second.status == 0, second.err
    assert files_in(tmp_path / "out.tar") == {"a": b"a", "b": b"b"}
