"""Image archives: tar files with an OCI layout, or in the format of ``docker save``."""

from __future__ import annotations

import posixpath
import tarfile
import threading
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from exporter.content.files import CHUNK_SIZE
from exporter.content.protocol import BlobInfo
from exporter.content.threads import run_in_thread
from exporter.content.verify import split_digest
from exporter.errors import InvalidArgumentError, NotFoundError
from exporter.image import ImageError
from exporter.image.go import json as gojson

_SMALL_FILE = 32 << 20
_DOCKER_MANIFEST = gojson.Slice(
    gojson.Struct(
        "tarexport.manifestItem",
        {
            "Config": gojson.String(),
            "RepoTags": gojson.Slice(gojson.String()),
            "Layers": gojson.Slice(gojson.String()),
        },
    )
)


class ImageArchive:
    """Read access to the files of an archive. All methods except `read` and `info` block.

    It is also a `Provider` for the blobs below ``blobs/``. Each read seeks to the file's offset in the tar,
    which is slow for files near the end of a large compressed archive.
    """

    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar
        self._turn = threading.Lock()
        self._members = {posixpath.normpath(member.name): member for member in tar if member.isfile()}
        for link in tar.getmembers():  # old versions of Docker wrote duplicate layers as links
            if link.issym() or link.islnk():
                target = (
                    link.linkname
                    if link.islnk()
                    else posixpath.join(posixpath.dirname(link.name), link.linkname)
                )
                found = self._members.get(posixpath.normpath(target))
                if found is not None:
                    self._members[posixpath.normpath(link.name)] = found

    @classmethod
    @asynccontextmanager
    async def open(cls, path: Path) -> AsyncIterator[ImageArchive]:
        """Open an archive, uncompressed or with gzip, bzip2 or xz.

        Raises:
            InvalidArgumentError: the file is not a tar archive.
        """
        tar = await run_in_thread(_open_tar, path)
        try:
            try:
                archive = await run_in_thread(cls, tar)
            except (tarfile.TarError, EOFError, zlib.error) as error:
                raise InvalidArgumentError(f"{path} is a damaged tar archive: {error}") from error
            yield archive
        finally:
            tar.close()

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def size(self, name: str) -> int | None:
        """The size of a file in bytes; None if it does not exist."""
        member = self._members.get(posixpath.normpath(name))
        return member.size if member is not None else None

    def read_file(self, name: str) -> bytes:
        """Read a small file.

        Raises:
            NotFoundError: it does not exist.
            InvalidArgumentError: it is too large.
        """
        member = self._member(name)
        if member.size > _SMALL_FILE:
            raise InvalidArgumentError(f"{name} in the archive is too long: {member.size} bytes")
        return self._read(member, 0, member.size)

    def docker_images(self) -> list[dict[str, Any]]:
        """The entries of ``manifest.json``: ``Config``, ``RepoTags`` and ``Layers``.

        Raises:
            InvalidArgumentError: it is malformed.
        """
        try:
            return gojson.decode(self.read_file("manifest.json"), _DOCKER_MANIFEST) or []
        except ImageError as error:
            raise InvalidArgumentError(f"manifest.json in the archive: {error}") from error

    async def info(self, digest: str) -> BlobInfo:
        """See `Provider.info`."""
        return BlobInfo(digest, self._blob(digest).size)

    async def read(self, digest: str, *, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """See `Provider.read`."""
        member = self._blob(digest)
        end = member.size if length is None else min(member.size, offset + length)
        async for data in self._stream(member, offset, end):
            yield data

    async def stream(self, name: str) -> AsyncIterator[bytes]:
        """Read any file.

        Raises:
            NotFoundError: it does not exist.
        """
        member = self._member(name)
        async for data in self._stream(member, 0, member.size):
            yield data

    def blobs(self) -> list[BlobInfo]:
        """All blobs, in the order of the archive."""
        found = []
        for name, member in self._members.items():
            match name.split("/"):
                case ["blobs", algorithm, encoded]:
                    found.append(BlobInfo(f"{algorithm}:{encoded}", member.size))
        return found

    async def _stream(self, member: tarfile.TarInfo, offset: int, end: int) -> AsyncIterator[bytes]:
        for start in range(offset, end, CHUNK_SIZE):
            yield await run_in_thread(self._read, member, start, min(CHUNK_SIZE, end - start))

    def _member(self, name: str) -> tarfile.TarInfo:
        member = self._members.get(posixpath.normpath(name))
        if member is None:
            raise NotFoundError(f"the archive has no file {name}")
        return member

    def _blob(self, digest: str) -> tarfile.TarInfo:
        member = self._members.get("/".join(("blobs", *split_digest(digest))))
        if member is None:
            raise NotFoundError(f"blob {digest} is not in the archive")
        return member

    def _read(self, member: tarfile.TarInfo, offset: int, length: int) -> bytes:
        file = self._tar.extractfile(member)
        assert file is not None, "only regular files are members"
        try:
            with self._turn, file:  # all files of a tar share its position
                file.seek(offset)
                return file.read(length)
        except (tarfile.TarError, EOFError, zlib.error) as error:
            raise InvalidArgumentError(f"the archive is damaged at {member.name}: {error}") from error


def _open_tar(path: Path) -> tarfile.TarFile:
    try:
        return tarfile.open(path)
    except tarfile.ReadError:
        raise InvalidArgumentError(
            f"{path} is not an image: it is neither a tar archive (an OCI layout, or of docker save) "
            "nor a directory"
        ) from None
