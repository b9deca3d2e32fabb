from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from exporter.cli.build.outputs import BuildOutput, Deliveries, Wishes, plan_engine_outputs, plan_outputs
from exporter.cli.failures import UsageError
from exporter.cli.outputs import EngineDestination
from exporter.client import Export
from exporter.exporters.registry import default_registry

NOTHING: frozenset[str] = frozenset()


def plan(*texts: str, tags: tuple[str, ...] = (), taken: frozenset[str] = NOTHING) -> list[BuildOutput]:
    return plan_outputs(Wishes(texts=texts, tags=tags), default_registry(), taken)


def plan_engine(*texts: str, tags: tuple[str, ...] = ()) -> list[BuildOutput]:
    return plan_engine_outputs(Wishes(texts=texts, tags=tags), default_registry())


def exports(*items: BuildOutput) -> list[object]:
    deliveries = Deliveries(lambda _: None)
    return [deliveries.export_of(item, None) for item in items]


def test_outputs_of_the_daemon_and_of_this_package(tmp_path: Path) -> None:
    daemon, prefixed, only_ours = plan(
        f"type=oci,dest={tmp_path}/a", f"type=plugin.oci,dest={tmp_path}/b", "type=moby"
    )
    assert (daemon.is_ours, prefixed.is_ours, only_ours.is_ours) == (False, True, True)
    assert prefixed.output.type == "oci"
    [taken] = plan("type=image,name=x", taken=frozenset({"image"}))
    assert taken.is_ours


def test_destinations_of_the_daemon_s_outputs(tmp_path: Path) -> None:
    planned = plan(
        f"type=tar,dest={tmp_path}/a.tar",
        f"type=local,dest={tmp_path}/files",
        f"type=oci,tar=false,dest={tmp_path}/layout",
        "type=image,name=x,push=true",
    )
    assert exports(*planned) == [
        Export("tar", {}, file=f"{tmp_path}/a.tar"),
        Export("local", {}, directory=tmp_path / "files"),
        Export("oci", {"tar": "false"}, directory=tmp_path / "layout"),
        Export("image", {"name": "x", "push": "true"}),
    ]


def test_tags_name_outputs_without_a_name(tmp_path: Path) -> None:
    named, unnamed, files = plan(
        "type=image,name=own", "type=image", f"type=local,dest={tmp_path}/d", tags=("a:1", "b:2")
    )
    assert named.output.attrs["name"] == "own"
    assert unnamed.output.attrs["name"] == "a:1,b:2"
    assert "name" not in files.output.attrs


