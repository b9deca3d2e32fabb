"""Attributes against what an exporter declares."""

from __future__ import annotations

import pytest

from exporter.errors import InvalidArgumentError
from exporter.exporters.attribute_check import check_values, misspelt
from exporter.exporters.base import Attribute
from exporter.exporters.registry import Registry

ATTRIBUTES = (
    Attribute("format", "enum:json|yaml", "json", "How it is written."),
    Attribute("depth", "int", "", "How deep."),
    Attribute("quiet", "bool", "false", "Whether."),
    Attribute("tags", "list", "", "Which."),
    Attribute("title", "string", "", "What."),
    Attribute("label.*", "int", "", "More."),
)

# What buildctl and buildx send, whatever the type: buildx from build/opt.go and util/buildflags/export.go.
CLIENTS_SEND = {
    *("name", "push", "push-by-digest", "registry.insecure", "unpack", "store", "tar", "dest", "context"),
    *("oci-artifact", "oci-mediatypes", "buildinfo", "buildinfo-attrs", "prefer-image-digest", "load"),
    *("source-date-epoch", "rewrite-timestamp", "compression", "compression-level", "force-compression"),
    *(
        "annotation.a",
        "annotation-index.a",
        "annotation-manifest[linux/amd64].foo",
        "annotation-index-descriptor.b",
    ),
    *("attestation-inline", "attestation-prefix", "platform-split", "mode", "name-canonical"),
    *("dangling-name-prefix", "danging-name-empty-only", "prefer-nondist-layers", "proxy-dest"),
    *("unsafe-internal-store-allow-incomplete", "image.name", "containerimage.config", "refs.platforms"),
}


@pytest.mark.parametrize(
    "attrs",
    [
        {},
        {"format": "yaml", "depth": "-12", "quiet": "T", "tags": "a,,b", "title": "x=y", "other": "z"},
        {"format": "", "depth": "", "quiet": "", "label.x": "no number"},
    ],
)
def test_values_of_their_kinds(attrs: dict[str, str]) -> None:
    check_values(ATTRIBUTES, attrs)


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("format", "jsn", '"jsn" is not one of json, yaml'),
        ("format", "JSON", '"JSON" is not one of json, yaml'),
        ("depth", "1.5", '"1.5" is not a whole number'),
        ("depth", "١", '"١" is not a whole number'),
        ("quiet", "yes", '"yes" is neither true nor false'),
    ],
)
def test_values_of_other_kinds(name: str, value: str, problem: str) -> None:
    with pytest.raises(InvalidArgumentError) as raised:
        check_values(ATTRIBUTES, {name: value})
    assert raised.value.message == f"attribute {name}: {problem}"
    assert raised.value.field == f"attrs[{name}]"


@pytest.mark.parametrize(
    ("exporter_type", "given", "meant"),
    [
        ("oci", "compresion", "compression"),
        ("oci", "compression_level", "compression-level"),
        ("oci", "force-compresion", "force-compression"),
        ("oci", "names", "name"),
        ("oci", "oci-mediatype", "oci-mediatypes"),
        ("oci", "anotation.org.opencontainers.image.title", "annotation"),
        ("image", "dangling-name-empty-only", "danging-name-empty-only"),
        ("image", "pus", "push"),
        ("registry", "registry-insecure", "registry.insecure"),
        ("local", "platform-splitt", "platform-split"),
        ("local", "source-date-epoc", "source-date-epoch"),
    ],
)
def test_typos_in_attribute_names(exporter_type: str, given: str, meant: str) -> None:
    kind = Registry().get(exporter_type)
    assert [*misspelt(kind.attributes, [given, "name", "push"])] == [(given, meant)]


@pytest.mark.parametrize("exporter_type", Registry().types)
def test_attributes_from_clients_are_not_typos(exporter_type: str) -> None:
    assert [*misspelt(Registry().get(exporter_type).attributes, CLIENTS_SEND)] == []


def test_names_unlike_any_attribute_are_not_typos() -> None:
    assert [*misspelt(ATTRIBUTES, ["colour", "formation", "label.x", "format"])] == []
    assert [*misspelt((), ["anything"])] == []
