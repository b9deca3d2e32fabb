"""What users are told about the attributes of the built-in exporters."""

from __future__ import annotations

from exporter.exporters.base import Attribute
from exporter.image.options import attributes as keys

__all__ = [
    "ARCHIVE_ATTRIBUTES",
    "IMAGE_ATTRIBUTES",
    "LOCAL_ATTRIBUTES",
    "MOBY_ATTRIBUTES",
    "TAR_ATTRIBUTES",
]

_NAME_HELP = "Names of the image, separated by commas; * takes those that the frontend gave."


def _common(*, attestation_inline: str) -> tuple[Attribute, ...]:
    """What all exporters of images understand."""
    return (
        Attribute(keys.NAME, "list", "", _NAME_HELP),
        Attribute(
            keys.OCI_MEDIATYPES,
            "bool",
            "true",
            "OCI media types in place of Docker's; false by default for builds of a compatibility version "
            "below 30 that have no attestations (never so with type oci).",
        ),
        Attribute(
            keys.OCI_ARTIFACT,
            "bool",
            "true",
            "Attestation manifests in the form of OCI artifacts; false by default without OCI media types.",
        ),
        Attribute(
            keys.ATTESTATION_INLINE,
            "bool",
            attestation_inline,
            "Attach attestations that were asked for as inline-only, too.",
        ),
        Attribute(
            keys.PREFER_NONDIST_LAYERS,
            "bool",
            "false",
            "Leave layers non-distributable that have URLs of their own, such as Windows base layers.",
        ),
        Attribute(
            keys.COMPRESSION,
            "enum:uncompressed|gzip|estargz|zstd",
            "gzip",
            "Compression of layers that are not compressed yet; of all layers with force-compression.",
        ),
        Attribute(
            keys.COMPRESSION_LEVEL, "int", "", "Level of the compression, within the compressor's range."
        ),
        Attribute(
            keys.FORCE_COMPRESSION, "bool", "false", "Convert layers that have another compression already."
        ),
        Attribute(
            keys.SOURCE_DATE_EPOCH,
            "int",
            "",
            "Seconds since 1970 that timestamps of the image are clamped to; empty to ignore the build's.",
        ),
        Attribute(
            keys.REWRITE_TIMESTAMP,
            "bool",
            "false",
            "Clamp the timestamps of files in layers to the epoch, too.",
        ),
        Attribute(
            "annotation*",
            "string",
            "",
            "annotation[-TYPE][[PLATFORM]].KEY=VALUE annotates the manifest, or what TYPE says: manifest, "
            "manifest-descriptor, index, index-descriptor.",
        ),
    )


ARCHIVE_ATTRIBUTES = (
    *_common(attestation_inline="false"),
    Attribute(keys.TAR, "bool", "true", "One archive file; false for an OCI layout directory."),
)
"""Of the types ``oci`` and ``docker``."""

IMAGE_ATTRIBUTES = (
    *_common(attestation_inline="true"),
    Attribute(keys.PUSH, "bool", "false", "Push the image to the registries in its names."),
    Attribute(keys.PUSH_BY_DIGEST, "bool", "false", "Push without tags."),
    Attribute(keys.REGISTRY_INSECURE, "bool", "false", "Allow plain HTTP and unverified TLS."),
    Attribute(keys.STORE, "bool", "true", "Keep the image in the image store."),
    Attribute(
        keys.STORE_ALLOW_INCOMPLETE, "bool", "false", "Keep it there even without its layers; for tests only."
    ),
    Attribute(keys.UNPACK, "bool", "false", "Unpack the image, where the store has a snapshotter."),
    Attribute(keys.DANGLING_NAME_PREFIX, "string", "", "Also name the image <value>@<digest>."),
    Attribute(
        keys.DANGLING_NAME_EMPTY_ONLY,
        "bool",
        "false",
        "Do that only if the image has no other name (the key is misspelt in BuildKit, too).",
    ),
    Attribute(keys.NAME_CANONICAL, "bool", "false", "Also name the image <name>@<digest> for each name."),
)
"""Of the types ``image`` and ``registry``."""

MOBY_ATTRIBUTES = (Attribute(keys.NAME, "list", "", "Names of the image, separated by commas."),)
"""Of the type ``moby``."""


def _files(platform_split: str, mode: str) -> tuple[Attribute, ...]:
    """What the exporters of files understand."""
    return (
        Attribute(
            keys.SOURCE_DATE_EPOCH,
            "int",
            "",
            "Seconds since 1970 that all files get as modification time; empty to ignore the build's.",
        ),
        Attribute(
            keys.ATTESTATION_PREFIX,
            "string",
            "",
            "Put before the names of the files that attestations are written to, such as provenance.json.",
        ),
        Attribute(keys.PLATFORM_SPLIT, "bool", "", platform_split),
        Attribute(keys.MODE, "enum:copy|delete", "copy", mode),
    )


LOCAL_ATTRIBUTES = _files(
    "A directory for each platform, such as linux_amd64; by default for results that are keyed by platform. "
    "If false, platforms must not have files of the same path.",
    "What happens to other files in the directory: copy leaves them, delete removes them when all files have "
    "come.",
)
"""Of the type ``local``."""

TAR_ATTRIBUTES = _files(
    "If false, names of attestation files tell the platform (provenance.linux_amd64.json). Platforms have "
    "directories of their own in any case.",
    "Checked, but without effect: for local only.",
)
"""Of the type ``tar``."""
