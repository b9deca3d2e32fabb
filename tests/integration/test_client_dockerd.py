"""`exporter.client.Client` with a real Docker engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from exporter.client import BuildError, Client, DirectoryOutput, ImageOutput, OCIOutput, StepOutput
from exporter.errors import InvalidArgumentError
from tests.integration.client_contexts import SHELL, files
from tests.integration.docker_peer import Dockerd, dockerd
from tests.integration.registry_peer import docker_registry


@pytest.fixture(scope="module")
def engine() -> Iterator[Dockerd]:
    with dockerd() as daemon:
        yield daemon


async def test_an_image_goes_into_the_engine(engine: Dockerd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{engine.socket}")
    texts: list[str] = []
    for address in ("docker", f"unix://{engine.socket}"):
        async with Client(address) as client:
            result = await client.build(
                files(SHELL + "RUN echo on the engine\n"),
                tags="local/made:1",
                network="host",  # there is no bridge in these engines
                on_event=lambda event: texts.append(event.text) if isinstance(event, StepOutput) else None,
            )
        assert engine.docker("image", "inspect", "--format", "{{.Id}}", "local/made:1") == result.digest
    assert "on the engine\n" in texts


async def test_files_failures_and_results(engine: Dockerd, tmp_path: Path) -> None:
    async with Client(f"unix://{engine.socket}") as client:
        output = DirectoryOutput(tmp_path / "out")
        await client.build({"Dockerfile": "FROM scratch\nCOPY a /\n", "a": "1"}, outputs=output)
        assert (tmp_path / "out" / "a").read_text() == "1"
        with pytest.raises(BuildError, match="exit code: 5") as failure:
            await client.build(files(SHELL + "RUN exit 5\n"), network="host")
        # Docker 20.10 does not tell the lines of the Dockerfile.
        assert (failure.value.exit_code, failure.value.command) == (5, "/bin/sh -c exit 5")
        with pytest.raises(InvalidArgumentError, match="cannot be made with a Docker engine"):
            await client.build({"Dockerfile": "FROM scratch\n"}, outputs=OCIOutput(dest=tmp_path / "x"))
        with pytest.raises(InvalidArgumentError, match="only one output"):
            await client.build({"Dockerfile": "FROM scratch\n"}, outputs=[output, output])
        async with client.open({"Dockerfile": "FROM scratch\nCOPY a /\n", "a": "2"}) as built:
            assert await built.read("/a") == b"2"


async def test_the_engine_pushes(engine: Dockerd, tmp_path: Path) -> None:
    async with docker_registry(tmp_path) as host, Client(f"unix://{engine.socket}") as client:
        result = await client.build(
            {"Dockerfile": "FROM scratch\nCOPY a /\n", "a": "3"},
            tags=f"{host}/pushed:1",
            outputs=ImageOutput(push=True),
        )
        assert engine.docker("pull", f"{host}/pushed@{result.digest}")
