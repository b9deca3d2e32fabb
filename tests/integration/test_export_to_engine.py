"""``export --output type=docker,load=true`` into a real dockerd: in one process, and through a server."""

from __future__ import annotations

import hashlib
import json
import signal
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.builds import read_json, scenario
from tests.integration.cli_process import PATIENCE, Result, run, server, start
from tests.integration.docker_peer import Dockerd, dockerd

Export = Callable[..., Result]


@pytest.fixture(scope="module")
def daemon() -> Iterator[Dockerd]:
    with dockerd() as running:
        yield running


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with server(tmp_path_factory.mktemp("server")) as address:
        yield address


@pytest.fixture(params=["here", "on a server"])
def export(request: pytest.FixtureRequest, daemon: Dockerd, tmp_path: Path) -> Export:
    """Run an export of a recorded build, where `DOCKER_HOST` names the daemon."""
    place = ["--root", str(tmp_path / "root")]
    if request.param == "on a server":
        place = ["--addr", request.getfixturevalue("address")]

    def export(name: str, *words: str, host: str = "", **variables: str) -> Result:
        variables["DOCKER_HOST"] = host or f"unix://{daemon.socket}"
        fixed = ["export", "--source", str(scenario(name)), "--progress", "quiet", *place]
        return run(tmp_path, *fixed, *words, variables=variables)

    return export


def recorded_id(name: str) -> str:
    """The digest of the config that the real daemon made."""
    result = read_json(name, "result.json")
    digest: str = result.get("image_id") or result["exporter_response"]["containerimage.config.digest"]
    return digest


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("docker", ""),
        ("from-base", ""),
        ("moby-run-chain", ""),
        ("run-chain", ""),
        ("scratch-copy", ""),
        ("zstd", ",compression=gzip,force-compression=true"),
    ],
)
def test_the_image_has_the_id_that_moby_gives_it(
    export: Export, daemon: Dockerd, name: str, more: str, tmp_path: Path
) -> None:
    files = {kind: tmp_path / f"{kind}.json" for kind in ("docker", "moby")}
    names = [f"example.com/{name}:v1", f"{name}:latest"]
    output = f'type=docker,load=true,"name={",".join(names)}"{more}'
    loaded = export(name, "-o", output, "--metadata-file", str(files["docker"]))
    assert (loaded.status, loaded.out, loaded.err) == (0, b"", "")
    moby = export(name, "-o", "type=moby", "--metadata-file", str(files["moby"]))
    assert (moby.status, moby.err) == (0, "")

    expected = json.loads(files["moby"].read_bytes())["containerimage.config.digest"]
    assert expected == recorded_id(name)
    for image in names:
        [inspected] = json.loads(daemon.docker("image", "inspect", image))
        assert inspected["Id"] == expected
        assert sorted(inspected["RepoTags"]) == sorted(names)
    response = json.loads(files["docker"].read_bytes())
    assert response["containerimage.config.digest"] == expected
    assert response["docker.image.id"] == expected
    assert response["docker.image.name"] == ",".join(names)
    daemon.docker("image", "rm", *names)


def test_the_images_files_are_those_of_the_archive(export: Export, daemon: Dockerd, tmp_path: Path) -> None:
    """What the daemon saves again has the same layers, byte for byte."""
    result = export("run-chain", "-o", "type=docker,load=true,name=files:v1,compression=uncompressed")
    assert (result.status, result.err) == (0, "")
    daemon.docker("save", "--output", str(tmp_path / "saved.tar"), "files:v1")
    layers = set()
    with tarfile.open(tmp_path / "saved.tar") as tar:
        for member in tar:
            if member.isfile():
                content = tar.extractfile(member)
                assert content is not None
                layers.add(f"sha256:{hashlib.sha256(content.read()).hexdigest()}")
    [inspected] = json.loads(daemon.docker("image", "inspect", "files:v1"))
    assert set(inspected["RootFS"]["Layers"]) <= layers
    daemon.docker("image", "rm", "files:v1")


def test_progress_reports_what_was_loaded(export: Export, daemon: Dockerd) -> None:
    result = export("docker", "-o", "type=docker,load=true,name=told", "--progress", "plain")
    lines = result.err.splitlines()
    image_id = recorded_id("docker")
    assert lines[0] == "#1 exporting to docker image format"
    assert "#2 importing to docker" in lines
    assert any(line.startswith("#2 loading layer ") for line in lines)
    assert any(line.endswith(f"Loaded image: told:latest ({image_id})") for line in lines)
    assert {line.split()[0] for line in lines if " DONE " in line} == {"#1", "#2"}
    daemon.docker("image", "rm", "told")


def test_an_image_without_a_name_is_reported_by_its_id(
    export: Export, daemon: Dockerd, tmp_path: Path
) -> None:
    metadata = tmp_path / "metadata.json"
    words = ("-o", "type=docker,load=1", "--metadata-file", str(metadata), "--progress", "rawjson")
    result = export("scratch-copy", *words)
    assert result.status == 0
    image_id = recorded_id("scratch-copy")
    response = json.loads(metadata.read_bytes())
    assert response["docker.image.id"] == image_id
    assert "docker.image.name" not in response
    assert vertexes(result)["importing to docker"]["completed"]
    assert daemon.docker("image", "inspect", "--format", "{{.RepoTags}}", image_id) == "[]"
    daemon.docker("image", "rm", image_id)


