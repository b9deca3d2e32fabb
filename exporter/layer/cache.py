"""An on-disk cache of converted layers."""

from __future__ import annotations

import json
import logging
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from exporter.content.copy import closing_stream
from exporter.content.files import CHUNK_SIZE, BlobDirectory, open_regular, read_file
from exporter.content.lock import file_lock
from exporter.content.staging import NO_LINKS, Staging, replace_file
from exporter.content.threads import run_in_thread
from exporter.content.verify import Verifier
from exporter.errors import DataLossError, ExporterError, UnavailableError
from exporter.image import Descriptor, digest_bytes, parse_digest

if TYPE_CHECKING:
    from exporter.layer.recode import Recipe

# Increment when the same recipe starts to produce different bytes.
_VERSION = 1
_MAX_RECORD_SIZE = 1 << 20
# Seconds. A newer blob without a record may be one whose record is about to be written.
_STRAY_AGE = 3600.0
_COPIES = ".staging"

DEFAULT_LIMIT = 10 << 30
"""Default limit for the total size of blobs, in bytes."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ConvertedLayer:
    """A converted layer.

    Attributes:
        descriptor: The new blob's descriptor.
        source_diff_id: The digest of the original tar.
    """

    descriptor: Descriptor
    source_diff_id: str


class LayerCache:
    """A directory of converted layers, keyed by source and recipe, which several processes may share.

    Blobs are hard-linked (or copied to another file system) to and from the users' own directories, so that a
    user's blobs do not depend on the cache. A blob is verified before use, and dropped if damaged. When the
    limit is exceeded, the least recently used blobs are removed.

    Args:
        path: The directory; created if missing.
        limit: Maximum total size of blobs, in bytes.
    """

    def __init__(self, path: Path, *, limit: int = DEFAULT_LIMIT) -> None:
        self._path = path
        self._limit = limit
        self._blobs = BlobDirectory(path / "blobs")
        self._records = path / "records"
        self._staging = Staging(path / "staging")

    async def get(self, source: str, recipe: Recipe, into: BlobDirectory) -> ConvertedLayer | None:
        """Look up a converted layer, and put its blob into a directory.

        Args:
            source: The digest of the original layer.
            recipe: How it was converted.
            into: Receives the blob.

        Returns:
            None if it is not cached, or damaged.
        """
        record = self._record_path(source, recipe)
        layer = await run_in_thread(_load_record, record)
        if layer is None:
            return None
        digest = layer.descriptor.digest
        try:
            await run_in_thread(_link, self._blobs.path_of(digest), into.path_of(digest))
            await _verify(into, layer.descriptor)
            await run_in_thread(os.utime, record)
        except FileNotFoundError:
            return None
        except OSError as error:
            log.warning("cannot read a converted layer from the cache %s: %s", self._path, error)
            return None
        except DataLossError as error:
            log.warning("dropping a damaged layer from the cache: %s", error.message)
            await run_in_thread(_remove, into.path_of(digest), self._blobs.path_of(digest), record)
            return None
        return layer

    async def put(self, source: str, recipe: Recipe, layer: ConvertedLayer, of: BlobDirectory) -> None:
        """Cache a converted layer. Best effort: a failure is only logged.

        Args:
            source: The digest of the original layer.
            recipe: How it was converted.
            layer: The converted layer.
            of: Has its blob.
        """
        try:
            await self._put(self._record_path(source, recipe), layer, of)
        except (OSError, UnavailableError) as error:
            log.warning("cannot cache a converted layer in %s: %s", self._path, error)

    async def prune(self) -> None:
        """Enforce the limit, which may have been lowered, and remove what killed processes left.

        Best effort: a failure is only logged.
        """
        try:
            await run_in_thread(self._remove_stale)
        except OSError as error:
            log.warning("cannot clean up the layer cache %s: %s", self._path, error)
        if not await run_in_thread(self._records.is_dir):
            return
        try:
            async with file_lock(self._path / "lock"):
                await run_in_thread(self._prune)
        except (OSError, UnavailableError) as error:
            log.warning("cannot prune the layer cache %s: %s", self._path, error)

    async def _put(self, record: Path, layer: ConvertedLayer, of: BlobDirectory) -> None:
        digest = layer.descriptor.digest
        await run_in_thread(self._prepare)
        await run_in_thread(_link, of.path_of(digest), self._blobs.path_of(digest))
        data = json.dumps(
            {"descriptor": layer.descriptor.to_dict(), "sourceDiffID": layer.source_diff_id}, sort_keys=True
        ).encode()
        await run_in_thread(replace_file, self._staging, record, data)
        async with file_lock(self._path / "lock"):
            await run_in_thread(self._prune)

    def _record_path(self, source: str, recipe: Recipe) -> Path:
        key = [_VERSION, source, recipe.type, recipe.level, recipe.epoch]
        _, encoded = parse_digest(digest_bytes(json.dumps(key).encode()))
        return self._records / f"{encoded}.json"

    def _prepare(self) -> None:
        self._records.mkdir(parents=True, exist_ok=True)
        self._staging.remove_stale()

    def _remove_stale(self) -> None:
        self._staging.remove_stale()
        for copies in self._path.glob(f"blobs/*/{_COPIES}"):
            Staging(copies).remove_stale()

    def _prune(self) -> None:
        """Remove the least recently used layers beyond the limit, and stray blobs."""
        sizes = {blob.digest: blob.size for blob in self._blobs.list()}
        kept: set[str] = set()
        dropped: set[str] = set()
        total = 0
        for record in sorted(self._records.glob("*.json"), key=_last_use, reverse=True):
            layer = _load_record(record)
            digest = layer.descriptor.digest if layer is not None else ""
            if digest not in kept:
                total += sizes.get(digest, 0)
            if digest in sizes and total <= self._limit:
                kept.add(digest)
            else:
                record.unlink(missing_ok=True)
                dropped.add(digest)
        for digest in sizes.keys() - kept:
            path = self._blobs.path_of(digest)
            if digest in dropped or time.time() - _last_use(path) > _STRAY_AGE:
                path.unlink(missing_ok=True)


def _load_record(path: Path) -> ConvertedLayer | None:
    try:
        record = json.loads(read_file(path, _MAX_RECORD_SIZE))
        descriptor = Descriptor.from_dict(record["descriptor"])
        parse_digest(descriptor.digest)
        return ConvertedLayer(descriptor, str(record["sourceDiffID"]))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, ExporterError) as error:
        # An ImageError is a ValueError, too.
        log.warning("ignoring the record %s of a cached layer: %s", path, error)
        return None


def _last_use(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _link(source: Path, destination: Path) -> None:
    """Hard-link a file, or copy it to another file system. An existing destination stays."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, destination)
    except FileExistsError:
        return
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        _copy(source, destination)


def _copy(source: Path, destination: Path) -> None:
    staged = Staging(destination.parent / _COPIES).create(mode=0o444)
    try:
        with open_regular(source) as file:
            while data := file.read(CHUNK_SIZE):
                staged.write(data)
        staged.publish(destination)
    finally:
        staged.discard()


async def _verify(blobs: BlobDirectory, descriptor: Descriptor) -> None:
    verifier = Verifier(descriptor)
    async with closing_stream(blobs.read(descriptor.digest)) as pieces:
        async for data in pieces:
            await run_in_thread(verifier.update, data)
    verifier.finish()


def _remove(*paths: Path) -> None:
    for path in paths:
        path.unlink(missing_ok=True)
