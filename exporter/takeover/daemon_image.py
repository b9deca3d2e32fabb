"""The image that a daemon has created from a build result, read from its content store."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgspec

from exporter.content.copy import read_blob
from exporter.content.manifest import children
from exporter.content.protocol import Provider
from exporter.errors import FailedPreconditionError
from exporter.image import Descriptor, ImageError, Time, parse_history
from exporter.image.keys import DIFF_ID, INLINE_CACHE, REFERENCE_DIGEST
from exporter.image.media_types import INDEX_TYPES
from exporter.source.types import Attestation, AttestationKind, Subject, SubjectKind

PROVENANCE_TYPE = "https://slsa.dev/provenance/"
"""The prefix of the types of provenance predicates."""

_SPDX_TYPE = "https://spdx.dev/Document"
_STAGE_SCAN = re.compile(r"sbom-[A-Za-z0-9_.-]+")


@dataclass(frozen=True, slots=True)
class PlatformImage:
    """The image of one platform.

    Attributes:
        manifest: Its descriptor.
        config: The config's bytes.
        layers: The layers' descriptors, base first, each with its diff ID in the annotation `DIFF_ID`.
        created: The creation time of each layer in the history; None if it has none.
        inline_cache: Cache data in the config; None if there is none.
        attestations: Its attestations.
    """

    manifest: Descriptor
    config: bytes
    layers: tuple[Descriptor, ...]
    created: tuple[Time | None, ...]
    inline_cache: bytes | None
    attestations: tuple[Attestation, ...] = ()


@dataclass(frozen=True, slots=True)
class DaemonImage:
    """An image of one or several platforms.

    Attributes:
        is_index: Whether its root is an index.
        platforms: The platforms, in the order of the index, which is that of the build result.
    """

    is_index: bool
    platforms: tuple[PlatformImage, ...]


async def read_image(provider: Provider, root: Descriptor) -> DaemonImage:
    """Read an image, without the contents of its layers.

    Args:
        provider: The daemon's content.
        root: The manifest or index.

    Raises:
        NotFoundError: a blob is missing.
        InvalidArgumentError, FailedPreconditionError: it is not an image in BuildKit's form.
    """
    if root.media_type not in INDEX_TYPES:
        return DaemonImage(False, (await _read_platform(provider, root),))
    manifests = children(root, await read_blob(provider, root))
    images = [m for m in manifests if REFERENCE_DIGEST not in m.annotations]
    about = {m.annotations[REFERENCE_DIGEST]: m for m in manifests if REFERENCE_DIGEST in m.annotations}
    platforms = []
    for manifest in images:
        platform = await _read_platform(provider, manifest)
        if manifest.digest in about:
            attestations = await _read_attestations(provider, about[manifest.digest], manifest)
            platform = replace(platform, attestations=attestations)
        platforms.append(platform)
    return DaemonImage(True, tuple(platforms))


class _RootFS(msgspec.Struct):
    diff_ids: list[str] | None = None


class _Config(msgspec.Struct):
    """The parts of a config about layers. BuildKit spells the keys exactly like this."""

    rootfs: _RootFS
    inline_cache: str | None = msgspec.field(default=None, name=INLINE_CACHE)


async def _read_platform(provider: Provider, manifest: Descriptor) -> PlatformImage:
    config_descriptor, *layers = children(manifest, await read_blob(provider, manifest))
    config = await read_blob(provider, config_descriptor)
    what = f"image config {config_descriptor.digest}"
    try:
        document = msgspec.json.decode(config, type=_Config)
        history = parse_history(config) or ()
        cache = document.inline_cache
        inline_cache = None if cache is None else base64.b64decode(cache, validate=True)
    except (msgspec.DecodeError, UnicodeDecodeError, ImageError, binascii.Error) as error:
        raise FailedPreconditionError(f"{what}: {error}") from error
    diff_ids = document.rootfs.diff_ids or []
    if len(diff_ids) != len(layers):
        raise FailedPreconditionError(
            f"{what} has {len(diff_ids)} diff IDs, but the manifest has {len(layers)} layers"
        )
    return PlatformImage(
        manifest=manifest,
        config=config,
        layers=tuple(
            replace(layer, annotations={**layer.annotations, DIFF_ID: diff_id})
            for layer, diff_id in zip(layers, diff_ids, strict=True)
        ),
        created=tuple(entry.created for entry in history if not entry.empty_layer),
        inline_cache=inline_cache,
    )


class _Subject(msgspec.Struct):
    digest: dict[str, str]
    name: str = ""


class _Document(msgspec.Struct):
    """The part of an SPDX document with its name."""

    name: str


class _Statement(msgspec.Struct):
    predicate: msgspec.Raw
    predicate_type: str = msgspec.field(name="predicateType")
    subject: list[_Subject] | None = None


async def _read_attestations(
    provider: Provider, about: Descriptor, image: Descriptor
) -> tuple[Attestation, ...]:
    _, *layers = children(about, await read_blob(provider, about))
    attestations: list[Attestation] = []
    for layer in layers:
        try:
            statement = msgspec.json.decode(await read_blob(provider, layer), type=_Statement)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise FailedPreconditionError(f"attestation {layer.digest}: {error}") from error
        path = _path(statement)
        if path in {attestation.path for attestation in attestations}:
            path = f"attestation-{len(attestations)}.json"
        attestations.append(
            Attestation(
                kind=AttestationKind.IN_TOTO,
                path=path,
                predicate_type=statement.predicate_type,
                subjects=_foreign_subjects(statement.subject or (), image),
                content=bytes(statement.predicate),
            )
        )
    return tuple(attestations)


def _path(statement: _Statement) -> str:
    """The most likely name of an attestation's file, since the original name is not in the image.

    In BuildKit's protocol for SBOM scanners, a file is named after its scan: ``sbom`` for the result,
    ``sbom-NAME`` for a stage. Most scanners use that name for the document, too.
    """
    if statement.predicate_type.startswith(PROVENANCE_TYPE):
        return "provenance.json"
    if statement.predicate_type != _SPDX_TYPE:
        return "attestation.json"
    try:
        name = msgspec.json.decode(statement.predicate, type=_Document).name
    except (msgspec.DecodeError, UnicodeDecodeError):
        name = ""
    return f"{name if _STAGE_SCAN.fullmatch(name) else 'sbom'}.spdx.json"


def _foreign_subjects(subjects: Sequence[_Subject], image: Descriptor) -> tuple[Subject, ...]:
    """The subjects, unless they are just the image: those depend on its names in each export."""
    found = []
    for subject in subjects:
        digests = tuple(f"{algorithm}:{value}" for algorithm, value in subject.digest.items())
        if image.digest in digests:
            found.append(Subject(SubjectKind.SELF))
        else:
            found.append(Subject(SubjectKind.RAW, subject.name, digests))
    if all(subject.kind is SubjectKind.SELF for subject in found):
        return ()
    return tuple(dict.fromkeys(found))
