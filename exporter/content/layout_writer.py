"""Writing a blob to an OCI image layout."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from exporter.content.files import CHUNK_SIZE, BlobDirectory
from exporter.content.protocol import BlobInfo
from exporter.content.staging import StagedFile, Staging, sync_directory
from exporter.content.threads import run_in_thread
from exporter.content.verify import Verifier


class LayoutWriter:
    """Writes one blob; see `BlobWriter`.

    Args:
        staging: Holds the file until it is complete.
        blobs: The file's destination.
        verifier: Verifies the blob.
        note: Called with the digest before the file becomes visible, if not None.
    """

    def __init__(
        self,
        staging: Staging,
        blobs: BlobDirectory,
        verifier: Verifier,
        note: Callable[[str], Awaitable[None]] | None = None,
    ) -> None:
        self._staging = staging
        self._blobs = blobs
        self._verifier = verifier
        self._note = note
        self._file: StagedFile | None = None
        self._pending: list[bytes] = []
        self._pending_size = 0

    def open(self) -> None:
        """Create the file. Blocks."""
        # Read-only, as in containerd's store, because a blob never changes.
        self._file = self._staging.create(mode=0o444)

    def close(self) -> None:
        """Remove the file if it was not committed. Blocks."""
        if self._file is not None:
            self._file.discard()

    async def write(self, data: bytes) -> None:
        """See `BlobWriter.write`."""
        # Peers send chunks that are too small to justify a thread switch each.
        self._pending.append(data)
        self._pending_size += len(data)
        if self._pending_size >= CHUNK_SIZE:
            await run_in_thread(self._flush)

    async def commit(self) -> BlobInfo:
        """See `BlobWriter.commit`."""
        if self._note is None:
            return await run_in_thread(lambda: self._publish(self._finish()))
        info = await run_in_thread(self._finish)
        await self._note(info.digest)
        return await run_in_thread(self._publish, info)

    def _flush(self) -> StagedFile:
        assert self._file is not None, "the writer is not open"
        pending, self._pending, self._pending_size = self._pending, [], 0
        for data in pending:
            self._verifier.update(data)
            self._file.write(data)
        return self._file

    def _finish(self) -> BlobInfo:
        self._flush()
        return self._verifier.finish()

    def _publish(self, info: BlobInfo) -> BlobInfo:
        assert self._file is not None, "the writer is not open"
        path = self._blobs.path_of(info.digest)
        if not path.parent.is_dir():
            path.parent.mkdir(parents=True, exist_ok=True)
            sync_directory(path.parent.parent)
        self._file.publish(path)
        return info
