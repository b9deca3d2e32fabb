"""Writing a blob of an OCI image layout."""

from __future__ import annotations

from exporter.content.files import CHUNK_SIZE, BlobDirectory
from exporter.content.protocol import BlobInfo
from exporter.content.staging import StagedFile, Staging, sync_directory
from exporter.content.threads import run_in_thread
from exporter.content.verify import Verifier


class LayoutWriter:
    """A blob in the making; see `BlobWriter`.

    Args:
        staging: Where the file is until it is complete.
        blobs: Where it goes then.
        verifier: Checks what is written.
    """

    def __init__(self, staging: Staging, blobs: BlobDirectory, verifier: Verifier) -> None:
        self._staging = staging
        self._blobs = blobs
        self._verifier = verifier
        self._file: StagedFile | None = None
        self._pending: list[bytes] = []
        self._pending_size = 0

    def open(self) -> None:
        """Make the file. Blocks."""
        # The permissions of containerd's store: a blob is never written to.
        self._file = self._staging.create(mode=0o444)

    def close(self) -> None:
        """Remove the file if it was not committed. Blocks."""
        if self._file is not None:
            self._file.discard()

    async def write(self, data: bytes) -> None:
        """See `BlobWriter.write`."""
        # Peers send pieces that are small next to what a change of threads costs.
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
