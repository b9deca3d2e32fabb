"""Writing a blob to an OCI image layout."""

from __future__ import annotations

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
    """

    def __init__(self, staging: Staging, blobs: BlobDirectory, verifier: Verifier) -> None:
        self._staging = staging
        self._blobs = blobs
        self._verifier = verifier
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
        return await run_in_thread(self._commit)

    def _flush(self) -> StagedFile:
        assert self._file is not None, "the writer is not open"
        pending, self._pending, self._pending_size = self._pending, [], 0
        for data in pending:
            self._verifier.update(data)
            self._file.write(data)
        return self._file

    def _commit(self) -> BlobInfo:
        file = self._flush()
        info = self._verifier.finish()
        path = self._blobs.path_of(info.digest)
        if not path.parent.is_dir():
            path.parent.mkdir(parents=True, exist_ok=True)
            sync_directory(path.parent.parent)
        file.publish(path)
        return info
