"""Hooks of an operator: with the command line, a real registry, a plugin server, and stock buildctl."""

from __future__ import annotations

import asyncio
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.buildkit import own_buildkitd, require_buildkit
from tests.integration.cli_process import Result, run, server
from tests.integration.proxied import Build, build, proxy
from tests.integration.registry_peer import docker_registry
from tests.peers import require

# The hook looks into the layout with another program.
LOOK = (
    'skopeo inspect --raw "oci:$BUILDKIT_EXPORTER_LAYOUT" >/dev/null && echo "seen $BUILDKIT_EXPORTER_NAME"'
)


def exported(home: Path, hook: str, output: str, *words: str) -> Result:
    if not (home / "build").exists():
        assert run(home, "sample", str(home / "build")).status == 0
    hooks = () if "--addr" in words else ("--hook", f"scan={hook}", "--root", str(home / "root"))
    line = ("export", "--progress", "plain", *hooks, *words, "--source", str(home / "build"))
    return run(home, *line, "--output", f"{output},before-publish=scan")


def has_tag(name: str) -> bool:
    line = [require("skopeo", "skopeo"), "inspect", "--raw", "--tls-verify=false", f"docker://{name}"]
    return subprocess.run(line, capture_output=True, check=False).returncode == 0


async def test_a_registry_gets_no_tag(tmp_path: Path) -> None:
    require("skopeo", "skopeo")
    await asyncio.to_thread((tmp_path / "registry").mkdir)
    async with docker_registry(tmp_path / "registry") as registry:
        name = f"{registry}/app:v1"
        output = f"type=image,name={name},push=true,registry.insecure=true"
        refused = await asyncio.to_thread(exported, tmp_path, "echo CVE-2020-1; exit 7", output)
        assert refused.status != 0
        assert "nothing was published: hook scan refused sha256:" in refused.err
        assert "exit status 7: CVE-2020-1" in refused.err
        assert not await asyncio.to_thread(has_tag, name)
        approved = await asyncio.to_thread(exported, tmp_path, LOOK, output)
        assert approved.status == 0, approved.err
        assert f"seen {name}" in approved.err
        assert await asyncio.to_thread(has_tag, name)


def test_no_file_and_no_name(tmp_path: Path) -> None:
    refused = exported(tmp_path, "exit 7", f"type=oci,dest={tmp_path}/out.tar")
    assert refused.status != 0
    assert not (tmp_path / "out.tar").exists()
    refused = exported(tmp_path, "exit 7", "type=image,name=example.com/app:v1")
    assert refused.status != 0
    listed = run(tmp_path, "images", "--root", str(tmp_path / "root"))
    assert listed.status == 0
    assert b"example.com" not in listed.out


def test_a_server_has_its_own_hooks(tmp_path: Path) -> None:
    (tmp_path / "server").mkdir()
    with server(tmp_path / "server", "--hook", "scan=echo of the server; exit 7") as address:
        refused = exported(tmp_path, "", f"type=oci,dest={tmp_path}/out.tar", "--addr", address)
        assert refused.status != 0
        assert "exit status 7: of the server" in refused.err
        assert not (tmp_path / "out.tar").exists()
        words = ("--addr", address, "--hook", "scan=true")
        refused = exported(tmp_path, "", f"type=oci,dest={tmp_path}/out.tar", *words)
        assert "--hook is for exports in this process" in refused.err


@pytest.fixture
def home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="bke-", dir="/tmp") as name:  # a socket's path has to be short
        yield Path(name)


async def test_stock_buildctl_with_a_type_of_the_daemon(home: Path, tmp_path: Path) -> None:
    """The proxy takes the export over, because the daemon would push without asking the hook."""
    require_buildkit("buildctl")
    require("skopeo", "skopeo")
    await asyncio.to_thread((tmp_path / "registry").mkdir)
    await asyncio.to_thread((tmp_path / "context").mkdir)
    await asyncio.to_thread(
        (tmp_path / "context" / "Dockerfile").write_text, "FROM scratch\nCOPY Dockerfile /\n"
    )
    hook = 'test "$BUILDKIT_EXPORTER_NAME" = "$(cat allowed)"'.replace("allowed", str(tmp_path / "allowed"))
    async with docker_registry(tmp_path / "registry") as registry:
        await asyncio.to_thread((tmp_path / "allowed").write_text, f"{registry}/good:1")
        await asyncio.to_thread(_through_a_proxy, home, tmp_path, registry, hook)


def _through_a_proxy(home: Path, tmp_path: Path, registry: str, hook: str) -> None:
    with own_buildkitd() as daemon, proxy(home / "proxy", daemon, "--hook", f"scan={hook}") as running:
        for name, is_good in ((f"{registry}/bad:1", False), (f"{registry}/good:1", True)):
            output = f"type=image,name={name},push=true,registry.insecure=true,before-publish=scan"
            built = build(running.address, Build(tmp_path / "context", [output]))
            assert (built.status == 0) is is_good, built.errors
            assert has_tag(name) is is_good
        output = "type=oci,dest=-,before-publish=unknown"
        built = build(running.address, Build(tmp_path / "context", [output]))
        assert 'there is no hook "unknown" (available: scan)' in built.errors