def test_a_docker_context_selects_the_engine(export: Export, daemon: Dockerd, tmp_path: Path) -> None:
    environment = {"DOCKER_CONFIG": str(tmp_path / "docker")}
    meta = tmp_path / "docker" / "contexts" / "meta" / hashlib.sha256(b"mine").hexdigest() / "meta.json"
    meta.parent.mkdir(parents=True)
    endpoint = {"Host": f"unix://{daemon.socket}"}
    meta.write_text(json.dumps({"Name": "mine", "Metadata": {}, "Endpoints": {"docker": endpoint}}))
    output = "type=docker,load=true,name=context:v1,context={}"
    nowhere = f"unix://{tmp_path}/nowhere.sock"
    result = export("docker", "-o", output.format("mine"), host=nowhere, **environment)
    assert (result.status, result.err) == (0, "")
    daemon.docker("image", "rm", "context:v1")
    result = export("docker", "-o", output.format("yours"), host=nowhere, **environment)
    assert result.status == 2
    assert "there is no docker context 'yours'; `docker context ls` lists them" in result.err


def test_an_unreachable_engine_is_reported_before_any_work(export: Export, tmp_path: Path) -> None:
    before = tmp_path / "before.tar"
    nowhere = f"unix://{tmp_path}/nowhere.sock"
    words = ("-o", f"type=docker,dest={before}", "-o", "type=docker,load=true")
    result = export("docker", *words, "--progress", "plain", host=nowhere)
    assert result.status == 1
    assert result.err.startswith(f"error: Docker engine {nowhere}: connecting: No such file or directory")
    assert "is it running?" in result.err
    assert not before.exists()


def test_an_archive_can_be_written_as_well(export: Export, daemon: Dockerd, tmp_path: Path) -> None:
    archive = tmp_path / "image.tar"
    words = ("-o", f"type=docker,name=beside:v1,dest={archive}", "-o", "type=docker,name=beside:v1,load=true")
    result = export("docker", *words)
    assert (result.status, result.err) == (0, "")
    image_id = daemon.docker("image", "inspect", "--format", "{{.Id}}", "beside:v1")
    daemon.docker("image", "rm", "beside:v1")
    assert daemon.docker("load", "--input", str(archive)) == "Loaded image: beside:v1"
    assert daemon.docker("image", "inspect", "--format", "{{.Id}}", "beside:v1") == image_id
    daemon.docker("image", "rm", "beside:v1")


def test_an_export_that_fails_loads_nothing(export: Export, daemon: Dockerd) -> None:
    before = daemon.images()
    result = export("multi-platform", "-o", "type=docker,load=true,name=app")
    assert result.status == 1
    assert result.err == "error: docker exporter does not currently support exporting manifest lists\n"
    assert daemon.images() == before


def check_nothing_loaded(result: Result, daemon: Dockerd, before: list[str]) -> None:
    assert result.status == 1
    assert result.err.endswith("error: it is of no use\n")
    assert daemon.images() == before
    ended = vertexes(result)["importing to docker"]
    assert ended["completed"]
    assert ended["error"]


def test_an_export_that_fails_after_its_last_byte_loads_nothing(export: Export, daemon: Dockerd) -> None:
    before = daemon.images()
    result = export("docker", "-o", "type=failing,load=true", "--progress", "rawjson")
    check_nothing_loaded(result, daemon, before)


def test_a_file_of_a_failed_export_on_a_server_is_dropped(
    address: str, daemon: Dockerd, tmp_path: Path
) -> None:
    """For the server the file has been sent; the engine does not get its end before all is well."""
    before = daemon.images()
    words = ("-o", "type=failing,commit=true,load=true", "--progress", "rawjson", "--addr", address)
    variables = {"DOCKER_HOST": f"unix://{daemon.socket}"}
    result = run(tmp_path, "export", "--source", str(scenario("docker")), *words, variables=variables)
    check_nothing_loaded(result, daemon, before)
    assert vertexes(result)["importing to docker"]["error"] == "the export failed; nothing was loaded"


@pytest.mark.parametrize("place", ["here", "on a server"])
def test_an_interrupt_loads_nothing(
    request: pytest.FixtureRequest, daemon: Dockerd, place: str, tmp_path: Path
) -> None:
    before = daemon.images()
    more = ["--addr", request.getfixturevalue("address")] if place == "on a server" else []
    process = start(
        tmp_path,
        *("export", "--source", str(scenario("docker")), "--progress", "rawjson", *more),
        *("-o", f"type=stalled,control={tmp_path},load=true"),
        variables={"DOCKER_HOST": f"unix://{daemon.socket}"},
    )
    deadline = time.monotonic() + PATIENCE
    while not (tmp_path / "started").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE)
    result = Result(process.returncode, out, err.decode())
    assert result.status == 130
    assert daemon.images() == before
    # By then, an engine may have refused data that is not an archive.
    assert {vertex["name"]: bool(vertex["error"]) for vertex in vertexes(result).values()} == {
        "exporting half a file": True,
        "importing to docker": True,
    }


def test_an_engines_refusal_is_quoted(export: Export, daemon: Dockerd) -> None:
    """Engines take OCI archives from version 25 on."""
    version = int(daemon.docker("version", "--format", "{{.Server.Version}}").partition(".")[0])
    result = export("docker", "-o", "type=oci,load=true,name=example.com/oci:v1")
    if version >= 25:
        assert (result.status, result.err) == (0, "")
        daemon.docker("image", "rm", "example.com/oci:v1")
    else:
        assert result.status == 1
        assert f"error: Docker engine unix://{daemon.socket} did not load the image: " in result.err


def vertexes(result: Result) -> dict[str, dict[str, Any]]:
    """The last that was reported of each vertex, by name."""
    lines = [line for line in result.err.splitlines() if line.startswith("{")]
    return {vertex["name"]: vertex for line in lines for vertex in json.loads(line).get("vertexes", ())}
