"""Records of a daemon's history, as the clients of the builds should see them."""

from __future__ import annotations

from exporter.image import CompressionConfig
from exporter.pb.moby.buildkit.v1 import control_pb2
from exporter.takeover.history import ORIGIN_ATTRIBUTE, Origin, restore_record
from exporter.takeover.plan import Routes, daemon_order, plan_exports, substitute_exports
from tests.unit.takeover.test_plan import LOCAL, solve


def record_of(request: control_pb2.SolveRequest, *images: int) -> control_pb2.BuildHistoryRecord:
    """What a daemon records of a build, with images by the daemon's exporters that have these indices."""
    record = control_pb2.BuildHistoryRecord(Ref="r", Exporters=request.Exporters)
    for index in images:
        record.Result.Results[index].digest = f"sha256:{index}"
    if images:
        record.Result.ResultDeprecated.digest = f"sha256:{images[0]}"
    return record


def test_a_record_is_what_the_client_asked_for() -> None:
    request = solve("image", "mine", "local", "plugin.image", "tar", name="a/b")
    asked = [control_pb2.Exporter(Type=e.Type, Attrs=dict(e.Attrs)) for e in request.Exporters]
    routes = Routes(LOCAL, frozenset({"mine"}), {}, frozenset({"tar"}))
    planned = plan_exports(request, routes)
    order = daemon_order(5, [plan.index for plan in planned])
    substitutes = {p.index: p.substitute(CompressionConfig(), request) for p in planned}
    substitute_exports(request, order, substitutes)
    assert [e.Type for e in request.Exporters] == ["oci", "oci", "oci", "image", "local"]
    record = record_of(request, 0, 1, 2, 3)
    restore_record(record)
    assert list(record.Exporters) == asked
    assert {index: result.digest for index, result in record.Result.Results.items()} == {0: "sha256:3"}
    assert record.Result.ResultDeprecated.digest == "sha256:3"


def test_exporters_of_the_client_s_session_follow() -> None:
    origin = Origin(1, "tar", {})
    record = control_pb2.BuildHistoryRecord()
    record.Exporters.add(Type="oci", Attrs=origin.attributes())
    record.Exporters.add(Type="image")
    record.Exporters.add(Type="oci", Attrs={"of": "the session"})
    restore_record(record)
    assert [exporter.Type for exporter in record.Exporters] == ["image", "tar", "oci"]


def test_without_an_image_there_is_no_result() -> None:
    record = control_pb2.BuildHistoryRecord()
    record.Exporters.add(Type="oci", Attrs=Origin(0, "local", {}).attributes())
    record.Result.Results[0].digest = "sha256:0"
    record.Result.ResultDeprecated.digest = "sha256:0"
    restore_record(record)
    assert not record.Result.Results
    assert not record.Result.HasField("ResultDeprecated")


def test_records_of_other_builds_stay_as_they_are() -> None:
    record = record_of(solve("image", "local", **{ORIGIN_ATTRIBUTE: "nonsense"}), 0)
    before = record.SerializeToString(deterministic=True)
    restore_record(record)
    assert record.SerializeToString(deterministic=True) == before
