"""An image's history: reading it, and fitting it to the layers that a build really made."""

from __future__ import annotations

from dataclasses import dataclass

from exporter.image.timestamp import Time


@dataclass(frozen=True, slots=True)
class LayerMetadata:
    """What the daemon knows about a layer: an item of a layer chain.

    Attributes:
        description: What made it, such as ``RUN make``; becomes ``created_by`` in the history.
        created_at: When it was made.
    """

    description: str = ""
    created_at: Time | None = None
