"""Builds with a real buildkitd, from Python."""

from __future__ import annotations

import asyncio
import json
import tarfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from exporter.client import (
    DOCKERFILE_FRONTEND,
    BuildkitClient,
    CachePlace,
    Export,
    Gateway,
    Secret,
    SolveOptions,
    llb,
)
from exporter.content.layout import OCILayout
from exporter.errors import ExporterError, InvalidArgumentError, UnavailableError
from exporter.pb.moby.buildkit.v1.frontend import gateway_pb2
from exporter.progress.model import StatusUpdate
from exporter.remotes.registry import Credentials, RegistryOptions, StaticCredentials
from tests.buildkit import own_buildkitd
from tests.integration.dockerfiles import CASES, Case, write_context
from tests.integration.registry.tokens import token_server
from tests.integration.registry_peer import docker_registry
from tests.sessions import PATIENCE


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with own_buildkitd() as target:
        yield target


@pytest.fixture
async def client(address: str) -> AsyncIterator[BuildkitClient]:
    async with BuildkitClient.connect(address) as client:
        yield client


def dockerfile(context: Path, *exports: Export, **attrs: str) -> SolveOptions:
    return SolveOptions(
        frontend=DOCKERFILE_FRONTEND,
        frontend_attrs=attrs,
        directories={"context": context, "dockerfile": context},
        exports=exports,
    )


def names_in(path: Path) -> list[str]:
    with tarfile.open(path) as archive:
        return sorted(member.name for member in archive if member.isfile())


async def test_version_workers_and_records(client: BuildkitClient) -> None:
    [worker] = await client.workers()
    assert worker.platforms[0].os == "linux"
    assert worker.labels["org.mobyproject.buildkit.worker.snapshotter"] == "native"
    assert (await client.info()).package == "github.com/moby/buildkit"


@pytest.mark.parametrize(
    "name", [name for name, case in CASES.items() if "FROM local/" not in case.dockerfile]
)
async def test_dockerfiles(client: BuildkitClient, tmp_path: Path, name: str) -> None:
    case = CASES[name]
    context = write_context(tmp_path / "context", case)
    export = Export("oci", {"name": "docker.io/local/x:v1"}, file=str(tmp_path / "out.tar"))
    options = dockerfile(context, export, **case.attrs)
    if case.inline_cache:
        options = replace(options, cache_exports=[CachePlace("inline")])
    result = await client.solve(options)
    with tarfile.open(tmp_path / "out.tar") as archive:
        index = json.load(archive.extractfile("index.json"))  # type: ignore[arg-type]
    assert [entry["digest"] for entry in index["manifests"]] == [result.response["containerimage.digest"]]
    assert result.response["image.name"] == "docker.io/local/x:v1"


async def test_ignored_files_are_not_sent(client: BuildkitClient, tmp_path: Path) -> None:
    context = write_context(tmp_path / "context", CASES["ignored-files"])
    await client.solve(dockerfile(context, Export("tar", file=str(tmp_path / "out.tar"))))
    assert names_in(tmp_path / "out.tar") == ["all/a", "all/dir/x"]


async def test_a_context_is_sent_once(client: BuildkitClient, tmp_path: Path) -> None:
    context = write_context(tmp_path / "context", Case("FROM scratch\nCOPY . /\n", {"large": bytes(8 << 20)}))
    (context / ".dockerignore").write_text("busybox\n")
    export = Export("tar", file=str(tmp_path / "out.tar"))
    options = replace(dockerfile(context, export), shared_key="same")
    sent = []
    for text in ("1", "2"):
        (context / "small").write_text(text)
        updates: list[StatusUpdate] = []
        await client.solve(options, updates.append)
        statuses = [status for update in updates for status in update.statuses]
        sent.append(max(s.current for s in statuses if s.id.startswith("transferring context")))
    assert sent[0] > 8 << 20
    assert sent[1] < 1 << 20
    with tarfile.open(tmp_path / "out.tar") as archive:
        assert archive.extractfile("small").read() == b"2"  # type: ignore[union-attr]


