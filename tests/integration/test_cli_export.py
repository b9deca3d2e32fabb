"""``buildkit-exporter export`` with recorded builds: in one process, and as a daemon against a server."""

from __future__ import annotations

import base64
import json
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.builds import read_json, scenario
from tests.integration.cli_process import Result, run, server

SCENARIOS = [
    "docker",
    "run-chain",
    "metadata-only",
    "multi-platform",
    "names-oci",
    "provenance-multi-max",
    "provenance-slsa-v02",
    "zstd",
]

Export = Callable[..., Result]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with server(tmp_path_factory.mktemp("server")) as address:
        yield address


@pytest.fixture(params=["here", "on a server"])
def export(request: pytest.FixtureRequest, tmp_path: Path) -> Export:
    """Run an export of a recorded build, without progress unless it is asked for."""
    place = ["--root", str(tmp_path / "root")]
    if request.param == "on a server":
        place = ["--addr", request.getfixturevalue("address")]

    def export(name: str, *words: str) -> Result:
        return run(tmp_path, "export", "--source", str(scenario(name)), "--progress", "quiet", *place, *words)

    return export


def output_of(name: str, *more: str) -> str:
    """The recorded build's own output, with more words."""
    recorded = read_json(name, "scenario.json")["exporter"]
    words = [
        f"type={recorded['type']}",
        *(f"{key}={value}" for key, value in recorded["attrs"].items()),
        *more,
    ]
    return ",".join(f'"{word}"' for word in words)


def digests(name: str) -> dict[str, str]:
    response = read_json(name, "result.json")["exporter_response"]
    return {key: value for key, value in response.items() if key != "containerimage.descriptor"}


def blob_digests(directory: Path) -> set[str]:
    return {path.name for path in (directory / "blobs" / "sha256").iterdir()}


@pytest.mark.parametrize("name", SCENARIOS)
def test_an_archive_has_the_digests_of_the_recorded_build(export: Export, name: str, tmp_path: Path) -> None:
    archive, metadata_file = tmp_path / "image.tar", tmp_path / "metadata.json"
    result = export(name, "-o", output_of(name, f"dest={archive}"), "--metadata-file", str(metadata_file))
    assert (result.status, result.out, result.err) == (0, b"", "")
    metadata = json.loads(metadata_file.read_bytes())
    descriptor = metadata.pop("containerimage.descriptor")
    assert metadata == digests(name)
    assert descriptor["digest"] == digests(name)["containerimage.digest"]
    with tarfile.open(archive) as tar:
        blobs = {
            Path(member.name).name for member in tar if member.isfile() and member.name.startswith("blobs/")
        }
    assert blobs == blob_digests(scenario(name) / "oci")


@pytest.mark.parametrize("name", ["run-chain", "names-oci", "provenance-multi-max"])
def test_a_directory_has_the_blobs_and_names_of_the_recorded_build(
    export: Export, name: str, tmp_path: Path
) -> None:
    directory = tmp_path / "image"
    result = export(name, "-o", output_of(name, "tar=false", f"dest={directory}"))
    assert (result.status, result.out, result.err) == (0, b"", "")
    assert blob_digests(directory) == blob_digests(scenario(name) / "oci")
    entries = json.loads((directory / "index.json").read_bytes())["manifests"]
    names = digests(name).get("image.name", "").split(",")
    assert {entry["digest"] for entry in entries} == {digests(name)["containerimage.digest"]}
    assert [entry["annotations"].get("io.containerd.image.name", "") for entry in entries] == names
    if names == [""]:
        assert entries[0]["annotations"]["org.opencontainers.image.ref.name"] == "latest"
    assert {path.name for path in directory.iterdir()} == {"blobs", "index.json", "oci-layout"}


