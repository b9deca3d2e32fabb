"""The helper functions against the answers of BuildKit's and moby's own (tests/data/vectors/extra)."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from exporter.errors import ImageError
from exporter.image.annotations import AnnotationGroups, AnnotationKey, Annotations
from exporter.image.epoch import epoch_source
from exporter.image.names import sanitize_repo_and_tags
from exporter.image.options.commit import CommitOptions
from exporter.image.options.exporters import ImageExporterOptions, MobyExporterOptions
from exporter.image.platforms.platform import Platform
from exporter.image.platforms.result import parse_platforms
from exporter.image.reference import Reference

DATA = Path(__file__).parents[1] / "data" / "vectors" / "extra"
HOST = Platform(os="linux", architecture="amd64")
"""Where the vectors were recorded."""

Vector = dict[str, Any]
Answer = dict[str, Any]


@pytest.fixture(autouse=True)
def _recording_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exporter.image.platforms.platform.host_platform", lambda: HOST)


def annotation_key(vector: Vector) -> Answer:
    try:
        key = AnnotationKey.parse(vector["key"])
    except ImageError as error:
        return {"is_annotation": True, "error": str(error)}
    if key is None:
        return {"is_annotation": False}
    return {
        "is_annotation": True,
        "type": key.type,
        "platform": key.group,
        "key": key.key,
        "string": str(key),
    }


def annotation_groups(vector: Vector) -> Answer:
    groups, rest = AnnotationGroups.from_attributes(vector["attrs"])
    answer = {
        "groups": _groups(groups),
        "rest": rest,
        "platform_nil": _annotations(groups.platform(None)),
    }
    if vector["for_platform"] is not None:
        answer["platform"] = _annotations(groups.platform(Platform.from_dict(vector["for_platform"])))
    return answer


def _groups(groups: AnnotationGroups) -> Answer:
    return {name: _annotations(group) for name, group in groups.groups.items()}


def _annotations(group: Annotations) -> Answer:
    return {
        "index": group.index,
        "index_descriptor": group.index_descriptor,
        "manifest": group.manifest,
        "manifest_descriptor": group.manifest_descriptor,
    }


def bool_attr(vector: Vector) -> Answer:
    attribute = vector["attr"]
    options = ImageExporterOptions.resolve({attribute: vector["value"]})
    fields = {
        "push": options.push,
        "push-by-digest": options.push_by_digest,
        "registry.insecure": options.insecure,
        "unpack": options.unpack,
        "store": options.store,
        "unsafe-internal-store-allow-incomplete": options.store_allow_incomplete,
        "danging-name-empty-only": options.dangling_empty_only,
        "name-canonical": options.name_canonical,
        "oci-mediatypes": options.commit.oci_types,
        "oci-artifact": options.commit.oci_artifact,
        "attestation-inline": options.commit.force_inline_attestations,
        "prefer-nondist-layers": options.commit.prefer_nondist_layers,
        "rewrite-timestamp": options.commit.rewrite_timestamp,
        "force-compression": options.commit.compression.force,
    }
    return {"value": fields[attribute]}


def containerd_platforms(vector: Vector) -> Answer:
    if "specifier" in vector:
        platform = Platform.parse(vector["specifier"])
    else:
        platform = Platform.from_dict(vector["platform"])
    normalized = platform.normalized()
    return {
        "platform": platform.to_dict(),
        "format": platform.format(),
        "format_all": platform.format_all(),
        "normalized": normalized.to_dict(),
        "format_all_normalized": normalized.format_all(),
    }


def epoch_of_source(vector: Vector) -> Answer:
    return {"epoch": epoch_source(_metadata(vector), vector["platform_id"])}


def image_resolve(vector: Vector) -> Answer:
    options = ImageExporterOptions.resolve(vector["attrs"])
    return {
        "opts": _commit_options(options.commit),
        "push": options.push,
        "push_by_digest": options.push_by_digest,
        "insecure": options.insecure,
        "unpack": options.unpack,
        "store": options.store,
        "store_allow_incomplete": options.store_allow_incomplete,
        "dangling_prefix": options.dangling_prefix,
        "dangling_empty_only": options.dangling_empty_only,
        "name_canonical": options.name_canonical,
        "meta": _text(options.meta),
    }


def load_opts(vector: Vector) -> Answer:
    options, rest = CommitOptions.load(
        vector["attrs"], force_inline_attestations=vector["force_inline_attestations"]
    )
    return {"opts": _commit_options(options), "rest": rest}


def _commit_options(options: CommitOptions) -> Answer:
    compression = options.compression
    return {
        "image_name": options.image_name,
        "compression": {
            "type": compression.type,
            "force": compression.force,
            "level": compression.level,
        },
        "prefer_nondist_layers": options.prefer_nondist_layers,
        "oci_types": options.oci_types,
        "oci_artifact": options.oci_artifact,
        "annotations": _groups(options.annotations),
        "epoch": None if options.epoch is None else {"value": options.epoch.value},
        "force_inline_attestations": options.force_inline_attestations,
        "rewrite_timestamp": options.rewrite_timestamp,
    }


def moby_resolve(vector: Vector) -> Answer:
    options = MobyExporterOptions.resolve(vector["attrs"])
    return {
        "target_names": [str(name) for name in options.target_names],
        "image_name": options.image_name,
        "meta": _text(options.meta),
    }


def platforms_of_result(vector: Vector) -> Answer:
    platforms = parse_platforms(_metadata(vector), host=HOST)
    return {"platforms": [{"ID": entry.id, "Platform": entry.platform.to_dict()} for entry in platforms]}


def reference(vector: Vector) -> Answer:
    parsed = Reference.parse(vector["name"])
    tagged = parsed.tag_name_only()
    return {
        "string": str(parsed),
        "name": parsed.name,
        "domain": parsed.domain,
        "path": parsed.path,
        "tag": parsed.tag,
        "digest": parsed.digest,
        "is_name_only": parsed.is_name_only,
        "familiar_name": parsed.familiar_name,
        "familiar_string": parsed.familiar_string,
        "tag_name_only": str(tagged),
        "familiar_string_tagged": tagged.familiar_string,
    }


def repo_and_tags(vector: Vector) -> Answer:
    names = [str(name) for name in sanitize_repo_and_tags(vector["names"])]
    return {"repo_and_tags": names or None}


def _metadata(vector: Vector) -> dict[str, bytes]:
    return {key: base64.b64decode(value) for key, value in vector["metadata_b64"].items()}


def _text(meta: Mapping[str, bytes]) -> dict[str, str]:
    return {key: value.decode() for key, value in meta.items()}


KINDS: dict[str, Callable[[Vector], Answer]] = {
    "annotation_key": annotation_key,
    "annotations": annotation_groups,
    "bool_attr": bool_attr,
    "containerd_platforms": containerd_platforms,
    "epoch_source": epoch_of_source,
    "image_resolve": image_resolve,
    "load_opts": load_opts,
    "moby_resolve": moby_resolve,
    "parse_platforms": platforms_of_result,
    "reference": reference,
    "sanitize_repo_and_tags": repo_and_tags,
}


def _vectors() -> Iterator[object]:
    for kind in KINDS:
        with gzip.open(DATA / f"{kind}.jsonl.gz", "rt", encoding="utf-8") as lines:
            for line in lines:
                vector = json.loads(line)
                yield pytest.param(kind, vector, id=vector["id"])


@pytest.mark.parametrize(("kind", "vector"), list(_vectors()))
def test_same_answer(kind: str, vector: Vector) -> None:
    try:
        answer = KINDS[kind](vector)
    except ImageError as error:
        answer = {"error": str(error)}
    assert answer == vector["want"]
