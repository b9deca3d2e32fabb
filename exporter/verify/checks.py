"""What the parts of an image say about each other. Pure."""

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
_ANEW = "write the document that names it anew"
_REBUILD = "export the image again: its config belongs to other layers"


def digest_findings(descriptor: Descriptor, facts: BlobFacts) -> list[Finding]:
    """Whether a blob is there, and has the digest that it should have."""
    if facts.is_missing:
        return [Finding("it is missing", _AGAIN)]
    if facts.digest != descriptor.digest:
        return [Finding(f"its bytes have the digest {facts.digest}: it was changed or damaged", _AGAIN)]
    return []


def size_findings(descriptor: Descriptor, facts: BlobFacts) -> list[Finding]:
    """Whether a blob has the size that its descriptor says."""
    if facts.size == descriptor.size:
        return []
    advice = _ANEW if facts.digest == descriptor.digest else _AGAIN
    return [Finding(f"it has {facts.size} bytes, and {descriptor.size} in its descriptor", advice)]


def embedded_findings(descriptor: Descriptor, facts: BlobFacts) -> list[Finding]:
    """Whether what a descriptor embeds is the blob that it describes."""
    if (facts.digest, facts.size) == (descriptor.digest, descriptor.size):
        return []
    text = f"its descriptor embeds {facts.size} bytes of the digest {facts.digest}"
    return [Finding(text, _ANEW, "data")]


def unknown_type_findings(descriptor: Descriptor, own: str) -> list[Finding]:
    """Whether what has an unknown type says of itself that it is something else.

    Args:
        descriptor: Of the blob.
        own: The type in it; empty if it tells none.
    """
    if own and own != descriptor.media_type:
        return [_other_type(descriptor, own)]
    text = f"{descriptor.media_type} is no type of an image: it is not looked into"
    return [Finding(text, is_problem=False)]


def document_type_findings(descriptor: Descriptor, document: Mapping[str, Any]) -> list[Finding]:
    """Whether a manifest or index is what its descriptor says."""
    own = document.get("mediaType")
    if isinstance(own, str) and own != descriptor.media_type:
        return [_other_type(descriptor, own)]
    is_index = "manifests" in document and "layers" not in document
    if is_index and descriptor.media_type in media_types.MANIFEST_TYPES:
        return [Finding(f"it is an index, and its descriptor says {descriptor.media_type}", _ANEW)]
    if (
        "layers" in document
        and "manifests" not in document
        and descriptor.media_type in media_types.INDEX_TYPES
    ):
        return [Finding(f"it is a manifest, and its descriptor says {descriptor.media_type}", _ANEW)]
    if own is None and descriptor.media_type in {
        media_types.DOCKER_MANIFEST,
        media_types.DOCKER_MANIFEST_LIST,
    }:
        return [Finding("it lacks mediaType, which Docker's types must have", _ANEW)]
    return []


def _other_type(descriptor: Descriptor, own: str) -> Finding:
    return Finding(f"it says of itself that it is {own}, and its descriptor {descriptor.media_type}", _ANEW)


def config_type_findings(manifest: Descriptor, config: Descriptor) -> list[Finding]:
    """Whether the config is of the family of its manifest."""
    families = {
        media_types.OCI_MANIFEST: media_types.DOCKER_CONFIG,
        media_types.DOCKER_MANIFEST: media_types.OCI_CONFIG,
    }
    if families.get(manifest.media_type) == config.media_type:
        return [
            Finding(
                f"{config.media_type} in a manifest of type {manifest.media_type}",
                "some tools refuse a mixture of Docker's types and OCI's",
                is_problem=False,
            )
        ]
    return []


def layer_type_findings(layer: Descriptor, facts: BlobFacts) -> list[Finding]:
    """Whether a layer is compressed as its media type says."""
    if not is_layer_type(layer.media_type):
        return [
            Finding(f"{layer.media_type} is no type of a layer", "nothing can unpack this image; " + _ANEW)
        ]
    try:
        expected = compression_of(layer.media_type)
    except InvalidArgumentError:
        return [Finding(f"{layer.media_type} is a type that cannot be looked into here", is_problem=False)]
    actual = facts.compression
    if actual is None:
        return [Finding(f"it is {layer.media_type}, and its bytes are neither gzip, zstd nor tar", _AGAIN)]
    if actual is not expected:
        return [Finding(f"it is {layer.media_type}, and its bytes are {actual}", _ANEW)]
    return []


