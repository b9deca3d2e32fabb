"""Pushing from a small image store into a real registry behind the faulty proxy."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
from collections.abc import AsyncIterator, Container, Mapping
from itertools import pairwise
from typing import Any

import aiohttp

from exporter.content import BlobInfo, MemoryStore, Provider
from exporter.image import Descriptor
from exporter.image.media_types import OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST
from exporter.progress.model import StatusUpdate
from exporter.progress.producer import VertexProgress
from exporter.remotes.registry import (
    DistributionSources,
    RegistryOptions,
    RetryPolicy,
    StaticCredentials,
)
from exporter.remotes.registry.push import push
from tests.integration.registry_peer import FaultyProxy
from tests.unit.content.images import describe, manifest

UPLOADS = "/blobs/uploads/"


class Peer:
    """A registry behind a proxy, an image, and what a push of it reports."""

    def __init__(self, proxy: FaultyProxy, upstream: str) -> None:
        self.proxy = proxy
        self.upstream = upstream
        self.updates: list[StatusUpdate] = []
        self.pauses: list[float] = []
        self.store = MemoryStore()
        self.options = self.make_options()

    def make_options(self, **changes: Any) -> RegistryOptions:
        async def sleep(seconds: float) -> None:
            self.pauses.append(seconds)
            await asyncio.sleep(0)

        defaults: dict[str, Any] = {"credentials": StaticCredentials(), "retry": RetryPolicy(sleep=sleep)}
        return RegistryOptions(**{**defaults, **changes})

    def name(self, rest: str) -> str:
        return f"{self.proxy.host}/{rest}"

    async def push(
        self, root: Descriptor, rest: str = "app:v1", *, provider: Any = None, **options: Any
    ) -> DistributionSources:
        progress = VertexProgress(self.updates.append, "sha256:" + "0" * 64)
        return await push(
            provider or self.store, root, self.name(rest), options=self.options, progress=progress, **options
        )

    async def get(self, path: str) -> tuple[int, Mapping[str, str], bytes]:
        """Ask the registry itself."""
        headers = {"Accept": f"{OCI_INDEX}, {OCI_MANIFEST}"}
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://{self.upstream}/v2/{path}", headers=headers) as response,
        ):
            return response.status, response.headers, await response.read()

    async def digest_of(self, repository: str, tag: str) -> str | None:
        status, headers, _ = await self.get(f"{repository}/manifests/{tag}")
        return headers["Docker-Content-Digest"] if status == 200 else None

    async def tags(self, repository: str) -> list[str]:
        status, _, body = await self.get(f"{repository}/tags/list")
        return sorted(json.loads(body)["tags"] or []) if status == 200 else []

    async def add(self, data: bytes, media_type: str = OCI_LAYER) -> Descriptor:
        async with self.store.ingest() as writer:
            await writer.write(data)
            await writer.commit()
        return describe(data, media_type)

    async def add_image(self, *layers: Descriptor, author: str = "") -> Descriptor:
        config = json.dumps({"os": "linux", "architecture": "amd64", "author": author}).encode()
        await self.add(config, OCI_CONFIG)
        return await self.add(manifest(config, *layers), OCI_MANIFEST)

    @property
    def status_ids(self) -> list[str]:
        return list(dict.fromkeys(status.id for update in self.updates for status in update.statuses))

    @property
    def logs(self) -> str:
        return b"".join(log.data for update in self.updates for log in update.logs).decode()

    @property
    def advances(self) -> list[int]:
        """By how many bytes the progress of the layers changed, step by step."""
        currents = [s.current for update in self.updates for s in update.statuses if s.id == "pushing layers"]
        return [after - before for before, after in pairwise(currents)]


class Except:
    """A provider that has one blob from elsewhere."""

    def __init__(self, provider: Provider, digest: str, other: Provider) -> None:
        self._provider = provider
        self._digest = digest
        self._other = other

    async def info(self, digest: str) -> BlobInfo:
        return await self._chosen(digest).info(digest)

    def read(self, digest: str, *, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        return self._chosen(digest).read(digest, offset=offset, length=length)

    def _chosen(self, digest: str) -> Provider:
        return self._other if digest == self._digest else self._provider


class Meeting:
    """A provider whose reads of some blobs wait until a number of readers wait at once."""

    def __init__(self, provider: Provider, digests: Container[str], readers: int) -> None:
        self._provider = provider
        self._digests = digests
        self._missing = readers
        self._met = asyncio.Event()

    async def info(self, digest: str) -> BlobInfo:
        return await self._provider.info(digest)

    async def read(self, digest: str, *, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        if digest in self._digests:
            self._missing -= 1
            if self._missing <= 0:
                self._met.set()
            await self._met.wait()
        async for data in self._provider.read(digest, offset=offset, length=length):
            yield data


class Always:
    """A provider that gives the same bytes for everything, whatever the part that was asked for."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    async def info(self, digest: str) -> BlobInfo:
        return BlobInfo(digest, len(self._data))

    async def read(self, digest: str, *, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        yield self._data


class Zeros:
    """A provider of one large blob that exists nowhere; counts what is read of it."""

    def __init__(self, size: int) -> None:
        self.descriptor = Descriptor(OCI_LAYER, zeros_digest(size), size)
        self.given = 0

    async def info(self, digest: str) -> BlobInfo:
        return BlobInfo(digest, self.descriptor.size)

    async def read(self, digest: str, *, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        left = self.descriptor.size - offset if length is None else length
        while left > 0:
            piece = bytes(min(left, 1 << 20))
            left -= len(piece)
            self.given += len(piece)
            yield piece


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def zeros_digest(size: int) -> str:
    digest = hashlib.sha256()
    for _ in range(size >> 20):
        digest.update(bytes(1 << 20))
    return f"sha256:{digest.hexdigest()}"
