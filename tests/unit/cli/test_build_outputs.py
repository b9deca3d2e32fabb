from __future__ import annotations

from pathlib import Path

import pytest

from exporter.cli.build.outputs import BuildOutput, Deliveries, plan_engine_outputs, plan_outputs
from exporter.cli.failures import UsageError
from exporter.client import Export
from exporter.exporters.registry import default_registry

NOTHING: frozenset[str] = frozenset()


def plan(*texts: str, tags: tuple[str, ...] = (), taken: frozenset[str] = NOTHING) -> list[BuildOutput]:
    return plan_outputs(texts, tags, default_registry(), taken)


def exports(*items: BuildOutput) -> list[object]:
    deliveries = Deliveries(lambda _: None)
    return [deliveries.export_of(item, None) for item in items]


def test_who_makes_what(tmp_path: Path) -> None:
    daemon, prefixed, only_ours = plan(
        f"type=oci,dest={tmp_path}/a", f"type=plugin.oci,dest={tmp_path}/b", "type=moby"
    )
    assert (daemon.is_ours, prefixed.is_ours, only_ours.is_ours) == (False, True, True)
    assert prefixed.output.type == "oci"
    [taken] = plan("type=image,name=x", taken=frozenset({"image"}))
    assert taken.is_ours


def test_where_the_daemon_s_outputs_go(tmp_path: Path) -> None:
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


def test_tags_name_what_has_no_name(tmp_path: Path) -> None:
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


def test_only_what_is_here_can_be_taken() -> None:
    with pytest.raises(UsageError, match="there is no exporter here for nothing"):
        plan(taken=frozenset({"nothing"}))


def test_a_docker_engine_s_outputs(tmp_path: Path) -> None:
    registry = default_registry()
    assert exports(*plan_engine_outputs([], ["a", "b"], registry)) == [Export("moby", {"name": "a,b"})]
    for word in ("docker", "image", "moby"):
        assert exports(*plan_engine_outputs([f"type={word},name=x"], ["a"], registry)) == [
            Export("moby", {"name": "x"})
        ]
    [tar] = exports(*plan_engine_outputs([f"type=tar,dest={tmp_path}/t"], [], registry))
    assert tar == Export("tar", {}, file=f"{tmp_path}/t")
    with pytest.raises(UsageError, match="type=oci cannot be made with a Docker engine"):
        plan_engine_outputs(["type=oci,dest=x"], [], registry)
    with pytest.raises(UsageError, match="one output"):
        plan_engine_outputs(["type=moby", f"type=tar,dest={tmp_path}/t"], [], registry)