def diff_id_findings(expected: str, facts: BlobFacts) -> list[Finding]:
    """Whether a layer can be unpacked, and is the one that the config means.

    Args:
        expected: The config's diff ID; empty if it has none for this layer.
        facts: Of the layer.
    """
    if facts.damage:
        return [Finding(facts.damage, _AGAIN)]
    if not expected:
        return [Finding("the config has no diff ID for it", _REBUILD)]
    if facts.diff_id != expected:
        return [
            Finding(f"unpacked it has the digest {facts.diff_id}, and {expected} in the config", _REBUILD)
        ]
    return []


def layers_findings(diff_ids: Sequence[str], layers: int) -> list[Finding]:
    """Whether there are as many layers as diff IDs."""
    if len(diff_ids) == layers:
        return []
    return [Finding(f"{len(diff_ids)} diff IDs for {layers} layers", _REBUILD, "rootfs.diff_ids")]


def history_findings(config: Mapping[str, Any], layers: int) -> list[Finding]:
    """Whether the history accounts for each layer. There need not be one."""
    history = config.get("history") or []
    filled = sum(not entry.get("empty_layer", False) for entry in history)
    if not history or filled == layers:
        return []
    return [
        Finding(
            f"{filled} entries with a layer for {layers} layers",
            "the history tells of other layers: export the image again",
            "history",
        )
    ]


def platform_findings(platform: Platform | None, config: Mapping[str, Any]) -> list[Finding]:
    """Whether an image is for the platform that the index has it for."""
    if platform is None:
        return []
    actual, expected = Platform.from_dict(config).normalized(), platform.normalized()
    same = actual.os == expected.os and actual.architecture == expected.architecture
    # A variant or version that only one of them tells is not a contradiction.
    for mine, other in ((actual.variant, expected.variant), (actual.os_version, expected.os_version)):
        same = same and (mine == other or not mine or not other)
    if same:
        return []
    return [
        Finding(
            f"the index has it for {expected.format_all()}, and it is for {actual.format_all()}",
            "the specification lets it be, but machines choose by the index",
            is_problem=False,
        )
    ]


def duplicate_findings(images: Sequence[Descriptor]) -> list[Finding]:
    """Whether an index has several images for one platform: only one of them will ever be used."""
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
    """Whether attestations are about an image of the same index.

    Args:
        descriptor: Of their manifest.
        siblings: Digests of all manifests in the index.
    """
    where, subject = f"annotations[{REFERENCE_DIGEST}]", descriptor.annotations.get(REFERENCE_DIGEST)
    if subject is None:
        return [Finding("it does not say which image it is about", _ANEW, where)]
    if subject not in siblings or subject == descriptor.digest:
        return [Finding(f"it is about {subject}, which is no image of this index", _ANEW, where)]
    return []


def subject_findings(
    descriptor: Descriptor, subject: Descriptor | None, image: Descriptor | None
) -> list[Finding]:
    """Whether the subject of attestations is the image that the index has them for.

    Args:
        descriptor: Of the attestations' manifest.
        subject: As in the manifest; the older form has none.
        image: The index's descriptor of the image.
    """
    if subject is None or image is None:
        return []
    expected = descriptor.annotations.get(REFERENCE_DIGEST)
    if subject.digest != expected:
        return [
            Finding(f"its subject is {subject.digest}, and {expected} in the index", _ANEW, "subject.digest")
        ]
    if (subject.size, subject.media_type) != (image.size, image.media_type):
        actual = f"{subject.media_type} of {subject.size} bytes"
        expected = f"{image.media_type} of {image.size} bytes"
        return [Finding(f"its subject is {actual}, and {expected} in the index", _ANEW, "subject")]
    return []


def statement_findings(layer: Descriptor, statement: Mapping[str, Any]) -> list[Finding]:
    """Whether an in-toto statement is of the type that its descriptor says."""
    expected, actual = layer.annotations.get(PREDICATE_TYPE), statement.get("predicateType")
    if expected is None or expected == actual:
        return []
    return [Finding(f"it is {actual}, and {expected} in its descriptor", _ANEW, "predicateType")]