@pytest.mark.parametrize(
    ("texts", "problem"),
    [
        (["type=nothing"], 'exporter "nothing" could not be found'),
        (["type=plugin.nothing"], 'exporter "nothing" could not be found'),
        (["type=local"], "output directory is required"),
        (["type=plugin.docker,load=true"], "load=true is for the daemon's own type=docker"),
        (["type=tar,dest=x", "type=oci,dest=./x"], "two outputs go to"),
    ],
)
def test_outputs_that_cannot_be_made(texts: list[str], problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        plan(*texts)


def test_only_known_types_can_be_taken() -> None:
    with pytest.raises(UsageError, match="there is no exporter here for nothing"):
        plan(taken=frozenset({"nothing"}))


def test_a_docker_engine_s_outputs(tmp_path: Path) -> None:
    assert exports(*plan_engine(tags=("a", "b"))) == [Export("moby", {"name": "a,b"})]
    for word in ("docker", "image", "moby"):
        assert exports(*plan_engine(f"type={word},name=x", tags=("a",))) == [Export("moby", {"name": "x"})]
    [tar] = exports(*plan_engine(f"type=tar,dest={tmp_path}/t"))
    assert tar == Export("tar", {}, file=f"{tmp_path}/t")
    with pytest.raises(UsageError, match="type=oci cannot be made with a Docker engine"):
        plan_engine("type=oci,dest=x")
    with pytest.raises(UsageError, match="only one output"):
        plan_engine("type=moby", f"type=tar,dest={tmp_path}/t")


def wish(*texts: str, **wishes: Any) -> list[object]:
    return exports(*plan_outputs(Wishes(texts=texts, **wishes), default_registry(), NOTHING))


def test_push() -> None:
    pushed = {"push": "true", "unpack": "false"}
    assert wish(push=True, tags=["a"]) == [Export("image", {"name": "a", **pushed})]
    assert wish("type=image,name=b", push=True) == [Export("image", {"name": "b", **pushed})]
    kept = {"name": "b", "unpack": "true", "push": "true"}
    assert wish("type=image,name=b,unpack=true,push=false", push=True) == [Export("image", kept)]
    [ours] = plan_outputs(Wishes(texts=["type=plugin.image,name=b"], push=True), default_registry(), NOTHING)
    assert (ours.is_ours, ours.output.attrs) == (True, {"name": "b", **pushed})
    [registry] = plan_outputs(Wishes(texts=["type=registry,name=b"], push=True), default_registry(), NOTHING)
    assert registry.output.type == "registry"


@pytest.mark.parametrize("texts", [["type=image,push=true"], ["type=registry"], []])
def test_a_push_needs_a_name(texts: list[str]) -> None:
    with pytest.raises(UsageError, match="tag is needed when pushing to registry"):
        wish(*texts, push=not texts)


def test_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///run/e.sock")
    wishes = Wishes(tags=["a"], load=True)
    [item] = plan_outputs(wishes, default_registry(), NOTHING)
    assert (item.output.type, item.output.attrs) == ("docker", {"name": "a"})
    assert isinstance(item.output.destination, EngineDestination)
    [same] = plan_outputs(Wishes(texts=["type=docker,name=b"], load=True), default_registry(), NOTHING)
    assert isinstance(same.output.destination, EngineDestination)
    assert exports(*plan_engine_outputs(wishes, default_registry())) == [Export("moby", {"name": "a"})]


@pytest.mark.parametrize(
    "wishes",
    [
        Wishes(tags=["a", "b"], push=True),
        Wishes(texts=["type=registry"], tags=["a", "b"]),
        Wishes(texts=['type=image,push=true,"name=a,b"']),
        Wishes(texts=["type=docker"], tags=["a", "b"], load=True, push=True),
    ],
)
def test_push_with_a_docker_engine(wishes: Wishes) -> None:
    [item] = plan_engine_outputs(wishes, default_registry())
    assert (exports(item), item.pushes) == ([Export("moby", {"name": "a,b"})], ("a", "b"))
    [item] = plan_engine_outputs(wishes, default_registry(), exporter_pushes=True)
    assert (exports(item), item.pushes) == ([Export("moby", {"name": "a,b", "push": "true"})], ())


def test_outputs_that_docker_engines_do_not_push() -> None:
    [item] = plan_engine_outputs(Wishes(texts=["type=image,name=a,push=false"]), default_registry())
    assert (item.output.attrs, item.pushes) == ({"name": "a"}, ())
    with pytest.raises(UsageError, match="push-by-digest"):
        plan_engine("type=image,name=a,push=true,push-by-digest=true")
    with pytest.raises(UsageError, match="tag is needed when pushing"):
        plan_engine("type=registry")


def test_shorthands(tmp_path: Path) -> None:
    assert wish(f"{tmp_path}/a=b") == [Export("local", {}, directory=tmp_path / "a=b")]
    assert wish("-") == [Export("tar", {}, file="-")]
    assert wish("type=cacheonly") == []
    with pytest.raises(UsageError, match="requires type=<type>"):
        wish("dest=x")


def test_annotations_apply_to_image_types_only(tmp_path: Path) -> None:
    marked = {"annotation-index.a": "b"}
    image, files = wish("type=image,name=x", str(tmp_path / "d"), annotations=marked)
    assert image == Export("image", {"name": "x", **marked})
    assert files == Export("local", {}, directory=tmp_path / "d")


def test_invalid_names_are_refused() -> None:
    with pytest.raises(UsageError, match=r"failed to parse name 'A': invalid reference format"):
        wish("type=image,name=A")
    assert wish("type=image,name=*") == [Export("image", {"name": "*"})]