async def test_secrets_and_the_output_of_steps(
    client: BuildkitClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "FROM scratch\nCOPY busybox /bin/sh\n"
    text += "RUN --mount=type=secret,id=file --mount=type=secret,id=variable,env=V "
    text += "read x </run/secrets/file; echo $x and $V\n"
    context = write_context(tmp_path / "context", Case(text))
    (tmp_path / "secret").write_text("from a file\n")
    monkeypatch.setenv("A_SECRET", "from a variable")
    secrets = [Secret("file", file=tmp_path / "secret"), Secret("variable", env="A_SECRET")]
    updates: list[StatusUpdate] = []
    await client.solve(replace(dockerfile(context), secrets=secrets), updates.append)
    assert b"from a file and from a variable" in b"".join(log.data for u in updates for log in u.logs)
    with pytest.raises(ExporterError, match="secret file: not found"):
        required = text.replace("id=file", "id=file,required=true")
        context = write_context(tmp_path / "other", Case(required))
        await client.solve(dockerfile(context))


async def test_all_kinds_of_destinations(client: BuildkitClient, tmp_path: Path) -> None:
    context = write_context(tmp_path / "context", CASES["scratch-copy"])
    result = await client.solve(
        dockerfile(
            context,
            Export("local", directory=tmp_path / "files"),
            Export("tar", file=str(tmp_path / "files.tar")),
            Export("oci", {"tar": "false", "name": "docker.io/local/x:v2"}, directory=tmp_path / "layout"),
            Export("docker", {"name": "docker.io/local/y:v3"}, file=str(tmp_path / "docker.tar")),
        )
    )
    assert (tmp_path / "files" / "a").read_bytes() == b"a"
    assert names_in(tmp_path / "files.tar") == ["a"]
    layout = await OCILayout.open(tmp_path / "layout", create=False)
    await layout.resolve("docker.io/local/x:v2")
    assert "manifest.json" in names_in(tmp_path / "docker.tar")
    # The daemon reports only one image, and the layout's has to be found.
    assert result.response["image.name"] == "docker.io/local/x:v2"


async def test_a_local_cache(client: BuildkitClient, tmp_path: Path) -> None:
    context = write_context(tmp_path / "context", CASES["run-chain"])
    cache = str(tmp_path / "cache")
    options = replace(
        dockerfile(context),
        cache_exports=[CachePlace("local", {"dest": cache, "mode": "max"})],
        cache_imports=[CachePlace("local", {"src": cache})],
    )
    await client.solve(options)  # there is no cache yet, which is no error
    layout = await OCILayout.open(cache, create=False)
    assert (await layout.resolve("latest")).media_type
    updates: list[StatusUpdate] = []
    await client.solve(options, updates.append)
    names = {vertex.name for update in updates for vertex in update.vertexes}
    assert any(name.startswith("importing cache manifest from local:") for name in names)


async def test_llb(client: BuildkitClient, tmp_path: Path) -> None:
    context = write_context(tmp_path / "context", Case("", {"a": b"a", "sub/b": b"b"}))
    files = llb.local("context", include=["a", "sub", "busybox"])
    base = llb.scratch().copy(files, "/busybox", "/bin/sh", mode=0o755)
    one = base.run(["/bin/sh", "-c", "echo $X >/one"], env={"X": "1"}, name="first")
    two = base.make_file("/two", b"2")
    merged = llb.merge([one, llb.diff(base, two), llb.scratch().copy(files, "/sub/", "/d/")])
    updates: list[StatusUpdate] = []
    await client.solve(
        SolveOptions(
            definition=merged.marshal(),
            directories={"context": context},
            exports=[Export("tar", file=str(tmp_path / "out.tar"))],
        ),
        updates.append,
    )
    found = [name for name in names_in(tmp_path / "out.tar") if name not in {"etc/hosts", "etc/resolv.conf"}]
    assert found == ["bin/sh", "d/b", "one", "two"]
    assert "first" in {vertex.name for update in updates for vertex in update.vertexes}


async def test_an_image_from_a_layout(client: BuildkitClient, tmp_path: Path) -> None:
    context = write_context(tmp_path / "context", CASES["scratch-copy"])
    export = Export("oci", {"tar": "false"}, directory=tmp_path / "layout")
    digest = (await client.solve(dockerfile(context, export))).response["containerimage.digest"]
    layout = await OCILayout.open(tmp_path / "layout", create=False)
    state = llb.oci_layout("docker.io/local/kept", digest, store="kept").make_file("/b", b"b")
    await client.solve(
        SolveOptions(
            definition=state.marshal(),
            stores={"kept": layout},
            exports=[Export("tar", file=str(tmp_path / "out.tar"))],
        )
    )
    assert names_in(tmp_path / "out.tar") == ["a", "b"]


async def test_a_python_frontend(client: BuildkitClient, tmp_path: Path) -> None:
    context = write_context(tmp_path / "context", CASES["scratch-copy"])
    seen: dict[str, bytes] = {}

    async def frontend(gateway: Gateway) -> gateway_pb2.Result:
        result = await gateway.solve(frontend=DOCKERFILE_FRONTEND, evaluate=True)
        seen["a"] = await gateway.read_file(result.ref.id, "a")
        seen.update(result.metadata)
        return result

    options = dockerfile(context, Export("tar", file=str(tmp_path / "out.tar")))
    await client.build(replace(options, frontend=""), frontend)
    assert seen["a"] == b"a"
    assert b'"COPY a /a # buildkit"' in seen["containerimage.config"]
    assert names_in(tmp_path / "out.tar") == ["a"]


async def test_a_python_frontend_that_fails(client: BuildkitClient, tmp_path: Path) -> None:
    async def frontend(gateway: Gateway) -> gateway_pb2.Result:
        raise InvalidArgumentError("not today")

    context = write_context(tmp_path / "context", CASES["scratch-copy"])
    with pytest.raises(InvalidArgumentError, match="not today"):
        await client.build(replace(dockerfile(context), frontend=""), frontend)


async def test_disk_usage_and_history(client: BuildkitClient, tmp_path: Path) -> None:
    context = write_context(tmp_path / "context", CASES["run-chain"])
    result = await client.solve(dockerfile(context))
    records = await client.disk_usage()
    steps = [record for record in records.values() if "echo one" in record.description]
    assert steps and all(set(step.parents) <= records.keys() for step in steps)
    only = await client.disk_usage(f"id=={steps[0].id}")
    assert list(only) == [steps[0].id]
    [build] = await client.history(ref=result.ref)
    assert (build.ref, build.frontend, build.error) == (result.ref, DOCKERFILE_FRONTEND, "")
    assert build.created_at is not None and build.completed_at is not None
    assert result.ref in {each.ref for each in await client.history()}


async def test_a_failing_step(client: BuildkitClient, tmp_path: Path) -> None:
    case = Case("FROM scratch\nCOPY busybox /bin/sh\nRUN echo bad >&2; exit 3\n")
    context = write_context(tmp_path / "context", case)
    updates: list[StatusUpdate] = []
    out = tmp_path / "out.tar"
    with pytest.raises(ExporterError, match=r"failed to solve: .*exit code: 3"):
        await client.solve(dockerfile(context, Export("tar", file=str(out))), updates.append)
    assert not out.exists()
    errors = {vertex.error for update in updates for vertex in update.vertexes if vertex.error}
    assert any("exit code: 3" in error for error in errors)
    assert b"bad" in b"".join(log.data for update in updates for log in update.logs)


async def test_a_frontend_that_does_not_find_its_file(client: BuildkitClient, tmp_path: Path) -> None:
    with pytest.raises(ExporterError, match="no such file or directory"):
        await client.solve(dockerfile(tmp_path, filename="Nothing"))


async def test_cancellation_ends_the_build(client: BuildkitClient, tmp_path: Path) -> None:
    case = Case('FROM scratch\nCOPY busybox /bin/sleep\nRUN ["/bin/sleep", "600"]\n')
    context = write_context(tmp_path / "context", case)
    started = asyncio.Event()
    updates: list[StatusUpdate] = []

    def sink(update: StatusUpdate) -> None:
        updates.append(update)
        if any("600" in vertex.name and vertex.started for vertex in update.vertexes):
            started.set()

    solving = asyncio.create_task(client.solve(dockerfile(context), sink))
    async with asyncio.timeout(PATIENCE):
        await started.wait()
        solving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await solving
    errors = {vertex.error for update in updates for vertex in update.vertexes if "600" in vertex.name}
    assert any("context canceled" in error for error in errors)
    names = {task.get_name() for task in asyncio.all_tasks()}
    assert not [name for name in names if name.startswith(("build ", "session ", "fsutil"))]


async def test_another_client_s_build_is_followed(client: BuildkitClient, tmp_path: Path) -> None:
    context = write_context(tmp_path / "context", CASES["run-chain"])
    options = replace(dockerfile(context, **{"no-cache": ""}), ref="followed")
    solving = asyncio.create_task(client.solve(options))
    names: set[str] = set()
    async for update in client.status("followed"):
        names.update(vertex.name for vertex in update.vertexes)
    await solving
    assert any("RUN echo one" in name for name in names)


async def test_wrong_options(client: BuildkitClient, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="needs either a definition or a frontend"):
        await client.solve(SolveOptions())
    with pytest.raises(InvalidArgumentError, match="missing does not exist"):
        await client.solve(dockerfile(tmp_path / "missing"))
    with pytest.raises(InvalidArgumentError, match="local cache exporter requires dest"):
        await client.solve(replace(dockerfile(tmp_path), cache_exports=[CachePlace("local")]))


async def test_no_daemon(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="is it running"):
        async with BuildkitClient.connect(f"unix://{tmp_path}/no.sock", timeout=2):
            pass
    with pytest.raises(InvalidArgumentError, match="is not an address"):
        async with BuildkitClient.connect("somewhere"):
            pass


async def test_registries_with_tokens(client: BuildkitClient, tmp_path: Path) -> None:
    """The daemon pushes and pulls with tokens that we have fetched; it never sees the password."""
    for name in ("tokens", "registry"):
        (tmp_path / name).mkdir()
    async with (
        token_server(tmp_path / "tokens") as tokens,
        docker_registry(tmp_path / "registry", auth=tokens.settings) as host,
    ):
        image = f"{host}/private/base:v1"
        push = Export("image", {"name": image, "push": "true"})
        base = dockerfile(write_context(tmp_path / "base", CASES["scratch-copy"]), push)
        with pytest.raises(ExporterError, match="gives an anonymous user no access for .* `docker login"):
            await client.solve(replace(base, registries=registries()))
        known = registries(**{host: Credentials("jo", "s3cret")})
        await client.solve(replace(base, registries=known))
        context = write_context(tmp_path / "context", Case(f"FROM {image}\nCOPY b /b\n", {"b": b"b"}))
        target = tmp_path / "out.tar"
        await client.solve(replace(dockerfile(context, Export("tar", file=str(target))), registries=known))
    assert names_in(target) == ["a", "b"]
    assert {scope for scopes in tokens.asked for scope in scopes} == {
        "repository:private/base:pull",
        "repository:private/base:pull,push",
    }
    assert set(tokens.agents) == {"buildkit-exporter"}


def registries(**credentials: Credentials) -> RegistryOptions:
    return RegistryOptions(credentials=StaticCredentials(credentials))
