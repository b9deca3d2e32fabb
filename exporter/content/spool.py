"""Keeping blobs on this machine while they are read for the first time: they are fetched only once."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from exporter.content.copy import closing_stream
from exporter.content.protocol import BlobInfo, Provider
from exporter.content.threads import run_in_thread
from exporter.errors import naming

__all__ = ["SpoolingProvider"]

_PIECE_BYTES = 1 << 20


class SpoolingProvider:
    """A provider that writes each blob into a file when it is read as a whole, and reads it from there later.

    It does not verify anything: who reads a blob does that, each time.

    Args:
        provider: Has the blobs.
        directory: A directory for the files. Whoever created it removes it with them.
    """

    def __init__(self, provider: Provider, directory: Path) -> None:
        self._provider = provider
        self._directory = directory
        self._kept: dict[str, Path] = {}

    @property
    def kept(self) -> frozenset[str]:
        """The digests of the blobs that are in files."""
        return frozenset(self._kept)

    async def info(self, digest: str) -> BlobInfo:
        """See `Provider.info`."""
        return await self._provider.info(digest)

    async def read(self, digest: str, *, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """See `Provider.read`."""
        if digest in self._kept:
            stream = _read(self._kept[digest], offset, length)
        elif offset or length is not None:
            stream = self._provider.read(digest, offset=offset, length=length)
        else:
            stream = self._keeping(digest)
        async with closing_stream(stream):
            async for data in stream:
                yield data

    async def _keeping(self, digest: str) -> AsyncIterator[bytes]:
        file = await run_in_thread(_new_file, self._directory)
        path = Path(file.name)
        try:
            async with closing_stream(self._provider.read(digest)) as stream:
                async for data in stream:
                    with naming(path):
                        await run_in_thread(file.write, data)
                    yield data
            with naming(path):
                await run_in_thread(file.flush)
            self._kept[digest] = path
        finally:
            await run_in_thread(file.close)
            if self._kept.get(digest) != path:
                await run_in_thread(path.unlink)


def _new_file(directory: Path) -> tempfile._TemporaryFileWrapper[bytes]:
    return tempfile.NamedTemporaryFile(dir=directory, prefix="blob-", delete=False)


async def _read(path: Path, offset: int, length: int | None) -> AsyncIterator[bytes]:
    file = await run_in_thread(path.open, "rb")
    try:
        await run_in_thread(file.seek, offset)
        left = length
        while left is None or left > 0:
            data = await run_in_thread(file.read, _PIECE_BYTES if left is None else min(_PIECE_BYTES, left))
            if not data:
                return
            left = None if left is None else left - len(data)
            yield data
    finally:
        await run_in_thread(file.close)
