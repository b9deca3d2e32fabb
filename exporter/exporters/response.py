"""The response of an image exporter: writing our own, and reading that of a daemon or a server."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping

from exporter.content.manifest import decode_descriptor
from exporter.errors import FailedPreconditionError, ImageError
from exporter.image import Descriptor
from exporter.image.keys import IMAGE_CONFIG_DIGEST, IMAGE_DESCRIPTOR, IMAGE_DIGEST, IMAGE_NAME

__all__ = ["image_names", "image_response", "image_root"]


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


def image_names(response: Mapping[str, str]) -> tuple[str, ...]:
    """The names of the image in a response."""
    return tuple(name for name in response.get(IMAGE_NAME, "").split(",") if name)


def image_root(response: Mapping[str, str]) -> Descriptor:
    """The descriptor of the image in a response.

    Raises:
        FailedPreconditionError: the response does not have it.
    """
    try:
        return decode_descriptor(base64.b64decode(response.get(IMAGE_DESCRIPTOR, ""), validate=True))
    except (binascii.Error, ImageError) as error:
        raise FailedPreconditionError(
            f"an image was sent, but its {IMAGE_DESCRIPTOR} in the response cannot be read: {error}"
        ) from error
