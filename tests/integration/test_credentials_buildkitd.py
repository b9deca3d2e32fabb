"""The same with buildkitd and buildctl: a login by ``docker login``, for pulls and pushes."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.buildkit import own_buildkitd, require_buildkit
from tests.builds import scenario
from tests.integration.cli_process import PATIENCE, run
from tests.integration.dockerfiles import Case, write_context
from tests.integration.proxied import Build, Built, built, proxy
from tests.integration.registry.guarded import Guarded, guarded, log_in, nothing_secret_in


@pytest.fixture(scope="module")
def daemon() -> Iterator[str]:
    require_buildkit("buildctl")
    with own_buildkitd() as address:
        yield address


@pytest.fixture
def home() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="bke-", dir="/tmp"))
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(params=["passwords", "tokens", "tokens by form"])
async def registry(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Guarded]:
    async with guarded(tmp_path / "registry", request.param.partition(" ")[0]) as running:
        if running.tokens is not None:
            running.tokens.knows_form = request.param.endswith("form")
        yield running


async def build(address: str, wanted: Build, home: Path, **variables: str) -> Built:
    """Build with buildctl, as the user with this home directory."""
    metadata = wanted.context.with_suffix(".metadata")
    metadata.unlink(missing_ok=True)
    done = await asyncio.to_thread(
        subprocess.run,
        wanted.command(address, metadata),
        capture_output=True,
        timeout=PATIENCE,
        check=False,
        env={"PATH": os.environ["PATH"], "HOME": str(home), **variables},
    )
    return built(done.returncode, done.stderr, metadata)


async def push_base(registry: Guarded, home: Path) -> str:
    """Push an image that others need a login to pull; gives its name."""
    name = f"{registry.host}/private/base:v1"
    words = ("export", "--source", str(scenario("run-chain")), "--root", str(home / "base"))
    done = await asyncio.to_thread(run, home, *words, "-o", f"type=image,name={name},push=true")
    assert done.status == 0, done.err
    registry.users()
    return name


@pytest.mark.parametrize("variables", [{}, {"BUILDKIT_NO_CLIENT_TOKEN": "1"}])
async def test_docker_login(
    registry: Guarded, daemon: str, home: Path, tmp_path: Path, variables: dict[str, str]
) -> None:
    """The layers of the base are lazy: the daemon pulls them for the export, with the same login."""
    log_in(home, registry)  # the operator
    base = await push_base(registry, home)
    for user in ("jo", "nobody"):
        (tmp_path / user).mkdir()
    log_in(tmp_path / "jo", registry, user="jo")
    private = write_context(tmp_path / "private", Case(f"FROM {base}\nENV A={os.urandom(8).hex()}\n"))
    public = write_context(tmp_path / "public", Case("FROM scratch\nCOPY a /a\n", {"a": os.urandom(8)}))

    def pushing(context: Path, repository: str) -> Build:
        name = f"{registry.host}/{repository}:v1"
        return Build(context, [f"type=plugin.image,name={name},push=true,store=false"])

    with proxy(home, daemon, "--debug") as running:
        done = await build(running.address, pushing(private, "jo/private"), tmp_path / "jo", **variables)
        assert done.status == 0, done.errors
        assert registry.has("jo/private")
        done = await build(running.address, pushing(public, "jo/public"), tmp_path / "jo", **variables)
        assert done.status == 0, done.errors
        assert registry.users() == {"jo"}
        for context in (public, private):
            done = await build(running.address, pushing(context, "no"), tmp_path / "nobody", **variables)
            assert done.status == 1
            nothing_secret_in(json.dumps(done.messages) + done.errors)
            assert registry.users() == set()
            assert not registry.has("no")
    with proxy(
        home / "2",
        daemon,
        "--registry-config",
        str(home / ".docker" / "config.json"),
        "--operator-credentials",
        registry.host,
    ) as lending:
        done = await build(lending.address, pushing(public, "ops"), tmp_path / "nobody", **variables)
        assert done.status == 0, done.errors
        assert registry.has("ops")
        assert registry.users() == {"ops"}
    nothing_secret_in(running.log + lending.log)
