"""The client's side of an export of files: it takes them into a directory."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from exporter.daemon.fsutil.receive import receive_directory
from exporter.daemon.services.receive import FileHandler
from exporter.errors import FailedPreconditionError
from exporter.image import AttributeValueError, LocalExporterMode
from exporter.image.options.attributes import MODE
from exporter.rpc.session.handling import Context, HandlerStream

__all__ = ["ALL_AT_ONCE", "DirectoryReceiver", "ReceivedDirectory"]

ALL_AT_ONCE = "buildkit-exporter-multi-platform"
"""Metadata that says that one transfer has the files of all platforms."""


@dataclass(frozen=True, slots=True)
class ReceivedDirectory:
    """A directory that takes files.

    Attributes:
        path: Made when the first file comes.
        delete: Whether everything else is removed from it once all files have come. It is the client's own
            choice, whatever the other side says.
    """

    path: Path
    delete: bool = False

    @classmethod
    def of(cls, path: Path, attrs: Mapping[str, str]) -> ReceivedDirectory:
        """The directory of an output: ``mode=delete`` in its attributes is the client's word."""
        try:
            mode = LocalExporterMode.parse(attrs.get(MODE, ""))
        except AttributeValueError:  # the word means something else to that exporter
            mode = LocalExporterMode.COPY
        return cls(path, delete=mode is LocalExporterMode.DELETE)


class DirectoryReceiver:
    """Takes the files of each output, as they come. What has come stays, should the export fail.

    Args:
        directories: By index of the exporter.
    """

    def __init__(self, directories: Mapping[int, ReceivedDirectory]) -> None:
        self._directories = dict(directories)
        # Daemons send several platforms into one directory at the same time.
        self._locks = {index: asyncio.Lock() for index in directories}

    @property
    def handlers(self) -> dict[int, FileHandler]:
        """For `FileSendServicer`."""
        return {index: partial(self._take, index) for index in self._directories}

    async def _take(self, index: int, context: Context) -> None:
        directory = self._directories[index]
        if directory.delete and (ALL_AT_ONCE, "1") not in (context.invocation_metadata() or ()):
            # It would send one platform after the other, each of which would remove the others.
            raise FailedPreconditionError(
                "local exporter mode=delete requires a BuildKit daemon with multi-platform local export "
                "support"
            )
        async with self._locks[index], HandlerStream(context) as stream:
            await receive_directory(stream, directory.path, delete=directory.delete)
