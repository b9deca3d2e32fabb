"""Help texts for the attributes of the built-in exporters."""

from __future__ import annotations

from exporter.exporters.base import Attribute
from exporter.exporters.sanitize import SANITIZE_ATTRIBUTES
from exporter.image.options import attributes as keys

__all__ = [
    "ARCHIVE_ATTRIBUTES",
    "BEFORE_PUBLISH",
    "COMMON_ATTRIBUTES",
    "IMAGE_ATTRIBUTES",
    "LOCAL_ATTRIBUTES",
    "MOBY_ATTRIBUTES",
    "TAR_ATTRIBUTES",
]

BEFORE_PUBLISH = "before-publish"
"""The attribute with the name of a hook."""

COMMON_ATTRIBUTES = (
    Attribute(
        BEFORE_PUBLISH,
        "string",
        "",
        "A hook of the operator (--hook NAME=COMMAND), which has to succeed before anything is published.",
    ),
)
"""The attributes of all types, which the exporters themselves do not see to."""

_NAME_HELP = "Names of the image, separated by commas; * uses those that the frontend set."


def _common(*, attestation_inline: str) -> tuple[Attribute, ...]:
    """The attributes that all image exporters have."""
    return (
        Attribute(keys.NAME, "list", "", _NAME_HELP),
        Attribute(
            keys.OCI_MEDIATYPES,
            "bool",
            "true",
            "Use OCI media types instead of Docker's. For builds with a compatibility version below 30 and "
            "without attestations, the default is false (except for type oci).",
        ),
        Attribute(
            keys.OCI_ARTIFACT,
            "bool",
            "true",
            "Write attestation manifests as OCI artifacts. Without OCI media types, the default is false.",
        ),
        Attribute(
            keys.ATTESTATION_INLINE,
            "bool",
            attestation_inline,
            "Also attach inline-only attestations.",
        ),
        Attribute(
            keys.PREFER_NONDIST_LAYERS,
            "bool",
            "false",
            "Keep layers that have URLs, such as Windows base layers, non-distributable.",
        ),
        Attribute(
            keys.COMPRESSION,
            "enum:uncompressed|gzip|estargz|zstd",
            "gzip",
            "Compression of new layers; with force-compression, of all layers.",
        ),
        Attribute(keys.COMPRESSION_LEVEL, "int", "", "Compression level, within the compressor's range."),
        Attribute(
            keys.FORCE_COMPRESSION,
            "bool",
            "false",
            "Also convert existing layers with a different compression.",
        ),
        Attribute(
            keys.SOURCE_DATE_EPOCH,
            "int",
            "",
            "Clamp the image's timestamps to this time, in seconds since 1970; empty ignores the build's.",
        ),
        Attribute(
            keys.REWRITE_TIMESTAMP,
            "bool",
            "false",
            "Also clamp the timestamps of files in layers to the epoch.",
        ),
        Attribute(
            "annotation*",
            "string",
            "",
            "annotation[-TYPE][[PLATFORM]].KEY=VALUE adds an annotation. TYPE is manifest (the default), "
            "manifest-descriptor, index or index-descriptor.",
        ),
        *SANITIZE_ATTRIBUTES,
    )


ARCHIVE_ATTRIBUTES = (
    *_common(attestation_inline="false"),
    Attribute(keys.TAR, "bool", "true", "Write one archive file; false writes an OCI layout directory."),
)
"""The attributes of the types ``oci`` and ``docker``."""

IMAGE_ATTRIBUTES = (
    *_common(attestation_inline="true"),
    Attribute(keys.PUSH, "bool", "false", "Push the image to the registries in its names."),
    Attribute(keys.PUSH_BY_DIGEST, "bool", "false", "Push without tags."),
    Attribute(keys.REGISTRY_INSECURE, "bool", "false", "Allow plain HTTP and unverified TLS."),
    Attribute(keys.STORE, "bool", "true", "Keep the image in the image store."),
    Attribute(
        keys.STORE_ALLOW_INCOMPLETE, "bool", "false", "Store it even if layers are missing; for tests only."
    ),
    Attribute(keys.UNPACK, "bool", "false", "Unpack the image, if the store has a snapshotter."),
    Attribute(keys.DANGLING_NAME_PREFIX, "string", "", "Also name the image <value>@<digest>."),
    Attribute(
        keys.DANGLING_NAME_EMPTY_ONLY,
        "bool",
        "false",
        "Do that only if the image has no other name (the typo in the key is BuildKit's).",
    ),
    Attribute(keys.NAME_CANONICAL, "bool", "false", "Also name the image <name>@<digest> for each name."),
)
"""The attributes of the types ``image`` and ``registry``."""

MOBY_ATTRIBUTES = (Attribute(keys.NAME, "list", "", "Names of the image, separated by commas."),)
"""The attributes of the type ``moby``."""


def _files(platform_split: str, mode: str) -> tuple[Attribute, ...]:
    """The attributes of the file exporters."""
    return (
        Attribute(
            keys.SOURCE_DATE_EPOCH,
            "int",
            "",
            "Modification time of all files, in seconds since 1970; empty ignores the build's.",
        ),
        Attribute(
            keys.ATTESTATION_PREFIX,
            "string",
            "",
            "Prefix for the names of attestation files, such as provenance.json.",
        ),
        Attribute(keys.PLATFORM_SPLIT, "bool", "", platform_split),
        Attribute(keys.MODE, "enum:copy|delete", "copy", mode),
    )


LOCAL_ATTRIBUTES = _files(
    "Write each platform to its own directory, such as linux_amd64; the default for results that are keyed "
    "by platform. If false, platforms must not have files with the same path.",
    "What happens to other files in the directory: copy keeps them, delete removes them after the transfer.",
)
"""The attributes of the type ``local``."""

TAR_ATTRIBUTES = _files(
    "If false, the names of attestation files include the platform (provenance.linux_amd64.json). Each "
    "platform has its own directory in any case.",
    "Validated, but without effect; for type local only.",
)
"""The attributes of the type ``tar``."""
