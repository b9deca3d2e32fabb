"""The client's side of an export of files: receiving them into a directory."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from exporter.daemon.services.receive import FileHandler
from exporter.errors import FailedPreconditionError
from exporter.image import AttributeValueError, LocalExporterMode
from exporter.image.options.attributes import MODE
from exporter.rpc.session.handling import Context, HandlerStream

__all__ = ["ALL_AT_ONCE", "DirectoryReceiver", "ReceivedDirectory"]

ALL_AT_ONCE = "buildkit-exporter-multi-platform"
"""The metadata key that marks a transfer as having the files of all platforms."""


@dataclass(frozen=True, slots=True)
class ReceivedDirectory:
    """A directory that receives files.

    Attributes:
        path: The path. The directory is created when the first file arrives.
        delete: Whether to remove everything else once all files have arrived. This is the client's own
            choice; the peer cannot change it.
    """

    path: Path
    delete: bool = False

    @classmethod
    def of(cls, path: Path, attrs: Mapping[str, str]) -> ReceivedDirectory:
        """The directory of an output, whose attribute ``mode=delete`` sets `delete`."""
        try:
            mode = LocalExporterMode.parse(attrs.get(MODE, ""))
        except AttributeValueError:  # that exporter's ``mode`` has a different meaning
            mode = LocalExporterMode.COPY
        return cls(path, delete=mode is LocalExporterMode.DELETE)


class DirectoryReceiver:
    """Receives the files of each output as they arrive. They stay even if the export fails.

    Args:
        directories: The directories by the index of the exporter.
    """

    def __init__(self, directories: Mapping[int, ReceivedDirectory]) -> None:
        self._directories = dict(directories)
        # Daemons send several platforms into one directory concurrently.
        self._locks = {index: asyncio.Lock() for index in directories}

    @property
    def handlers(self) -> dict[int, FileHandler]:
        """For `FileSendServicer`."""
        return {index: partial(self._take, index) for index in self._directories}

    async def _take(self, index: int, context: Context) -> None:
        directory = self._directories[index]
        if directory.delete and (ALL_AT_ONCE, "1") not in (context.invocation_metadata() or ()):
            # It would send the platforms separately, and each would remove the others.
            raise FailedPreconditionError(
                "local exporter mode=delete requires a BuildKit daemon with multi-platform local export "
                "support"
            )
        from exporter.daemon.fsutil.receive import receive_directory  # slow, and not all builds need it

        async with self._locks[index], HandlerStream(context) as stream:
            await receive_directory(stream, directory.path, delete=directory.delete)
