"""What images are made of, by digest."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path

Read = Callable[[str], bytes]
"""Reads a blob by its digest."""


@dataclass(frozen=True)
class Image:
    """The digests of the documents and layers of an image, in the order in which they are mentioned.

    Attributes:
        index: None, or one.
        manifest: One for each platform.
        config: One for each platform.
        attestation: Attestation manifests, their configs, and the statements.
        layers: Of all platforms.
        diff_ids: Of all platforms.
    """

    index: list[str] = field(default_factory=list)
    manifest: list[str] = field(default_factory=list)
    config: list[str] = field(default_factory=list)
    attestation: list[str] = field(default_factory=list)
    layers: list[str] = field(default_factory=list)
    diff_ids: list[str] = field(default_factory=list)

    def names_of(self, other: Image) -> dict[str, str]:
        """The digests of `other` that correspond to ours; empty if its structure differs."""
        pairs = [(getattr(self, part.name), getattr(other, part.name)) for part in fields(self)]
        if any(len(ours) != len(theirs) for ours, theirs in pairs):
            return {}
        return {own: its for ours, theirs in pairs for own, its in zip(ours, theirs, strict=True)}


def read_image(root: str, read: Read) -> Image:
    """Find out what an image or an index is made of."""
    image = Image()
    document = json.loads(read(root))
    if "manifests" not in document:
        _add_manifest(image, root, read)
        return image
    image.index.append(root)
    for descriptor in document["manifests"]:
        is_attestation = "vnd.docker.reference.type" in descriptor.get("annotations", {})
        (_add_attestation if is_attestation else _add_manifest)(image, descriptor["digest"], read)
    return image


def _add_manifest(image: Image, digest: str, read: Read) -> None:
    manifest = json.loads(read(digest))
    image.manifest.append(digest)
    image.config.append(manifest["config"]["digest"])
    image.layers.extend(layer["digest"] for layer in manifest["layers"] or ())
    config = json.loads(read(manifest["config"]["digest"]))
    image.diff_ids.extend(config["rootfs"]["diff_ids"] or ())


def _add_attestation(image: Image, digest: str, read: Read) -> None:
    manifest = json.loads(read(digest))
    layers = [layer["digest"] for layer in manifest["layers"]]
    image.attestation.extend([digest, manifest["config"]["digest"], *layers])


def blobs_of(place: Path) -> Read:
    """Reads blobs from an OCI layout: a directory, or an archive."""

    def read(digest: str) -> bytes:
        path = f"blobs/{digest.replace(':', '/')}"
        if place.is_dir():
            return (place / path).read_bytes()
        with tarfile.open(place) as archive:
            content = archive.extractfile(path)
            assert content is not None
            return content.read()

    return read
