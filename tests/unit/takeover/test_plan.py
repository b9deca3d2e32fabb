from __future__ import annotations

from typing import cast

import pytest

from exporter.errors import NotFoundError
from exporter.image import CompressionConfig, CompressionType
from exporter.pb.moby.buildkit.v1 import control_pb2
from exporter.takeover.backend import Backend
from exporter.takeover.history import ORIGIN_ATTRIBUTE, Origin
from exporter.takeover.plan import (
    Routes,
    daemon_order,
    last_image,
    plan_exports,
    substitute_exports,
    wants_inline_only_provenance,
)

LOCAL = cast(Backend, object())
REMOTE = cast(Backend, object())
ROUTES = Routes(LOCAL, frozenset({"image", "moby", "mine"}), {"tar": REMOTE, "far": REMOTE})


def solve(*types: str, **attrs: str) -> control_pb2.SolveRequest:
    return control_pb2.SolveRequest(
        Exporters=[control_pb2.Exporter(Type=kind, Attrs=attrs) for kind in types]
    )


@pytest.mark.parametrize(
    ("client_type", "expected"),
    [
        ("mine", ("mine", LOCAL)),
        ("moby", ("moby", LOCAL)),
        ("image", None),
        ("oci", None),
        ("unknown", None),
        ("plugin.image", ("image", LOCAL)),
        ("plugin.unknown", ("unknown", LOCAL)),
        ("plugin.far", ("far", REMOTE)),
        ("far", ("far", REMOTE)),
        ("tar", ("tar", REMOTE)),
    ],
)
def test_the_backend_of_a_type(client_type: str, expected: object) -> None:
    assert ROUTES.find(client_type) == expected


def test_types_that_are_taken() -> None:
    taking = Routes(LOCAL, frozenset({"image"}), {}, frozenset({"image"}))
    taking.check()
    assert taking.find("image") == ("image", LOCAL)
    with pytest.raises(NotFoundError, match="oci, tar"):
        Routes(LOCAL, frozenset({"image"}), {}, frozenset({"image", "tar", "oci"})).check()


def test_exports_keep_their_places() -> None:
    request = solve("oci", "mine", "local", "plugin.image")
    planned = plan_exports(request, ROUTES)
    assert [(plan.index, plan.type, plan.client_type) for plan in planned] == [
        (1, "mine", "mine"),
        (3, "image", "plugin.image"),
    ]


def test_ours_come_first_for_the_daemon() -> None:
    request = solve("image", "mine", "local", "plugin.image")
    planned = plan_exports(request, ROUTES)
    order = daemon_order(4, [plan.index for plan in planned])
    assert order == (1, 3, 0, 2)
    substitutes = {plan.index: plan.substitute(CompressionConfig(), request) for plan in planned}
    substitute_exports(request, order, substitutes)
    assert [exporter.Type for exporter in request.Exporters] == ["oci", "oci", "image", "local"]
    assert request.EnableSessionExporter


@pytest.mark.parametrize(
    ("exporters", "expected"),
    [
        ([("image", ""), ("oci", ""), ("local", ""), ("tar", "")], 1),
        ([("local", ""), ("mine", ""), ("tar", ""), ("mine", "")], None),
        ([("image", ""), ("mine", "")], 0),
        ([("oci", "false"), ("image", ""), ("mine", "")], 3),
        ([("oci", "nonsense"), ("docker", "true"), ("mine", "")], 1),
        ([("image", "false"), ("mine", "")], 0),
    ],
)
def test_the_response_describes_the_last_image(
    exporters: list[tuple[str, str]], expected: int | None
) -> None:
    request = solve(*(kind for kind, _ in exporters))
    for exporter, (_, tar) in zip(request.Exporters, exporters, strict=True):
        exporter.Attrs["tar"] = tar
    assert (
        last_image(request, [index for index, (kind, _) in enumerate(exporters) if kind == "mine"])
        == expected
    )


def test_the_old_field_is_understood_and_cleared() -> None:
    request = control_pb2.SolveRequest(ExporterDeprecated="mine", ExporterAttrsDeprecated={"a": "b"})
    [plan] = plan_exports(request, ROUTES)
    assert plan.attrs == {"a": "b"}
    substitute_exports(request, (0,), {0: plan.substitute(CompressionConfig(), request)})
    assert request.ExporterDeprecated == ""
    assert not request.ExporterAttrsDeprecated
    assert [exporter.Type for exporter in request.Exporters] == ["oci"]


