"""The images of several platforms."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace

from exporter.content.memory import MemoryStore
from exporter.content.overlay import MultiProvider
from exporter.content.protocol import Provider
from exporter.image import Descriptor, digest_bytes, index_bytes
from exporter.image.keys import IMAGE_BASE_CONFIG, IMAGE_CONFIG, PLATFORMS, platform_key
from exporter.image.media_types import DOCKER_MANIFEST, DOCKER_MANIFEST_LIST, OCI_INDEX
from exporter.images.image import Image, platforms_json
from exporter.source.types import Source


@dataclass(frozen=True, slots=True, eq=False)
class ImageIndex:
    """Images by platform ID. Changes return a new index.

    Attributes:
        images: The images, in the order of the index.
        annotations: The annotations of the index.
    """

    images: Mapping[str, Image]
    annotations: Mapping[str, str]

    @property
    def media_type(self) -> str:
        """The media type."""
        is_docker = any(image.media_type == DOCKER_MANIFEST for image in self.images.values())
        return DOCKER_MANIFEST_LIST if is_docker else OCI_INDEX

    @property
    def manifest(self) -> bytes:
        """The bytes of the index. It lists only images; exporters add attestations when they write it."""
        descriptors = [image.descriptor for image in self.images.values()]
        return index_bytes(descriptors, media_type=self.media_type, annotations=self.annotations)

    @property
    def digest(self) -> str:
        """The digest of the index."""
        return digest_bytes(self.manifest)

    @property
    def descriptor(self) -> Descriptor:
        """The descriptor of the index."""
        manifest = self.manifest
        return Descriptor(self.media_type, digest_bytes(manifest), len(manifest))

    @property
    def provider(self) -> Provider:
        """A provider of all blobs of the index."""
        provider = MultiProvider(MemoryStore(self.manifest))
        for image in self.images.values():
            own = image.provider
            for digest in (image.digest, image.config_digest, *(layer.digest for layer in image.layers)):
                provider.add(digest, own)
        return provider

    async def map(self, change: Callable[[Image], Image | Awaitable[Image]]) -> ImageIndex:
        """Change each image, in order."""
        return replace(self, images={key: await image.map(change) for key, image in self.images.items()})

    def source(self) -> Source:
        """The index as a build result; see `Image.source`."""
        metadata: dict[str, bytes] = {}
        attestations = {}
        for key, image in self.images.items():
            metadata = {**image.origin.source.metadata, **metadata}
            found = image.origin.attestations(same_files=image.same_files)
            if found:
                attestations[key] = found
        for key, image in self.images.items():
            metadata[platform_key(IMAGE_CONFIG, key)] = image.config
            if not image.base_layers:
                metadata[platform_key(IMAGE_BASE_CONFIG, key)] = b""
        metadata[PLATFORMS] = platforms_json(self.images)
        refs = {key: image.ref() for key, image in self.images.items()}
        return Source(None, refs, metadata, attestations)
