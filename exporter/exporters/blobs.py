"""Reading blobs that are parsed or passed on as a stream."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from exporter.content.protocol import Provider
from exporter.content.threads import run_in_thread
from exporter.content.verify import Verifier
from exporter.image import Descriptor

__all__ = ["read_verified"]


async def read_verified(provider: Provider, descriptor: Descriptor) -> AsyncGenerator[bytes, None]:
    """Stream a blob and verify it.

    An error may only be raised after the last piece. Do not publish a result before the iteration has ended.

    Raises:
        DataLossError: the blob does not match its descriptor.
        NotFoundError: the provider does not have it.
    """
    verifier = Verifier(descriptor)
    source = provider.read(descriptor.digest)
    try:
        async for data in source:
            await run_in_thread(verifier.update, data)
            yield data
    finally:
        close = getattr(source, "aclose", None)
        if close is not None:
            await close()
    verifier.finish()
