"""Verifying images: their manifests, configs and layers, and whether these are consistent."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from exporter.content.copy import reading
from exporter.content.protocol import BlobInfo, Provider
from exporter.image import Descriptor, Platform, PlatformMatcher
from exporter.image.keys import CONTAINERD_NAME, REF_NAME, REFERENCE_DIGEST
from exporter.image.media_types import CONFIG_TYPES, IN_TOTO, INDEX_TYPES, MANIFEST_TYPES
from exporter.verify import checks
from exporter.verify.blob_results import blob_results, layer_results, unpacked_results
from exporter.verify.blobs import BlobFacts
from exporter.verify.checklist import Blob, Checklist
from exporter.verify.reader import DocumentReader, descriptor_in, descriptors_in
from exporter.verify.report import Finding, Subject

_MAX_DEPTH = 8  # of nested indexes

_Key = tuple[str, int, str, Platform | None]

IsWanted = Callable[[Sequence[str], str], bool]
"""Tells whether to verify an image with these names and this digest."""


@dataclass(frozen=True, slots=True)
class _Place:
    """The place of something in an image.

    Attributes:
        image: See `Subject.image`.
        path: See `Subject.path`.
        siblings: All entries of the same index, by digest.
        depth: The number of indexes around it.
    """

    image: str
    path: str = ""
    siblings: Mapping[str, Descriptor] | None = None
    depth: int = 0

    def subject(self, kind: str, digest: str) -> Subject:
        return Subject(kind, self.image, self.path, digest)

    def child(self, name: str, siblings: Mapping[str, Descriptor] | None = None) -> _Place:
        path = f"{self.path}.{name}".removeprefix(".")
        return _Place(self.image, path, siblings, self.depth + (siblings is not None))


class ImageVerifier:
    """Verifies images of a provider.

    Args:
        provider: Has the blobs.
        checklist: Receives the results.
        platform: In indexes, skip images that do not match this; None to skip none.
    """

    def __init__(
        self, provider: Provider, checklist: Checklist, *, platform: PlatformMatcher | None = None
    ) -> None:
        self._provider = provider
        self._checks = checklist
        self._reader = DocumentReader(provider, checklist)
        self._platform = platform
        self._verified: set[_Key] = set()
        self._seen: set[str] = set()

    async def layout(
        self,
        layout: bytes | None,
        index: bytes | None,
        blobs: Collection[BlobInfo],
        is_wanted: IsWanted | None = None,
    ) -> None:
        """Verify an OCI layout.

        Args:
            layout: The content of ``oci-layout``; None if it is missing.
            index: The content of ``index.json``; None if it is missing.
            blobs: All blobs of the layout.
            is_wanted: Selects the images to verify; None for all images, and for blobs that belong to none.
        """
        self._file("oci-layout", layout, "layout")
        document = self._file("index.json", index, "index")
        for root, names, label in _roots(document):
            if is_wanted is None or is_wanted(names, root.digest):
                await self.image(root, label)
        if is_wanted is None:
            for blob in sorted(blobs, key=lambda blob: blob.digest):
                if blob.digest not in self._seen:
                    subject = Subject("blob", "(of no image)", digest=blob.digest)
                    self._blob(subject, Descriptor("", blob.digest, blob.size))

    async def image(self, root: Descriptor, label: str) -> None:
        """Verify an image or index with everything that it references.

        Args:
            root: The descriptor.
            label: Its name in the report.
        """
        await self._any(root, _Place(label))

    async def stored_image(self, config: Descriptor, layers: Sequence[Descriptor], label: str) -> None:
        """Verify an image that has no manifest, but descriptors of its parts.

        Args:
            config: The config's descriptor.
            layers: The layers' descriptors, base first.
            label: The image's name in the report.
        """
        place = _Place(label)
        subject = place.child("config").subject("config", config.digest)
        document, is_valid = await self._reader.read(subject, config, "config")
        diff_ids = self._config(subject, document, len(layers)) if is_valid else None
        for position, layer in enumerate(layers):
            inner = place.child(f"layers[{position}]").subject("layer", layer.digest)
            self._layer(inner, layer, _at(diff_ids, position))

    def config_and_layers(
        self, config_subject: Subject, config: bytes, layers: Sequence[tuple[Subject, Blob]]
    ) -> None:
        """Verify an image that has no manifest.

        Args:
            config_subject: The config.
            config: Its bytes.
            layers: The layers, base first.
        """
        document, is_valid = self._reader.parse(config_subject, config, "config")
        diff_ids = self._config(config_subject, document, len(layers)) if is_valid else None
        for position, (subject, blob) in enumerate(layers):
            self._checks.later(blob, partial(unpacked_results, subject, _at(diff_ids, position)))

    def _file(self, name: str, data: bytes | None, schema: str) -> dict[str, Any]:
        subject = Subject("layout", "(the layout)", name)
        if data is None:
            missing = Finding("it is missing", "the OCI layout is incomplete: copy it again")
            self._checks.add(subject, "schema", [missing])
            return {}
        document, _ = self._reader.parse(subject, data, schema)
        return document

    async def _any(self, descriptor: Descriptor, place: _Place) -> None:
        self._seen.add(descriptor.digest)
        if _key(descriptor) in self._verified:
            return
        self._verified.add(_key(descriptor))
        if descriptor.media_type in INDEX_TYPES:
            await self._index(descriptor, place)
        elif descriptor.media_type in MANIFEST_TYPES:
            await self._manifest(descriptor, place)
        else:
            subject = place.subject("blob", descriptor.digest)
            own = await self._reader.own_media_type(descriptor)
            self._checks.add(subject, "media type", checks.unknown_type_findings(descriptor, own))
            self._blob(subject, descriptor)

    async def _index(self, descriptor: Descriptor, place: _Place) -> None:
        subject = place.subject("index", descriptor.digest)
        document, _ = await self._reader.read(subject, descriptor, "index")
        if not document:
            return
        if place.depth >= _MAX_DEPTH:
            self._checks.add(subject, "depth", [Finding(f"more than {_MAX_DEPTH} nested indexes")])
            return
        children = list(descriptors_in(document, "manifests"))
        siblings = {child.digest: child for _, child in children}
        images = [child for _, child in children if not checks.is_attestation(child)]
        self._checks.add(subject, "platforms", checks.duplicate_findings(images))
        for position, child in children:
            inner = place.child(f"manifests[{position}]", siblings)
            if self._is_left_out(child, siblings):
                self._checks.add(
                    inner.subject("manifest", child.digest), "all", skipped="for another platform"
                )
            else:
                await self._any(child, inner)

    def _is_left_out(self, child: Descriptor, siblings: Mapping[str, Descriptor]) -> bool:
        if self._platform is None:
            return False
        about = child
        if checks.is_attestation(child):
            about = siblings.get(child.annotations.get(REFERENCE_DIGEST, ""), child)
        return (
            about.platform is not None
            and not checks.is_attestation(about)
            and not self._platform.match(about.platform)
        )

    async def _manifest(self, descriptor: Descriptor, place: _Place) -> None:
        is_attestation = checks.is_attestation(descriptor)
        siblings = place.siblings or {}
        subject = place.subject("attestation" if is_attestation else "manifest", descriptor.digest)
        if is_attestation:
            self._checks.add(subject, "reference", checks.reference_findings(descriptor, siblings))
        document, _ = await self._reader.read(subject, descriptor, "manifest")
        if not document:
            return
        if is_attestation:
            about = siblings.get(descriptor.annotations.get(REFERENCE_DIGEST, ""))
            of = descriptor_in(document.get("subject"))
            self._checks.add(subject, "subject", checks.subject_findings(descriptor, of, about))
        config = descriptor_in(document.get("config"))
        is_image = config is not None and config.media_type in CONFIG_TYPES
        diff_ids = None
        if config is not None:
            layers = document.get("layers")
            count = len(layers) if isinstance(layers, list) else 0
            diff_ids = await self._manifest_config(descriptor, config, place.child("config"), count)
        for position, layer in descriptors_in(document, "layers"):
            self._seen.add(layer.digest)
            inner = place.child(f"layers[{position}]")
            if layer.media_type == IN_TOTO:
                await self._statement(layer, inner, _at(diff_ids, position))
            elif is_image:
                self._layer(inner.subject("layer", layer.digest), layer, _at(diff_ids, position))
            else:
                self._blob(inner.subject("blob", layer.digest), layer)

    async def _manifest_config(
        self, manifest: Descriptor, config: Descriptor, place: _Place, layers: int
    ) -> Sequence[str] | None:
        """Verify a manifest's config; return the diff IDs, or None if they are unknown."""
        self._seen.add(config.digest)
        if config.media_type not in CONFIG_TYPES:
            self._blob(place.subject("blob", config.digest), config)
            return None
        subject = place.subject("config", config.digest)
        document, is_valid = await self._reader.read(subject, config, "config")
        self._checks.add(subject, "media type", checks.config_type_findings(manifest, config))
        if not is_valid:
            return None
        if manifest.platform is not None:
            self._checks.add(subject, "platform", checks.platform_findings(manifest.platform, document))
        return self._config(subject, document, layers)

    def _config(self, subject: Subject, document: Mapping[str, Any], layers: int) -> Sequence[str]:
        """Check a config that is valid by its schema; return the diff IDs."""
        diff_ids: Sequence[str] = document["rootfs"]["diff_ids"]
        self._checks.add(subject, "layers", checks.layers_findings(diff_ids, layers))
        self._checks.add(subject, "history", checks.history_findings(document, layers))
        return diff_ids

    async def _statement(self, layer: Descriptor, place: _Place, diff_id: str | None) -> None:
        subject = place.subject("statement", layer.digest)
        document, is_valid = await self._reader.read(subject, layer, "statement")
        if is_valid:
            self._checks.add(subject, "predicate type", checks.statement_findings(layer, document))
        if diff_id:  # in the older form, the config lists statements like layers
            facts = BlobFacts(diff_id=layer.digest)
            self._checks.add(subject, "diff ID", checks.diff_id_findings(diff_id, facts))

    def _layer(self, subject: Subject, layer: Descriptor, diff_id: str | None) -> None:
        layer = self._reader.check_embedded(subject, layer)
        self._checks.later(self.blob(layer), partial(layer_results, subject, layer, diff_id))

    def _blob(self, subject: Subject, descriptor: Descriptor) -> None:
        descriptor = self._reader.check_embedded(subject, descriptor)
        self._checks.later(self.blob(descriptor), partial(blob_results, subject, descriptor))

    def blob(self, descriptor: Descriptor) -> Blob:
        """A blob of the provider, or one that is embedded in its descriptor."""
        digest = descriptor.digest
        return Blob(digest, digest, descriptor.size, partial(_open, self._provider, descriptor))


async def _open(provider: Provider, descriptor: Descriptor) -> AsyncIterator[bytes]:
    async with reading(provider, descriptor) as source:
        async for data in source:
            yield data


def _at(diff_ids: Sequence[str] | None, position: int) -> str | None:
    """A layer's diff ID; empty if the config has none for it, None if the config cannot be read."""
    if diff_ids is None:
        return None
    return diff_ids[position] if position < len(diff_ids) else ""


def _key(descriptor: Descriptor) -> _Key:
    return descriptor.digest, descriptor.size, descriptor.media_type, descriptor.platform


def _roots(index: Mapping[str, Any]) -> Iterator[tuple[Descriptor, Sequence[str], str]]:
    """The images of an ``index.json``, each with its names and its label."""
    roots: dict[_Key, tuple[Descriptor, list[str], str]] = {}
    for position, entry in descriptors_in(index, "manifests"):
        place = f"index.json manifests[{position}]"
        _, names, _ = roots.setdefault(_key(entry), (entry, [], place))
        name = entry.annotations.get(CONTAINERD_NAME) or entry.annotations.get(REF_NAME)
        names.extend([name] if name else [])
    for root, names, place in roots.values():
        yield root, names, ", ".join(names) or place
