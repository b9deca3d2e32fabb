"""``serve``, and the commands that talk to a server or look at what it made."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.builds import read_json, scenario
from tests.certificates import make_certificates
from tests.integration.cli_process import run, server


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def address(home: Path) -> Iterator[str]:
    with server(home, "--log-format", "json") as address:
        yield address


def test_a_server_offers_what_is_installed(address: str, home: Path) -> None:
    there = run(home, "exporters", "--addr", address, "--json")
    here = run(home, "exporters", "--json")
    assert (there.status, there.err) == (0, "")
    assert json.loads(there.out) == json.loads(here.out)
    types = [item["type"] for item in json.loads(here.out)]
    assert {"docker", "moby", "oci", "ordered"} <= set(types)
    assert types == sorted(types)


def test_types_are_listed_in_a_table(address: str, home: Path) -> None:
    lines = run(home, "exporters", "--addr", address).out.decode().splitlines()
    assert lines[0].split() == ["TYPE", "MAKES", "TITLE"]
    assert ["stalled", "archive", "Half", "a", "file"] in [line.split() for line in lines]
    assert not any(line.endswith(" ") for line in lines)


def test_attributes_of_a_type_are_explained(address: str, home: Path) -> None:
    told = run(home, "exporters", "--addr", address, "--type", "oci").out.decode()
    assert told == run(home, "exporters", "--type", "oci").out.decode()
    line = next(line for line in told.splitlines() if line.startswith("compression "))
    assert "uncompressed | gzip | estargz | zstd" in line
    assert [line.split()[:3] for line in told.splitlines()[-3:]] == [
        ["dest", "string", "-"],
        ["load", "bool", "false"],
        ["context", "string", "Docker"],
    ], "where it goes is the client's affair, but who asks for a type wants to know"
    result = run(home, "exporters", "--addr", address, "--type", "ocy")
    assert (result.status, result.out) == (2, b"")
    assert 'exporter "ocy" could not be found' in result.err


def test_log_lines_are_json_on_request(address: str, home: Path) -> None:
    run(home, "exporters", "--addr", address)
    lines = [json.loads(line) for line in (home / "server.log").read_text().splitlines()]
    assert lines[0]["msg"] == f"listening on {address}"
    calls = [line for line in lines if line.get("rpc") == "ListExporters"]
    assert calls
    assert {call["code"] for call in calls} == {"OK"}


def test_a_second_server_at_the_address_is_refused(address: str, home: Path) -> None:
    result = run(home, "serve", "--addr", address, "--root", str(home / "other"))
    assert result.status == 1
    assert f"error: cannot listen on {address}: another process listens there" in result.err
    assert "Traceback" not in result.err


def test_an_exported_image_can_be_inspected(address: str, home: Path) -> None:
    for name, output in (
        ("moby-run-chain", "type=moby,name=chain:v1"),
        ("docker", "type=image,name=example.com/app:v2"),
    ):
        result = run(
            home,
            "export",
            "--source",
            str(scenario(name)),
            "--addr",
            address,
            "-o",
            output,
            "--progress",
            "quiet",
        )
        assert (result.status, result.err) == (0, "")
    document = json.loads(run(home, "inspect", str(home / "server"), "--json").out)
    assert document["kind"] == "image store"
    ids = {name: image["configDigest"] for image in document["images"] for name in image["names"]}
    assert ids == {
        "example.com/app:v2": read_json("docker", "result.json")["exporter_response"][
            "containerimage.config.digest"
        ],
        "docker.io/library/chain:v1": read_json("moby-run-chain", "result.json")["image_id"],
    }
    table = run(home, "inspect", str(home / "server"), "chain:v1", "--no-trunc").out.decode()
    assert table.startswith("docker.io/library/chain:v1\n")
    assert ids["docker.io/library/chain:v1"] in table


def test_the_root_is_in_the_users_data_directory_by_default(tmp_path: Path) -> None:
    source = str(scenario("moby-run-chain"))
    result = run(tmp_path, "export", "--source", source, "-o", "type=moby,name=chain", "--progress", "quiet")
    assert (result.status, result.err) == (0, "")
    root = tmp_path / ".local" / "share" / "buildkit-exporter"
    assert json.loads(run(tmp_path, "inspect", str(root), "--json").out)["images"]


def test_a_server_with_tls_requires_and_presents_certificates(tmp_path: Path) -> None:
    make_certificates(tmp_path)
    files = {
        name: str(tmp_path / name)
        for name in ("ca.pem", "server.pem", "server.key", "client.pem", "client.key")
    }
    tls = ("--tlscert", files["server.pem"], "--tlskey", files["server.key"], "--tlscacert", files["ca.pem"])
    with server(tmp_path, "--addr", "tcp://127.0.0.1:0", *tls):
        # The log may be a moment behind the server.
        while "tcp://127.0.0.1:" not in (log := (tmp_path / "server.log").read_text()):
            time.sleep(0.05)
        port = log.split("tcp://127.0.0.1:")[1].split()[0]
        reach = (
            "exporters",
            "--json",
            "--addr",
            f"tcp://127.0.0.1:{port}",
            "--tlsservername",
            "exporter.test",
        )
        known = ("--tlscacert", files["ca.pem"])
        ours = ("--tlscert", files["client.pem"], "--tlskey", files["client.key"])
        assert run(tmp_path, *reach, *known, *ours).status == 0
        for refused, why in (
            (run(tmp_path, *reach, *known), "probably it asks clients for a certificate"),
            (run(tmp_path, *reach, *ours), "its certificate is not trusted"),
            (run(tmp_path, *reach[:-2]), "it speaks TLS: give --tlscacert"),
        ):
            assert refused.status == 1
            prefix = f"error: cannot reach a plugin server of buildkit-exporter at tcp://127.0.0.1:{port}: "
            assert refused.err.startswith(prefix)
            assert why in refused.err
