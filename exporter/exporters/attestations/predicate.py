"""Reading the predicate of an attestation."""

from __future__ import annotations

from pathlib import Path

from exporter.errors import InvalidArgumentError
from exporter.source.types import Attestation

__all__ = ["MAX_BYTES", "read_predicate"]

MAX_BYTES = 40 << 20
"""Maximum size of an attestation's file; BuildKit's limit."""


async def read_predicate(attestation: Attestation, scratch: Path) -> bytes:
    """The predicate: content from the daemon, which may be requested now, or else a file in the ref.

    Args:
        attestation: An attestation of kind in-toto.
        scratch: A directory to unpack the ref in.

    Raises:
        InvalidArgumentError: there is neither, or the file is invalid; with BuildKit's text.
        NotFoundError: the file, the ref or the content does not exist.
    """
    content = await attestation.read_content()
    if content is not None:
        if len(content) > MAX_BYTES:
            raise InvalidArgumentError(
                f"{attestation.path} exceeds {MAX_BYTES} bytes", field="source.attestations"
            )
        return content
    if attestation.ref is None:
        raise InvalidArgumentError("no available content for attestation", field="source.attestations")
    from exporter.exporters.files.read import RefFiles  # all codecs; attestations rarely need a ref

    async with RefFiles.open(attestation.ref, scratch) as files:
        return await files.read(attestation.path, limit=MAX_BYTES)
