"""Standard input: a Dockerfile, or a context as an archive."""

from __future__ import annotations

import asyncio
import os
import tarfile
from collections.abc import AsyncIterator

from exporter.content.threads import run_in_thread

_HEAD_BYTES = 1024
_PIECE_BYTES = 1 << 20

_COMPRESSED = (b"BZh", b"\x1f\x8b\x08", b"\xfd7zXZ\x00")
"""The magic numbers of bzip2, gzip and xz, which the Dockerfile frontend unpacks."""


class StandardInput:
    """A stream that can be peeked at. It can be read only once.

    Args:
        descriptor: The file descriptor.
    """

    def __init__(self, descriptor: int = 0) -> None:
        self._descriptor = descriptor
        self._head = b""

    def is_archive(self) -> bool:
        """Whether it is a tar archive, possibly compressed, rather than text. Blocks until data arrives."""
        while len(self._head) < _HEAD_BYTES and (data := os.read(self._descriptor, _HEAD_BYTES)):
            self._head += data
        if self._head.startswith(_COMPRESSED):
            return True
        try:
            tarfile.TarInfo.frombuf(self._head[: tarfile.BLOCKSIZE], "utf-8", "surrogateescape")
        except tarfile.HeaderError:
            return False
        return True

    def read(self) -> bytes:
        """Read everything. Blocks."""
        pieces = [self._head]
        while data := os.read(self._descriptor, _PIECE_BYTES):
            pieces.append(data)
        return b"".join(pieces)

    async def stream(self) -> AsyncIterator[bytes]:
        """Read everything in chunks. Can be cancelled while it waits for data."""
        if self._head:
            yield self._head
        while True:
            await _readable(self._descriptor)
            data = await run_in_thread(os.read, self._descriptor, _PIECE_BYTES)
            if not data:
                return
            yield data


async def _readable(descriptor: int) -> None:
    """Wait until a read would not block, because a blocked thread cannot be cancelled."""
    loop = asyncio.get_running_loop()
    is_readable = asyncio.Event()
    try:
        loop.add_reader(descriptor, is_readable.set)
    except PermissionError:  # a regular file is always readable
        return
    try:
        await is_readable.wait()
    finally:
        loop.remove_reader(descriptor)
