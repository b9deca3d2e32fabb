"""Checks whether the parts of an image are consistent. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from exporter.errors import InvalidArgumentError
from exporter.image import Descriptor, Platform, media_types
from exporter.image.keys import ATTESTATION_REFERENCE, PREDICATE_TYPE, REFERENCE_DIGEST, REFERENCE_TYPE
from exporter.layer.compression.detect import compression_of, is_layer_type
from exporter.verify.blobs import BlobFacts
from exporter.verify.report import Finding

_AGAIN = "export, pull or copy the image again"
_REWRITE = "recreate the document that references it"
_REBUILD = "export the image again: its config belongs to other layers"


def digest_findings(descriptor: Descriptor, facts: BlobFacts) -> list[Finding]:
    """Whether a blob exists and has the right digest."""
    if facts.is_missing:
        return [Finding("it is missing", _AGAIN)]
    if facts.digest != descriptor.digest:
        return [Finding(f"its digest is actually {facts.digest}: it was changed or damaged", _AGAIN)]
    return []


def size_findings(descriptor: Descriptor, facts: BlobFacts) -> list[Finding]:
    """Whether a blob has the size in its descriptor."""
    if facts.size == descriptor.size:
        return []
    advice = _REWRITE if facts.digest == descriptor.digest else _AGAIN
    return [Finding(f"it has {facts.size} bytes, but its descriptor says {descriptor.size}", advice)]


def embedded_findings(descriptor: Descriptor, facts: BlobFacts) -> list[Finding]:
    """Whether the data embedded in a descriptor is the blob that it describes."""
    if (facts.digest, facts.size) == (descriptor.digest, descriptor.size):
        return []
    text = f"its descriptor embeds {facts.size} bytes with the digest {facts.digest}"
    return [Finding(text, _REWRITE, "data")]


def unknown_type_findings(descriptor: Descriptor, own: str) -> list[Finding]:
    """Whether a blob with an unknown media type declares a different type itself.

    Args:
        descriptor: The blob's descriptor.
        own: The ``mediaType`` in the blob; empty if it has none.
    """
    if own and own != descriptor.media_type:
        return [_other_type(descriptor, own)]
    text = f"{descriptor.media_type} is not a media type of images: its content is not checked"
    return [Finding(text, is_problem=False)]


def document_type_findings(descriptor: Descriptor, document: Mapping[str, Any]) -> list[Finding]:
    """Whether a manifest or index matches the media type in its descriptor."""
    own = document.get("mediaType")
    if isinstance(own, str) and own != descriptor.media_type:
        return [_other_type(descriptor, own)]
    is_index = "manifests" in document and "layers" not in document
    if is_index and descriptor.media_type in media_types.MANIFEST_TYPES:
        return [Finding(f"it is an index, but its descriptor says {descriptor.media_type}", _REWRITE)]
    if (
        "layers" in document
        and "manifests" not in document
        and descriptor.media_type in media_types.INDEX_TYPES
    ):
        return [Finding(f"it is a manifest, but its descriptor says {descriptor.media_type}", _REWRITE)]
    if own is None and descriptor.media_type in {
        media_types.DOCKER_MANIFEST,
        media_types.DOCKER_MANIFEST_LIST,
    }:
        return [Finding("it has no mediaType, which Docker's types require", _REWRITE)]
    return []


def _other_type(descriptor: Descriptor, own: str) -> Finding:
    return Finding(f"its mediaType is {own}, but its descriptor says {descriptor.media_type}", _REWRITE)


def config_type_findings(manifest: Descriptor, config: Descriptor) -> list[Finding]:
    """Whether config and manifest have media types of the same family."""
    families = {
        media_types.OCI_MANIFEST: media_types.DOCKER_CONFIG,
        media_types.DOCKER_MANIFEST: media_types.OCI_CONFIG,
    }
    if families.get(manifest.media_type) == config.media_type:
        return [
            Finding(
                f"{config.media_type} in a manifest of type {manifest.media_type}",
                "some tools reject a mixture of Docker and OCI media types",
                is_problem=False,
            )
        ]
    return []


def layer_type_findings(layer: Descriptor, facts: BlobFacts) -> list[Finding]:
    """Whether a layer has the compression of its media type."""
    if not is_layer_type(layer.media_type):
        return [
            Finding(
                f"{layer.media_type} is not a media type of layers",
                f"no tool can unpack this image; {_REWRITE}",
            )
        ]
    try:
        expected = compression_of(layer.media_type)
    except InvalidArgumentError:
        return [Finding(f"layers of type {layer.media_type} cannot be checked", is_problem=False)]
    actual = facts.compression
    if actual is None:
        return [
            Finding(f"its type is {layer.media_type}, but its bytes are neither gzip, zstd nor tar", _AGAIN)
        ]
    if actual is not expected:
        return [Finding(f"its type is {layer.media_type}, but its bytes are {actual}", _REWRITE)]
    return []


def diff_id_findings(expected: str, facts: BlobFacts) -> list[Finding]:
    """Whether a layer can be unpacked and has the diff ID in the config.

    Args:
        expected: The diff ID in the config; empty if it has none for this layer.
        facts: What was found out about the blob.
    """
    if facts.damage:
        return [Finding(facts.damage, _AGAIN)]
    if not expected:
        return [Finding("the config has no diff ID for it", _REBUILD)]
    if facts.diff_id != expected:
        return [Finding(f"its diff ID is {facts.diff_id}, but the config says {expected}", _REBUILD)]
    return []


def layers_findings(diff_ids: Sequence[str], layers: int) -> list[Finding]:
    """Whether there are as many layers as diff IDs."""
    if len(diff_ids) == layers:
        return []
    return [Finding(f"{len(diff_ids)} diff IDs for {layers} layers", _REBUILD, "rootfs.diff_ids")]


def history_findings(config: Mapping[str, Any], layers: int) -> list[Finding]:
    """Whether the history, if there is one, accounts for every layer."""
    history = config.get("history") or []
    filled = sum(not entry.get("empty_layer", False) for entry in history)
    if not history or filled == layers:
        return []
    return [
        Finding(
            f"{filled} entries with a layer for {layers} layers",
            "the history belongs to other layers: export the image again",
            "history",
        )
    ]


def platform_findings(platform: Platform | None, config: Mapping[str, Any]) -> list[Finding]:
    """Whether an image is for the platform that the index lists it for."""
    if platform is None:
        return []
    actual, expected = Platform.from_dict(config).normalized(), platform.normalized()
    same = actual.os == expected.os and actual.architecture == expected.architecture
    # If only one of them has a variant or version, that is not a contradiction.
    for mine, other in ((actual.variant, expected.variant), (actual.os_version, expected.os_version)):
        same = same and (mine == other or not mine or not other)
    if same:
        return []
    return [
        Finding(
            f"the index lists it for {expected.format_all()}, but it is for {actual.format_all()}",
            "the specification allows it, but tools select images by the index",
            is_problem=False,
        )
    ]


def duplicate_findings(images: Sequence[Descriptor]) -> list[Finding]:
    """Whether an index has several images for one platform, of which only one would ever be used."""
    seen: set[Platform] = set()
    findings = []
    for image in images:
        if image.platform is None:
            continue
        platform = image.platform.normalized()
        if platform in seen:
            findings.append(
                Finding(
                    f"several images for {platform.format_all()}", "the first one is used", is_problem=False
                )
            )
        seen.add(platform)
    return findings


def is_attestation(descriptor: Descriptor) -> bool:
    """Whether a manifest of an index holds attestations."""
    return descriptor.annotations.get(REFERENCE_TYPE) == ATTESTATION_REFERENCE


def reference_findings(descriptor: Descriptor, siblings: Collection[str]) -> list[Finding]:
    """Whether attestations refer to an image in the same index.

    Args:
        descriptor: The descriptor of their manifest.
        siblings: The digests of all manifests in the index.
    """
    where, subject = f"annotations[{REFERENCE_DIGEST}]", descriptor.annotations.get(REFERENCE_DIGEST)
    if subject is None:
        return [Finding("it does not say which image it refers to", _REWRITE, where)]
    if subject not in siblings or subject == descriptor.digest:
        return [Finding(f"it refers to {subject}, which is not an image in this index", _REWRITE, where)]
    return []


def subject_findings(
    descriptor: Descriptor, subject: Descriptor | None, image: Descriptor | None
) -> list[Finding]:
    """Whether the subject of attestations is the image that they refer to in the index.

    Args:
        descriptor: The descriptor of the attestations' manifest.
        subject: The subject in the manifest; the older form has none.
        image: The image's descriptor in the index.
    """
    if subject is None or image is None:
        return []
    expected = descriptor.annotations.get(REFERENCE_DIGEST)
    if subject.digest != expected:
        return [
            Finding(
                f"its subject is {subject.digest}, but the index says {expected}", _REWRITE, "subject.digest"
            )
        ]
    if (subject.size, subject.media_type) != (image.size, image.media_type):
        actual = f"{subject.media_type} of {subject.size} bytes"
        expected = f"{image.media_type} of {image.size} bytes"
        return [Finding(f"its subject is {actual}, but the index says {expected}", _REWRITE, "subject")]
    return []


def statement_findings(layer: Descriptor, statement: Mapping[str, Any]) -> list[Finding]:
    """Whether an in-toto statement has the predicate type in its descriptor."""
    expected, actual = layer.annotations.get(PREDICATE_TYPE), statement.get("predicateType")
    if expected is None or expected == actual:
        return []
    return [Finding(f"it is {actual}, but the descriptor says {expected}", _REWRITE, "predicateType")]