@pytest.mark.parametrize(
    ("argument", "attrs", "expected"),
    [
        ("12", {}, {"source-date-epoch": "12"}),
        ("12", {"source-date-epoch": "7"}, {"source-date-epoch": "7"}),
        ("", {}, {"source-date-epoch": ""}),
        ("context", {}, {}),
    ],
)
def test_the_epoch_of_the_build(argument: str, attrs: dict[str, str], expected: dict[str, str]) -> None:
    request = solve("mine", **attrs)
    request.FrontendAttrs["build-arg:SOURCE_DATE_EPOCH"] = argument
    [plan] = plan_exports(request, ROUTES)
    assert plan.attrs == expected
    substitute = plan.substitute(CompressionConfig(), request)
    assert substitute.Attrs.get("source-date-epoch") == expected.get("source-date-epoch")


def test_the_substitute_uses_the_requested_compression() -> None:
    request = solve("mine", compression="ignored")
    [plan] = plan_exports(request, ROUTES)
    substitute = plan.substitute(CompressionConfig(CompressionType.ZSTD, True, 19), request)
    assert Origin.of(substitute) == Origin(0, "mine", {"compression": "ignored"})
    del substitute.Attrs[ORIGIN_ATTRIBUTE]
    assert dict(substitute.Attrs) == {
        "attestation-inline": "true",
        "compression": "zstd",
        "force-compression": "true",
        "compression-level": "19",
    }


def test_the_substitute_rewrites_the_times_in_the_layers_of_images() -> None:
    for wanted, expected in {"plugin.oci": "true", "plugin.image": "true", "mine": None}.items():
        request = solve(wanted, **{"rewrite-timestamp": "true"})
        [plan] = plan_exports(request, ROUTES)
        assert plan.substitute(CompressionConfig(), request).Attrs.get("rewrite-timestamp") == expected


INLINE_ARTIFACT = {"oci-artifact": "true", "attestation-inline": "true"}
TAKEN = Routes(LOCAL, frozenset(), {}, frozenset({"docker", "image", "local", "oci", "tar"}))


@pytest.mark.parametrize(
    ("kind", "attrs", "expected"),
    [
        ("image", {"oci-mediatypes": "false"}, {"attestation-inline": "true", "oci-mediatypes": "false"}),
        ("image", {"name": "a/b", "push": "true", "tar": "false"}, {"attestation-inline": "true"}),
        ("image", {"prefer-nondist-layers": "true"}, {"prefer-nondist-layers": "true"}),
        ("oci", {"annotation.a": "b"}, {"annotation.a": "b", "attestation-inline": "false"}),
        ("oci", INLINE_ARTIFACT, INLINE_ARTIFACT),
        ("docker", {}, {"oci-mediatypes": "false", "attestation-inline": "false"}),
        ("local", {"oci-mediatypes": "false"}, {"attestation-inline": "true"}),
    ],
)  # fmt: skip
def test_the_substitute_of_a_taken_image_makes_that_image(
    kind: str, attrs: dict[str, str], expected: dict[str, str]
) -> None:
    """The daemon's history has the substitute's image."""
    request = solve(kind, **attrs)
    [plan] = plan_exports(request, TAKEN)
    found = dict(plan.substitute(CompressionConfig(), request).Attrs)
    assert Origin.of(control_pb2.Exporter(Attrs=found)) == Origin(0, kind, attrs)
    for key in (ORIGIN_ATTRIBUTE, "compression", "force-compression"):
        del found[key]
    assert found == {"attestation-inline": "true", **expected}
    saved = dict(plan.substitute(CompressionConfig(), request, is_saved=True).Attrs)
    assert saved["attestation-inline"] == "true" and "oci-mediatypes" not in saved


@pytest.mark.parametrize(("kind", "expected"), [("tar", "zstd"), ("local", "zstd"), ("oci", "gzip")])
def test_without_an_image_layers_are_as_the_cache_export_wants_them(kind: str, expected: str) -> None:
    request = solve(kind)
    request.Cache.Exports.add(Type="inline")
    request.Cache.Exports.add(
        Type="local", Attrs={"dest": "x", "compression": "zstd", "compression-level": "3"}
    )
    [plan] = plan_exports(request, TAKEN)
    attrs = plan.substitute(CompressionConfig(), request).Attrs
    assert attrs["compression"] == expected
    assert attrs.get("compression-level") == ("3" if expected == "zstd" else None)


@pytest.mark.parametrize(
    ("value", "expected"),
    [("", False), ("mode=max", False), ("mode=min,inline-only=true", True), ("inline-only=false", False)],
)
def test_provenance_for_images_only(value: str, expected: bool) -> None:
    request = control_pb2.SolveRequest(FrontendAttrs={"attest:provenance": value})
    assert wants_inline_only_provenance(request) is expected
