"""Images by ID and their names, as the Docker daemon keeps them. The ``moby`` exporter fills this store."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from exporter.content.copy import present_blobs, write_blob
from exporter.content.files import read_file
from exporter.content.lock import file_lock
from exporter.content.manifest import children
from exporter.content.protocol import ContentStore
from exporter.content.staging import Staging, replace_file
from exporter.content.threads import run_in_thread
from exporter.content.verify import split_digest
from exporter.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError
from exporter.image import Descriptor, ImageError, digest_bytes
from exporter.image.go import json as gojson
from exporter.image.keys import DIFF_ID
from exporter.image.media_types import DOCKER_CONFIG, DOCKER_MANIFEST
from exporter.image.reference import Reference

_CONFIG = gojson.Struct(
    "image", {"rootfs": gojson.Struct("rootfs", {"diff_ids": gojson.Slice(gojson.String())})}
)
_TAGS = gojson.Map(gojson.String())
_SMALL_FILE = 64 << 20


@dataclass(frozen=True, slots=True)
class StoredImage:
    """An image of an `ImageStore`.

    Attributes:
        id: The digest of its config.
        config: The config's descriptor.
        layers: Base first. The annotation ``containerd.io/uncompressed`` has the diff ID.
        tags: Its names, such as ``docker.io/library/app:latest``, sorted.
    """

    id: str
    config: Descriptor
    layers: tuple[Descriptor, ...]
    tags: tuple[str, ...]


class ImageStore:
    """Images and their names, in a directory that several processes may share.

    An image consists of its config and the layers that the config's diff IDs name; it needs no manifest. The
    blobs are in a content store, from which this class removes nothing; see `pruning`.

    Args:
        path: The directory; created with the first image if it does not exist.
        content: The store of configs and layers.
    """

    def __init__(self, path: Path | str, content: ContentStore) -> None:
        self.path = Path(path)
        self.content = content
        self._records = self.path / "images" / "sha256"
        self._staging = Staging(self.path / "staging")

    async def create(self, config: bytes, layers: Sequence[Descriptor]) -> str:
        """Add an image. Idempotent.

        Args:
            config: The bytes of the image config.
            layers: Base first; their blobs are in the content store. The annotation
                ``containerd.io/uncompressed`` must have the diff ID.

        Returns:
            The image's ID.

        Raises:
            FailedPreconditionError: the layers are not those that the config names, or one is missing.
            InvalidArgumentError: the config cannot be read.
        """
        diff_ids = [layer.annotations.get(DIFF_ID, "") for layer in layers]
        wanted = _diff_ids(config)
        if diff_ids != wanted:
            raise FailedPreconditionError(
                f"the layers ({', '.join(diff_ids) or 'none'})"
                f" are not those that the config names ({', '.join(wanted) or 'none'})"
            )
        descriptor = Descriptor(DOCKER_CONFIG, digest_bytes(config), len(config))
        await self._check_present(descriptor.digest, layers)
        await write_blob(self.content, config, descriptor)
        async with self._locked():
            # Check again under the lock: blobs may have been pruned in the meantime.
            await self._check_present(descriptor.digest, (descriptor, *layers))
            await run_in_thread(self._write_record, descriptor, layers)
        return descriptor.digest

    async def tag(self, name: str, image_id: str) -> str:
        """Tag an image. If another image has the name, it loses it.

        Args:
            name: As a user writes it; the default tag is ``latest``.
            image_id: The image.

        Returns:
            The full name.

        Raises:
            FailedPreconditionError: the image's config or one of its layers is not in the content store.
            InvalidArgumentError: the name is invalid, or has a digest.
            NotFoundError: there is no such image.
        """
        whole = _tag_name(name)
        async with self._locked():
            config, *layers = await run_in_thread(self._read_record, image_id)
            await self._check_present(image_id, (config, *layers))
            tags = await run_in_thread(self._read_tags)
            await run_in_thread(self._write_tags, {**tags, whole: image_id})
        return whole

    async def get(self, image_id: str) -> StoredImage:
        """Look an image up by its ID.

        Raises:
            InvalidArgumentError: the ID is not a digest.
            NotFoundError: there is no such image.
        """
        config, *layers = await run_in_thread(self._read_record, image_id)
        tags = await self.tags()
        return StoredImage(
            image_id, config, tuple(layers), tuple(name for name, owner in tags.items() if owner == image_id)
        )

    async def list(self) -> tuple[StoredImage, ...]:
        """All images, by ID."""
        ids = await run_in_thread(lambda: sorted(path.stem for path in self._records.glob("*.json")))
        return tuple([await self.get(f"sha256:{encoded}") for encoded in ids])

    async def tags(self) -> dict[str, str]:
        """The IDs of images by name, sorted by name."""
        return await run_in_thread(self._read_tags)

    @asynccontextmanager
    async def pruning(
        self, *, before: float = math.inf, unnamed: bool = False
    ) -> AsyncIterator[frozenset[str]]:
        """Lock the store and yield the digests of all blobs that images consist of.

        Until the block ends, no image can be created or tagged.

        Args:
            before: Unix seconds; newer images are kept.
            unnamed: First remove images without any name.
        """
        async with self._locked():
            yield await run_in_thread(self._prune, before if unnamed else -math.inf)

    @asynccontextmanager
    async def _locked(self) -> AsyncIterator[None]:
        await run_in_thread(self._prepare)
        async with file_lock(self.path / "lock"):
            yield

    async def _check_present(self, image_id: str, descriptors: Sequence[Descriptor]) -> None:
        present = await present_blobs(self.content, descriptors)
        missing = [item.digest for item in descriptors if item.digest not in present]
        if missing:
            raise FailedPreconditionError(
                f"image {image_id} is incomplete: {', '.join(missing)} not in the content store"
            )

    # --- blocking ---

    def _prepare(self) -> None:
        self._records.mkdir(parents=True, exist_ok=True)
        self._staging.remove_stale()

    def _record_path(self, image_id: str) -> Path:
        algorithm, encoded = split_digest(image_id)
        if algorithm != "sha256":
            raise InvalidArgumentError(f"{image_id} is not the ID of an image")
        return self._records / f"{encoded}.json"

    def _write_record(self, config: Descriptor, layers: Sequence[Descriptor]) -> None:
        # The record has the form of a manifest, so that the code for manifests can read it.
        record = {
            "schemaVersion": 2,
            "mediaType": DOCKER_MANIFEST,
            "config": config.to_dict(),
            "layers": [layer.to_dict() for layer in layers],
        }
        replace_file(self._staging, self._record_path(config.digest), gojson.marshal(record))

    def _read_record(self, image_id: str) -> tuple[Descriptor, ...]:
        path = self._record_path(image_id)
        try:
            data = read_file(path, _SMALL_FILE)
            return children(Descriptor(DOCKER_MANIFEST, image_id, len(data)), data)
        except FileNotFoundError:
            raise NotFoundError(f"{self.path} has no image {image_id}") from None
        except InvalidArgumentError as error:
            raise FailedPreconditionError(f"{path} is damaged: {error}") from error

    def _prune(self, before: float) -> frozenset[str]:
        tagged = set(self._read_tags().values())
        needed: set[str] = set()
        for path in self._records.glob("*.json"):
            image_id = f"sha256:{path.stem}"
            if image_id not in tagged and path.stat().st_mtime < before:
                path.unlink()
            else:
                needed.update(item.digest for item in self._read_record(image_id))
        return frozenset(needed)

    def _read_tags(self) -> dict[str, str]:
        path = self.path / "tags.json"
        try:
            tags = gojson.decode(read_file(path, _SMALL_FILE), _TAGS)
        except FileNotFoundError:
            return {}
        except ImageError as error:
            raise FailedPreconditionError(f"{path} is damaged: {error}") from error
        return gojson.sort_keys(tags or {})

    def _write_tags(self, tags: Mapping[str, str]) -> None:
        data = gojson.marshal(gojson.sort_keys(tags))
        replace_file(self._staging, self.path / "tags.json", data)


def _diff_ids(config: bytes) -> list[str]:
    try:
        return gojson.decode(config, _CONFIG)["rootfs"]["diff_ids"] or []
    except ImageError as error:
        raise InvalidArgumentError(f"image config: {error}") from error


def _tag_name(name: str) -> str:
    try:
        reference = Reference.parse(name)
    except ImageError as error:
        raise InvalidArgumentError(f"name {name!r}: {error}") from error
    if reference.digest is not None:
        raise InvalidArgumentError(f"name {name!r}: refusing to create a tag with a digest reference")
    return str(reference.tag_name_only())
