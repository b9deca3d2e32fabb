"""What an operator configures for exports: access to registries, and a cache of converted layers."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.builds import read_json, scenario
from tests.certificates import make_certificates
from tests.integration.cli_process import run, server
from tests.integration.registry_peer import docker_registry

HTPASSWD = "jo:$2b$05$uc2/CEa8LQLCV0fh5h7P9.BuXcCZbNGX94eX.U1HOO3Mezqdt8Tzm\n"
BUILD = "scratch-copy-image"


@pytest.fixture
async def guarded_registry(tmp_path: Path) -> AsyncIterator[str]:
    """A registry with a certificate of its own, for people with a password; gives ``host:port``."""
    make_certificates(tmp_path)
    (tmp_path / "htpasswd").write_text(HTPASSWD)
    auth = {"htpasswd": {"realm": "tests", "path": str(tmp_path / "htpasswd")}}
    tls = {"certificate": str(tmp_path / "server.pem"), "key": str(tmp_path / "server.key")}
    async with docker_registry(tmp_path, auth=auth, tls=tls) as host:
        yield host


def way_to(host: str, directory: Path) -> tuple[list[str], list[str]]:
    """Options for credentials and trusted certificates."""
    config = directory / "docker.json"
    config.write_text(json.dumps({"auths": {host: {"auth": base64.b64encode(b"jo:s3cret").decode()}}}))
    # What says that a registry on this machine speaks TLS.
    (directory / "certs" / host).mkdir(parents=True)
    trust = ["--registry-ca", str(directory / "ca.pem"), "--registry-certs-dir", str(directory / "certs")]
    return ["--registry-config", str(config)], trust


def pushed(directory: Path, repository: str) -> str:
    """The digest that the registry has for ``v1``."""
    tags = (
        directory
        / "data"
        / "docker"
        / "registry"
        / "v2"
        / "repositories"
        / repository
        / "_manifests"
        / "tags"
    )
    link = tags / "v1" / "current" / "link"
    return link.read_text() if link.exists() else ""


@pytest.mark.parametrize("where", ["here", "on a server", "on a server that lends its own"])
async def test_registry_credentials_and_certificates(
    where: str, guarded_registry: str, tmp_path: Path
) -> None:
    output = f"type=registry,name={guarded_registry}/app:v1"
    words = ["export", "--source", str(scenario(BUILD)), "-o", output]
    config, trust = way_to(guarded_registry, tmp_path)

    def export() -> None:
        if where == "here":
            result = run(tmp_path, *words, *config, *trust)
        elif where == "on a server":
            with server(tmp_path, *trust) as address:
                result = run(tmp_path, *words, *config, "--addr", address)
        else:
            with server(tmp_path, *config, *trust, "--operator-credentials", guarded_registry) as address:
                result = run(tmp_path, *words, "--addr", address)
        assert result.status == 0, result.err

    refused = await asyncio.to_thread(run, tmp_path, *words)
    assert refused.status == 1
    assert pushed(tmp_path, "app") == ""
    await asyncio.to_thread(export)
    digest = read_json(BUILD, "result.json")["exporter_response"]["containerimage.digest"]
    assert pushed(tmp_path, "app") == digest


@pytest.mark.parametrize("where", ["here", "on a server"])
def test_converted_layers_are_kept(where: str, tmp_path: Path) -> None:
    output = f"type=oci,compression=zstd,force-compression=true,dest={tmp_path / 'image.tar'}"
    words = ["export", "--source", str(scenario("run-chain")), "-o", output]
    root = tmp_path / "server"

    def export(*options: str) -> dict[str, float]:
        if where == "here":
            result = run(tmp_path, *words, "--root", str(root), *options)
        else:
            with server(tmp_path, *options) as address:
                result = run(tmp_path, *words, "--addr", address)
        assert result.status == 0, result.err
        return {path.name: path.stat().st_mtime for path in (root / "layers").glob("records/*")}

    first = export()
    assert len(first) == len(read_json("run-chain", "chains.json")["refs"][0]["chain"])
    again = export()
    assert again.keys() == first.keys()
    assert all(again[name] > first[name] for name in first)  # when they were used
    assert export("--layer-cache-bytes", "0") == {}
