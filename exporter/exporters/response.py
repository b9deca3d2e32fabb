"""The response of an image exporter."""

from __future__ import annotations

import base64

from exporter.image import Descriptor
from exporter.image.keys import IMAGE_CONFIG_DIGEST, IMAGE_DESCRIPTOR, IMAGE_DIGEST

__all__ = ["image_response"]


def image_response(root: Descriptor, config_digest: str) -> dict[str, str]:
    """BuildKit's response keys for an image.

    Args:
        root: The descriptor of its manifest or index.
        config_digest: The digest of its config; ``""`` if the root is an index.
    """
    response = {IMAGE_DIGEST: root.digest, IMAGE_DESCRIPTOR: base64.b64encode(root.marshal()).decode()}
    if config_digest:
        response[IMAGE_CONFIG_DIGEST] = config_digest
    return response
