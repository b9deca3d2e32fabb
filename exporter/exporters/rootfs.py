"""The exporter ``rootfs``: an image's files as a file system, for disks and virtual machines."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Awaitable, Callable, Generator, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal
from uuid import UUID

from exporter.content.threads import iterate_in_thread, run_in_thread
from exporter.errors import InvalidArgumentError
from exporter.exporters.base import ArtifactKind, Attribute, ExportContext, Exporter, ExportResult
from exporter.exporters.filesystems.directory import MAX_EROFS_LABEL, make_erofs, make_squashfs
from exporter.exporters.filesystems.ext4 import MAX_EXT4_LABEL, make_ext4
from exporter.exporters.filesystems.plan import FileSystemPlan, image_uuid
from exporter.exporters.options import option
from exporter.image.options.attributes import SOURCE_DATE_EPOCH
from exporter.images import Image, ImageIndex
from exporter.layer.entry import FileEntry
from exporter.layer.streams import PIECE_SIZE
from exporter.source.types import Source

__all__ = ["RootfsExporter", "RootfsOptions"]

_SIZE = re.compile(r"([0-9]+)([KMGT]?)(?:i?B)?", re.IGNORECASE)
_UNITS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}
_LARGEST = 16 << 40
_COMPRESSIONS: Mapping[str, tuple[str, ...]] = {
    "ext4": ("none",),
    "squashfs": ("none", "gzip", "lz4", "xz", "zstd"),
    "erofs": ("none", "lz4", "lz4hc"),
}
_MAKERS: Mapping[str, Callable[[FileSystemPlan, Iterable[FileEntry], Path], Awaitable[None]]] = {
    "ext4": make_ext4,
    "squashfs": make_squashfs,
    "erofs": make_erofs,
}
_LABEL_BYTES = {"ext4": MAX_EXT4_LABEL, "erofs": MAX_EROFS_LABEL, "squashfs": 0}


@dataclass(frozen=True)
class RootfsOptions:
    """The attributes of ``rootfs``."""

    format: Literal["ext4", "squashfs", "erofs"] = option(default="ext4", help="The kind of file system.")
    label: str = option(default="", help="Its label, of up to 16 bytes (ext4) or 15 bytes (erofs).")
    size: str = option(
        default="",
        help="Its size in bytes, or with a unit such as 512M or 2G (ext4 only); by default, what the files "
        "need, and some free space.",
    )
    uuid: str = option(
        default="", help="Its UUID (ext4, erofs); by default, it depends on the image's configuration."
    )
    compression: str = option(
        default="",
        help="The compression of files: none; gzip, lz4, xz or zstd for squashfs (default: gzip); lz4 or "
        "lz4hc for erofs (default: none).",
    )
    platform: str = option(default="", help="The platform, such as linux/arm64, if the build has several.")

    def __post_init__(self) -> None:
        _ = self.size_bytes
        if self.size and self.format != "ext4":
            raise ValueError(f"size is for ext4 only: {self.format} is as large as its files")
        limit = _LABEL_BYTES[self.format]
        if self.label and not limit:
            raise ValueError(f"label={self.label}: {self.format} has no label")
        if len(self.label.encode()) > limit:
            raise ValueError(f"label={self.label} is too long: {self.format} has room for {limit} bytes")
        if not self.label.isprintable():
            raise ValueError("label contains characters that cannot be printed")
        if self.uuid and self.format == "squashfs":
            raise ValueError("uuid: squashfs has no UUID")
        if self.uuid:
            self.uuid_of("")
        accepted = _COMPRESSIONS[self.format]
        if self.compression and self.compression not in accepted:
            raise ValueError(
                f"compression={self.compression}: {self.format} can be compressed with {', '.join(accepted)}"
                if len(accepted) > 1
                else f"compression={self.compression}: {self.format} is not compressed"
            )

    @property
    def size_bytes(self) -> int:
        """The size in bytes; 0 for the default."""
        if not self.size:
            return 0
        match = _SIZE.fullmatch(self.size)
        size = int(match[1]) << _UNITS[match[2].upper()] if match is not None else 0
        if not 0 < size <= _LARGEST:
            raise ValueError(f"size={self.size} is not a size such as 512M or 2G")
        return size

    def uuid_of(self, digest: str) -> UUID:
        """The UUID for an image.

        Args:
            digest: The digest of its config.
        """
        if not self.uuid:
            return image_uuid(digest)
        try:
            return UUID(self.uuid)
        except ValueError:
            raise ValueError(
                f"uuid={self.uuid} is not a UUID such as 6f1c2a5e-0d7e-5b0a-9a55-2f3e1c4b5a69"
            ) from None


class RootfsExporter(Exporter[RootfsOptions]):
    """The files of an image as a file system (``type=rootfs``).

    The same image gives the same bytes with the same version of the tools. They need no root.
    """

    type: ClassVar[str] = "rootfs"
    title: ClassVar[str] = "File system (ext4, squashfs, erofs) with the image's files"
    artifact: ClassVar[ArtifactKind] = ArtifactKind.ARCHIVE
    attributes: ClassVar[tuple[Attribute, ...]] = (
        Attribute(
            SOURCE_DATE_EPOCH,
            "int",
            "",
            "Time of the file system, in seconds since 1970; by default, when the image was created.",
        ),
    )

    @property
    def name(self) -> str:
        """See `Exporter.name`."""
        return f"exporting to {self.options.format} file system"

    async def export(self, source: Source, context: ExportContext) -> ExportResult:
        """Make the file system, and send it to the client."""
        if context.output is None:
            raise InvalidArgumentError("rootfs writes a file: give it a dest", field="attrs[dest]")
        epoch = {key: value for key, value in self.attrs.items() if key == SOURCE_DATE_EPOCH}
        image = self._select(await context.image(source, epoch))
        created = image.created.unix if image.created is not None else 0
        options = self.options
        plan = FileSystemPlan(
            scratch=context.scratch,
            time=max(1, created),
            uuid=options.uuid_of(image.config_digest),
            label=options.label,
            size=options.size_bytes,
            compression=options.compression,
        )
        path = context.scratch.absolute() / "rootfs.img"
        with context.progress.status(f"making {options.format}"):
            async with image.files() as files:
                await _MAKERS[options.format](plan, files, path)
        size = (await run_in_thread(path.stat)).st_size
        response = {"rootfs.format": options.format, "rootfs.size": str(size)}
        if options.format != "squashfs":
            response["rootfs.uuid"] = str(plan.uuid)
        digest = hashlib.sha256()
        async with context.output.file(response) as sink:
            with context.progress.status("sending file system", total=size) as status:
                async with aclosing(iterate_in_thread(_pieces(path, digest.update))) as pieces:
                    async for data in pieces:
                        await sink.write(data)
                        status.advance(len(data))
                await sink.commit()
        return ExportResult(response={**response, "rootfs.digest": f"sha256:{digest.hexdigest()}"})

    def _select(self, image: Image | ImageIndex) -> Image:
        """The image of the platform.

        Raises:
            InvalidArgumentError: the build result has several platforms, or not this one.
        """
        wanted, images = self.options.platform, image.images
        if wanted in images:
            return images[wanted]
        if wanted or len(images) != 1:
            problem = f"has no platform {wanted}" if wanted else "has several platforms"
            raise InvalidArgumentError(
                f"the build result {problem}: choose one with platform= ({', '.join(images)})",
                field="attrs[platform]",
            )
        return next(iter(images.values()))


def _pieces(path: Path, hashed: Callable[[bytes], object]) -> Generator[bytes, None, None]:
    with path.open("rb") as file:
        while data := file.read(PIECE_SIZE):
            hashed(data)
            yield data
