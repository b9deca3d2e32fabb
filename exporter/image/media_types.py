"""Media types of images, and the conversion of layer media types.

There are two equivalent families: OCI's, and Docker's schema 2. All of an image uses one of them, layers
included. Layers that must not be distributed (Windows base layers) have separate types.
"""

from __future__ import annotations

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_EMPTY = "application/vnd.oci.empty.v1+json"

OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
OCI_LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
OCI_LAYER_ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"
OCI_LAYER_NONDISTRIBUTABLE = "application/vnd.oci.image.layer.nondistributable.v1.tar"
OCI_LAYER_NONDISTRIBUTABLE_GZIP = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
OCI_LAYER_NONDISTRIBUTABLE_ZSTD = "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd"

DOCKER_MANIFEST_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"

DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
DOCKER_LAYER_GZIP = "application/vnd.docker.image.rootfs.diff.tar.gzip"
DOCKER_LAYER_ZSTD = "application/vnd.docker.image.rootfs.diff.tar.zstd"
DOCKER_LAYER_FOREIGN = "application/vnd.docker.image.rootfs.foreign.diff.tar"
DOCKER_LAYER_FOREIGN_GZIP = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"

IN_TOTO = "application/vnd.in-toto+json"
ATTESTATION_MANIFEST = "application/vnd.docker.attestation.manifest.v1+json"

INDEX_TYPES = frozenset({OCI_INDEX, DOCKER_MANIFEST_LIST})
MANIFEST_TYPES = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
CONFIG_TYPES = frozenset({OCI_CONFIG, DOCKER_CONFIG})

# BuildKit's tables have two gaps: OCI's nondistributable zstd type has no Docker equivalent, and Docker's
# foreign zstd type (``….foreign.diff.tar.zstd``) is missing.
_OCI_TO_DOCKER = {
    OCI_LAYER: DOCKER_LAYER,
    OCI_LAYER_GZIP: DOCKER_LAYER_GZIP,
    OCI_LAYER_ZSTD: DOCKER_LAYER_ZSTD,
    OCI_LAYER_NONDISTRIBUTABLE: DOCKER_LAYER_FOREIGN,
    OCI_LAYER_NONDISTRIBUTABLE_GZIP: DOCKER_LAYER_FOREIGN_GZIP,
}
_DOCKER_TO_OCI = {docker: oci for oci, docker in _OCI_TO_DOCKER.items()}

_TO_NONDISTRIBUTABLE = {
    OCI_LAYER: OCI_LAYER_NONDISTRIBUTABLE,
    OCI_LAYER_GZIP: OCI_LAYER_NONDISTRIBUTABLE_GZIP,
    OCI_LAYER_ZSTD: OCI_LAYER_NONDISTRIBUTABLE_ZSTD,
    DOCKER_LAYER: DOCKER_LAYER_FOREIGN,
    DOCKER_LAYER_GZIP: DOCKER_LAYER_FOREIGN_GZIP,
}
_TO_DISTRIBUTABLE = {nondistributable: layer for layer, nondistributable in _TO_NONDISTRIBUTABLE.items()}

LAYER_TYPES = frozenset({*_OCI_TO_DOCKER, *_DOCKER_TO_OCI, OCI_LAYER_NONDISTRIBUTABLE_ZSTD})


def convert_layer_type(media_type: str, *, oci: bool) -> str:
    """The layer's media type in OCI's family or in Docker's. An unknown type is returned unchanged."""
    return (_DOCKER_TO_OCI if oci else _OCI_TO_DOCKER).get(media_type, media_type)


def distributability(media_type: str, *, has_urls: bool, prefer_nondistributable: bool) -> str:
    """The media type of a layer before it is converted to a family: distributable, or not.

    A layer that has URLs becomes nondistributable and keeps its URLs if the user asks for that
    (``prefer-nondist-layers``). Otherwise it loses its URLs and becomes distributable.

    Args:
        media_type: The media type as the daemon stored it.
        has_urls: Whether the layer came with URLs.
        prefer_nondistributable: Whether ``prefer-nondist-layers`` is set.
    """
    if has_urls and prefer_nondistributable:
        return _TO_NONDISTRIBUTABLE.get(media_type, media_type)
    return _TO_DISTRIBUTABLE.get(media_type, media_type)