def test_an_archive_goes_to_standard_output(export: Export, tmp_path: Path) -> None:
    result = export("docker", "-o", "type=docker,name=app")
    (tmp_path / "image.tar").write_bytes(result.out)
    with tarfile.open(tmp_path / "image.tar") as tar:
        manifest = tar.extractfile("manifest.json")
        assert manifest is not None
        assert json.loads(manifest.read())[0]["RepoTags"] == ["app:latest"]


def test_a_moby_image_has_the_recorded_id(export: Export, tmp_path: Path) -> None:
    metadata_file = tmp_path / "metadata.json"
    result = export("moby-run-chain", "-o", "type=moby,name=rec/chain", "--metadata-file", str(metadata_file))
    assert (result.status, result.err) == (0, "")
    image_id = read_json("moby-run-chain", "result.json")["image_id"]
    assert json.loads(metadata_file.read_bytes())["containerimage.config.digest"] == image_id


def test_several_outputs_answer_in_one_response(export: Export, tmp_path: Path) -> None:
    metadata_file = tmp_path / "metadata.json"
    archives = [tmp_path / "a.tar", tmp_path / "b.tar"]
    result = export(
        "run-chain",
        *("-o", f"type=oci,name=first,dest={archives[0]}"),
        *("-o", f"type=docker,name=second,dest={archives[1]}"),
        *("--metadata-file", str(metadata_file)),
    )
    assert (result.status, result.err) == (0, "")
    assert all(tarfile.is_tarfile(archive) for archive in archives)
    assert json.loads(metadata_file.read_bytes())["image.name"] == "docker.io/library/second:latest"


def test_rawjson_progress_covers_the_whole_export(export: Export, tmp_path: Path) -> None:
    result = export("run-chain", "-o", f"type=oci,dest={tmp_path}/a.tar", "--progress", "rawjson")
    updates: list[dict[str, Any]] = [json.loads(line) for line in result.err.splitlines()]
    vertexes = [vertex for update in updates for vertex in update.get("vertexes", ())]
    assert {vertex["name"] for vertex in vertexes} == {"exporting to oci image format"}
    assert "completed" in vertexes[-1]
    assert "error" not in vertexes[-1]
    done = {s["id"] for update in updates for s in update.get("statuses", ()) if "completed" in s}
    manifest = digests("run-chain")["containerimage.digest"]
    assert {"exporting layers", f"exporting manifest {manifest}", "sending tarball"} <= done
    assert {status["vertex"] for u in updates for status in u.get("statuses", ())} == {vertexes[0]["digest"]}


def test_plain_progress_is_what_buildctl_prints(export: Export, tmp_path: Path) -> None:
    result = export("run-chain", "-o", f"type=oci,dest={tmp_path}/a.tar", "--progress", "plain")
    lines = result.err.splitlines()
    assert lines[0] == "#1 exporting to oci image format"
    assert lines[-1].startswith("#1 DONE ")
    assert any(line.startswith("#1 sending tarball ") and line.endswith(" done") for line in lines)


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("type=ocy", 'exporter "ocy" could not be found'),
        ("type=oci,oci-mediatypes=maybe", "non-bool value specified for oci-mediatypes"),
        ("type=oci,compression=lzma", "unsupported compression type lzma"),
        ("type=oci,dest={}", "destination file is a directory"),
        ("type=oci,tar=false", "output directory is required for oci exporter"),
        ("type=moby,dest=a.tar", "output a.tar is not supported by moby exporter"),
    ],
)
def test_wrong_outputs_are_refused_before_any_work(
    export: Export, output: str, message: str, tmp_path: Path
) -> None:
    before = tmp_path / "before.tar"
    result = export("docker", "-o", f"type=oci,dest={before}", "-o", output.format(tmp_path))
    assert result.status == 2
    assert message in result.err
    assert "Traceback" not in result.err
    assert not before.exists()


