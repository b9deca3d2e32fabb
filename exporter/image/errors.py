"""Errors of the pure image core."""

from __future__ import annotations


class ImageError(ValueError):
    """An image cannot be computed from the given input.

    Wherever the Go exporters answer with an error, this is raised, and its text begins with the prefix
    that they use (``failed to unmarshal history from config: ``, …), so that a user who searches for the
    message finds the same place.
    """


class LayerChainError(ImageError):
    """The layer chain does not fit the image's layers.

    Raised where the Go code panics (slice or index out of range): a layer chain that is shorter than the
    list of layers. The text is the one of the Go runtime.
    """
