"""The outputs of a build as values.

Each makes one artifact of the build result. buildkitd makes those of its own types; `ExporterOutput` and
types that it does not know run in this process.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import IO, ClassVar

from exporter.content.threads import run_in_thread
from exporter.errors import InvalidArgumentError
from exporter.exporters.base import Exporter
from exporter.exporters.destinations import FileSink, LayoutSink
from exporter.layer.entry import FileEntry

FilePlace = str | os.PathLike[str] | IO[bytes]
"""Where a file goes: a path, or a binary file object. A path appears with its complete content, or not at
all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _ImageOutput:
    """The common options of images.

    Attributes:
        names: The names of the image; the build's ``tags`` if empty.
        annotations: Annotations of the manifest.
        compression: ``uncompressed``, ``gzip``, ``estargz`` or ``zstd``; the daemon's default if empty.
        compression_level: The level; the default of the compression if None.
        force_compression: Whether to recompress existing layers.
        oci_mediatypes: Whether to use OCI's media types instead of Docker's; the type's default if None.
        rewrite_timestamp: Whether to clamp the times of files to ``SOURCE_DATE_EPOCH``.
        attrs: More attributes of the exporter, in its own spelling.
    """

    names: Sequence[str] | str = ()
    annotations: Mapping[str, str] = field(default_factory=dict)
    compression: str = ""
    compression_level: int | None = None
    force_compression: bool = False
    oci_mediatypes: bool | None = None
    rewrite_timestamp: bool = False
    attrs: Mapping[str, str] = field(default_factory=dict)

    def attributes(self, tags: Sequence[str]) -> dict[str, str]:
        """The attributes for the exporter.

        Args:
            tags: The names if the output has none.
        """
        names = [self.names] if isinstance(self.names, str) else list(self.names)
        found = {"name": ",".join(filter(None, names)) or ",".join(tags)}
        found |= {f"annotation.{key}": value for key, value in self.annotations.items()}
        found["compression"] = self.compression
        if self.compression_level is not None:
            found["compression-level"] = str(self.compression_level)
        found["force-compression"] = _flag(self.force_compression)
        if self.oci_mediatypes is not None:
            found["oci-mediatypes"] = "true" if self.oci_mediatypes else "false"
        found["rewrite-timestamp"] = _flag(self.rewrite_timestamp)
        return {key: value for key, value in found.items() if value} | dict(self.attrs)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageOutput(_ImageOutput):
    """An image in the daemon's image store, which a Docker engine always has, or in a registry.

    Attributes:
        push: Whether to push it.
        push_by_digest: Whether to push it without a tag.
        insecure: Whether to push to registries without TLS.
        unpack: Whether to unpack it in the daemon; the daemon's default if None.
    """

    type: ClassVar[str] = "image"

    push: bool = False
    push_by_digest: bool = False
    insecure: bool = False
    unpack: bool | None = None

    def attributes(self, tags: Sequence[str]) -> dict[str, str]:
        """See the base class."""
        found = {
            "push": _flag(self.push),
            "push-by-digest": _flag(self.push_by_digest),
            "registry.insecure": _flag(self.insecure),
            "unpack": "" if self.unpack is None else str(self.unpack).lower(),
        }
        # super() does not work in dataclasses with slots.
        return {key: value for key, value in found.items() if value} | _ImageOutput.attributes(self, tags)


@dataclass(frozen=True, slots=True, kw_only=True)
class OCIOutput(_ImageOutput):
    """An image as an OCI archive, or as an OCI layout.

    Attributes:
        dest: The archive.
        layout: The directory of a layout, instead.
    """

    type: ClassVar[str] = "oci"

    dest: FilePlace | None = None
    layout: str | os.PathLike[str] | None = None

    def attributes(self, tags: Sequence[str]) -> dict[str, str]:
        """See the base class."""
        found = _ImageOutput.attributes(self, tags)
        return {"tar": "false", **found} if self.layout is not None else found


@dataclass(frozen=True, slots=True, kw_only=True)
class DockerOutput(_ImageOutput):
    """An image as ``docker save`` writes it, or loaded into a Docker engine.

    Attributes:
        dest: The archive; None to load the image.
        context: The docker context of the engine that loads it; the engine that docker itself would use if
            empty.
    """

    type: ClassVar[str] = "docker"

    dest: FilePlace | None = None
    context: str = ""