def test_a_failed_export_says_why_and_keeps_the_old_file(export: Export, tmp_path: Path) -> None:
    """The docker exporter refuses results of several platforms, but only when it has seen one."""
    archive, metadata_file = tmp_path / "image.tar", tmp_path / "metadata.json"
    archive.write_bytes(b"before")
    result = export(
        "multi-platform", "-o", f"type=docker,dest={archive}", "--metadata-file", str(metadata_file)
    )
    assert result.status == 1
    assert result.err == "error: docker exporter does not currently support exporting manifest lists\n"
    assert archive.read_bytes() == b"before"
    assert not metadata_file.exists()
    assert {path.name for path in tmp_path.iterdir()} - {"root", "site"} == {"image.tar"}


def test_a_missing_blob_is_named(export: Export, tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(scenario("docker"), source)
    digest = read_json("docker", "chains.json")["refs"][0]["chain"][-1]["blob"]["digest"]
    (source / "oci" / "blobs" / "sha256" / digest.removeprefix("sha256:")).unlink()
    result = export("docker", "--source", str(source), "-o", f"type=oci,dest={tmp_path}/a.tar")
    assert result.status == 1
    assert digest in result.err
    assert not (tmp_path / "a.tar").exists()


def test_the_metadata_file_holds_what_the_exporter_answered(export: Export, tmp_path: Path) -> None:
    metadata_file = tmp_path / "metadata.json"
    export(
        "docker", "-o", f"type=docker,name=myapp,dest={tmp_path}/a.tar", "--metadata-file", str(metadata_file)
    )
    metadata = json.loads(metadata_file.read_bytes())
    recorded = read_json("docker", "result.json")["exporter_response"]
    descriptor = json.loads(base64.b64decode(recorded["containerimage.descriptor"]))
    created = metadata["containerimage.descriptor"]["annotations"].pop("org.opencontainers.image.created")
    assert created.endswith("Z")
    del descriptor["annotations"]
    assert metadata["containerimage.descriptor"].pop("annotations") == {}
    assert metadata["containerimage.descriptor"] == descriptor
    assert list(metadata) == sorted(recorded)


def test_an_unreachable_server_is_reported(tmp_path: Path) -> None:
    result = run(
        tmp_path,
        *("export", "--source", str(scenario("docker")), "-o", "type=moby"),
        *("--addr", f"unix://{tmp_path}/nothing.sock"),
    )
    assert result.status == 1
    reached = f"cannot reach a plugin server of buildkit-exporter at unix://{tmp_path}/nothing.sock"
    assert f"{reached}: there is no such socket: is it running" in result.err


def test_several_directories_come_from_a_server(address: str, tmp_path: Path) -> None:
    result = run(
        tmp_path,
        *("export", "--source", str(scenario("docker")), "--addr", address),
        *("-o", f"type=oci,tar=false,dest={tmp_path}/a", "-o", f"type=oci,tar=false,dest={tmp_path}/b"),
    )
    assert result.status == 0, result.err
    indexes = [json.loads((tmp_path / name / "index.json").read_text()) for name in ("a", "b")]
    roots = [[entry["digest"] for entry in index["manifests"]] for index in indexes]
    assert roots[0] == roots[1]
    assert len(roots[0]) == 1
    for name in ("a", "b"):
        assert run(tmp_path, "verify", str(tmp_path / name)).status == 0


def test_a_directory_that_is_not_a_saved_source_is_reported(tmp_path: Path) -> None:
    result = run(tmp_path, "export", "--source", str(tmp_path), "-o", "type=moby")
    assert result.status == 1
    assert result.err == f"error: {tmp_path} is not a saved source: it has no file source.json\n"


def test_a_misspelt_attribute_gets_a_warning(export: Export, tmp_path: Path) -> None:
    archive = tmp_path / "image.tar"
    result = export(
        "docker", "--progress", "plain", "-o", f"type=oci,compresion=zstd,colour=red,dest={archive}"
    )
    assert result.status == 0, result.err
    assert [line for line in result.err.splitlines() if "WARN" in line] == [
        "#1 WARN: type=oci has no attribute compresion: did you mean compression?"
    ]
    assert archive.exists()
