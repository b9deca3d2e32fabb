"""The small blobs of an image: index, manifests and configs, for whoever keeps a record of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from exporter.content.copy import read_blob
from exporter.content.manifest import children, gc_labels, is_parent
from exporter.content.protocol import Provider
from exporter.image import Descriptor

__all__ = ["MAX_BYTES", "Document", "documents_of"]

MAX_BYTES = 3 << 20
"""Default limit for all documents together. gRPC in Go rejects messages of more than 4 MiB."""


@dataclass(frozen=True, slots=True)
class Document:
    """A blob that describes an image.

    Attributes:
        descriptor: Its descriptor.
        data: Its content.
        labels: The labels that protect what it references from containerd's garbage collector.
    """

    descriptor: Descriptor
    data: bytes
    labels: Mapping[str, str]


async def documents_of(
    provider: Provider, root: Descriptor, *, limit: int = MAX_BYTES
) -> tuple[Document, ...]:
    """Read the documents of an image, each after those that it references.

    Layers, and the statements of attestations, are not documents.

    Args:
        provider: Has the documents.
        root: The descriptor of the manifest or index.
        limit: Maximum total size in bytes.

    Returns:
        The documents; none if they exceed `limit`, because some of them alone are of no use.

    Raises:
        DataLossError: a document does not match its descriptor.
        NotFoundError: a document is missing.
    """
    found: list[Document] = []
    seen: set[str] = set()
    pending: list[Descriptor | Document] = [root]
    size = 0
    while pending:
        item = pending.pop()
        if isinstance(item, Document):  # everything that it references has been found
            found.append(item)
            continue
        if item.digest in seen:
            continue
        seen.add(item.digest)
        size += item.size
        if size > limit:
            return ()
        data = await read_blob(provider, item, limit)
        parts = children(item, data)
        pending.append(Document(item, data, gc_labels(parts)))
        # The parts of an index are manifests. Of those of a manifest, only the first, the config, is one.
        pending += [part for part in parts if is_parent(part) or part is parts[0]]
    return tuple(found)