@dataclass(frozen=True, slots=True)
class DirectoryOutput:
    """The files of the result in a directory.

    Attributes:
        dest: The directory. Files that are there already stay, unless the result has others in their place.
        delete: Whether to remove everything else from the directory.
        platform_split: Whether each platform gets a directory of its own; by default, if there are several.
        attrs: More attributes of the exporter.
    """

    type: ClassVar[str] = "local"

    dest: str | os.PathLike[str]
    delete: bool = False
    platform_split: bool | None = None
    attrs: Mapping[str, str] = field(default_factory=dict)

    def attributes(self, tags: Sequence[str]) -> dict[str, str]:
        """The attributes for the exporter."""
        found = {"mode": "delete"} if self.delete else {}
        return _platform_split(self.platform_split) | found | dict(self.attrs)


@dataclass(frozen=True, slots=True)
class TarOutput:
    """The files of the result as a tar archive.

    Attributes:
        dest: The archive.
        platform_split: Whether each platform gets a directory of its own; by default, if there are several.
        attrs: More attributes of the exporter.
    """

    type: ClassVar[str] = "tar"

    dest: FilePlace
    platform_split: bool | None = None
    attrs: Mapping[str, str] = field(default_factory=dict)

    def attributes(self, tags: Sequence[str]) -> dict[str, str]:
        """The attributes for the exporter."""
        return _platform_split(self.platform_split) | dict(self.attrs)


@dataclass(frozen=True, slots=True)
class NamedOutput:
    """An output by the name of its type, as in ``--output type=NAME,KEY=VALUE``.

    Attributes:
        type: The type: one of the daemon's, or of an installed plugin. With the prefix ``plugin.``, any type
            runs in this process.
        attrs: Its attributes.
        dest: Where its file or its files go, if it makes any.
    """

    type: str
    attrs: Mapping[str, str] = field(default_factory=dict)
    dest: FilePlace | None = None

    def attributes(self, tags: Sequence[str]) -> dict[str, str]:
        """The attributes for the exporter."""
        return dict(self.attrs)


@dataclass(frozen=True, slots=True)
class ExporterOutput:
    """An exporter of this process: an instance, used as it is.

    Attributes:
        exporter: The exporter.
        dest: Where its file or its files go, if it makes any.
    """

    exporter: Exporter
    dest: str | os.PathLike[str] | None = None

    @property
    def type(self) -> str:
        """The exporter's type."""
        return self.exporter.type

    def attributes(self, tags: Sequence[str]) -> dict[str, str]:
        """The exporter's own attributes."""
        return dict(self.exporter.attrs)


AnyOutput = (
    ImageOutput | OCIOutput | DockerOutput | DirectoryOutput | TarOutput | NamedOutput | ExporterOutput
)
"""An output of a build."""


class FileObjectOutput:
    """A binary file object as the destination of a file (`exporter.exporters.base.Output`)."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    @asynccontextmanager
    async def file(self, response: Mapping[str, str]) -> AsyncIterator[FileSink]:
        """See `Output.file`."""
        yield _FileObjectSink(self._file)

    def layout(self) -> AbstractAsyncContextManager[LayoutSink]:
        """See `Output.layout`.

        Raises:
            InvalidArgumentError: always.
        """
        raise InvalidArgumentError("a layout needs a directory; a file object receives archives only")

    async def directory(
        self,
        entries: Iterable[FileEntry],
        *,
        delete: bool = False,
        on_sent: Callable[[int], None] | None = None,
    ) -> None:
        """See `Output.directory`.

        Raises:
            InvalidArgumentError: always.
        """
        raise InvalidArgumentError("files need a directory; a file object receives archives only")


class _FileObjectSink:
    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    async def write(self, data: bytes) -> None:
        await run_in_thread(self._file.write, data)

    async def commit(self) -> None:
        await run_in_thread(self._file.flush)


def _flag(value: bool) -> str:
    return "true" if value else ""


def _platform_split(value: bool | None) -> dict[str, str]:
    return {} if value is None else {"platform-split": str(value).lower()}
