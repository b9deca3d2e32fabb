"""A repository in a registry: reading blobs and manifests, and storing manifests.

Source: the OCI distribution specification 1.1.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from yarl import URL

from exporter.content.copy import PARSE_LIMIT
from exporter.content.files import CHUNK_SIZE
from exporter.content.protocol import BlobInfo
from exporter.content.verify import split_digest
from exporter.errors import DataLossError, InvalidArgumentError, NotFoundError, UnavailableError
from exporter.image import Descriptor, Reference, digest_bytes
from exporter.image.media_types import INDEX_TYPES, MANIFEST_TYPES
from exporter.remotes.http.answers import json_object
from exporter.remotes.registry.client import Answer, Request
from exporter.remotes.registry.options import RegistryOptions
from exporter.remotes.registry.retry import OnRetry, RequestError
from exporter.remotes.registry.transport import Transport

_LONGEST_NUMBER = 18  # digits
_BLOBS, _MANIFESTS = "blobs", "manifests"
_PARTS = frozenset({200, 206, 416})
_ACCEPT = {"Accept": ", ".join([*sorted(MANIFEST_TYPES | INDEX_TYPES), "*/*"])}


class Repository:
    """A repository such as ``docker.io/library/alpine``, as a provider; created by `open_repository`.

    Args:
        transport: The transport to the registry.
        path: The repository's name within the registry (``library/alpine``).
        push: Whether write access is needed.
    """

    def __init__(self, transport: Transport, path: str, *, push: bool) -> None:
        self.transport = transport
        self.path = path
        self.scopes = (f"repository:{path}:{'pull,push' if push else 'pull'}",)

    def __str__(self) -> str:
        return f"{self.transport.host}/{self.path}"

    def url(self, *parts: str) -> URL:
        """The URL of something in the repository, such as ``blobs``, DIGEST."""
        return self.transport.url("/".join(("/v2", self.path, *parts)))

    async def info(self, digest: str) -> BlobInfo:
        """See `Provider.info`. Also finds manifests."""
        for kind in (_BLOBS, _MANIFESTS):
            answer = await self._head(kind, digest)
            if answer is not None:
                return BlobInfo(digest, _length(answer, f"{self} and {digest}"))
        raise NotFoundError(f"{self} has no {digest}")

    async def read(self, digest: str, *, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """See `Provider.read`. Also finds manifests. Resumes after a connection breaks."""
        split_digest(digest)
        kind, end = _BLOBS, None if length is None else offset + length
        retries = self.transport.retries()
        while end is None or offset < end:
            try:
                async with self.transport.stream(self._get(kind, digest, offset, end)) as response:
                    async for data in _part(response, offset, end):
                        offset += len(data)
                        retries.progressed()
                        yield data
                return
            except RequestError as failure:
                if failure.status == 404 and kind == _BLOBS:
                    kind = _MANIFESTS
                else:
                    await retries.wait(failure)

    async def has_blob(self, descriptor: Descriptor) -> bool:
        """Whether the repository has a blob. Manifests do not count."""
        return await self._head(_BLOBS, descriptor.digest) is not None

    async def has_manifest(self, descriptor: Descriptor, reference: str) -> bool:
        """Whether `reference`, a tag or digest, already refers to this manifest."""
        answer = await self._head(_MANIFESTS, reference)
        if answer is None:
            return False
        return (
            reference == descriptor.digest or answer.headers.get("Docker-Content-Digest") == descriptor.digest
        )

    async def resolve(self, reference: str) -> Descriptor:
        """Look up the manifest of a tag or a digest.

        Raises:
            NotFoundError: there is no such manifest.
            DataLossError: it does not have the requested digest.
        """
        what = f"resolving {reference} in {self}"
        request = self._request(
            "GET", self.url(_MANIFESTS, reference), what, headers=_ACCEPT, limit=PARSE_LIMIT
        )
        answer = await self.transport.call(request)
        digest = digest_bytes(answer.body)
        if reference.startswith("sha256:") and reference != digest:
            raise DataLossError(f"{what}: the registry sent {digest}")
        if ":" in reference:  # a different algorithm; it is verified when the manifest is read
            digest = reference
        return Descriptor(media_type=_media_type(answer), digest=digest, size=len(answer.body))

    async def put_manifest(self, descriptor: Descriptor, data: bytes, reference: str) -> None:
        """Store a manifest under `reference`, a tag or its digest.

        Raises:
            DataLossError: the registry stored a different manifest.
            FailedPreconditionError: it rejects the manifest, for example because a blob is missing.
            ExporterError: see `Transport.call`.
        """
        request = self._request(
            "PUT",
            self.url(_MANIFESTS, reference),
            f"pushing manifest {descriptor.digest} to {self}",
            expect=frozenset({200, 201, 202, 204}),
            headers={"Content-Type": descriptor.media_type},
            body=data,
        )
        answer = await self.transport.call(request)
        stored = answer.headers.get("Docker-Content-Digest", descriptor.digest)
        if stored != descriptor.digest:
            raise DataLossError(f"{self} stored {stored} instead of manifest {descriptor.digest}")

    async def _head(self, kind: str, reference: str) -> Answer | None:
        request = self._request(
            "HEAD",
            self.url(kind, reference),
            f"looking for {reference} in {self}",
            expect=frozenset({200, 404}),
            headers=_ACCEPT if kind == _MANIFESTS else {},
        )
        answer = await self.transport.call(request)
        return answer if answer.status == 200 else None

    def _get(self, kind: str, digest: str, offset: int, end: int | None) -> Request:
        headers = dict(_ACCEPT if kind == _MANIFESTS else {})
        if offset or end is not None:
            headers["Range"] = f"bytes={offset}-{'' if end is None else end - 1}"
        what = f"reading {digest} from {self}"
        return self._request("GET", self.url(kind, digest), what, expect=_PARTS, headers=headers)

    def _request(self, method: str, url: URL, what: str, **options: Any) -> Request:
        return Request(method=method, url=url, what=what, scopes=self.scopes, **options)


@asynccontextmanager
async def open_repository(
    reference: Reference,
    *,
    push: bool = False,
    insecure: bool = False,
    options: RegistryOptions | None = None,
    on_retry: OnRetry | None = None,
) -> AsyncIterator[Repository]:
    """Connect to the repository in a reference.

    Args:
        reference: The reference. Tag and digest are ignored; see `Repository.resolve`.
        push: Whether write access is needed.
        insecure: Accept any certificate, and plain HTTP if there is no TLS.
        options: Options for access to the registry.
        on_retry: See `OnRetry`.

    Raises:
        InvalidArgumentError: the reference has no registry.
        ExporterError: the registry cannot be reached.
    """
    if not reference.domain:
        raise InvalidArgumentError(f"{reference} does not include a registry", field="attrs[name]")
    transport = Transport(
        reference.domain, insecure=insecure, options=options or RegistryOptions(), on_retry=on_retry
    )
    async with transport:
        yield Repository(transport, reference.path, push=push)


async def _part(response: aiohttp.ClientResponse, offset: int, end: int | None) -> AsyncIterator[bytes]:
    """The bytes from `offset` to `end`. A registry may ignore the range and send everything."""
    if response.status == 416:  # the offset is at or after the end
        return
    skip = offset if response.status == 200 else 0
    left = None if end is None else end - offset
    async for data in response.content.iter_chunked(CHUNK_SIZE):
        part = data[skip:][:left]
        skip = max(skip - len(data), 0)
        if left is not None:
            left -= len(part)
        if part:
            yield part
        if left == 0:
            return


def _length(answer: Answer, what: str) -> int:
    text = answer.headers.get("Content-Length", "")
    if not (text.isascii() and text.isdigit() and len(text) <= _LONGEST_NUMBER):
        raise UnavailableError(f"{what}: the registry does not report the size")
    return int(text)


def _media_type(answer: Answer) -> str:
    """The media type in the header or, if the registry only sends a generic type, in the manifest."""
    media_type = answer.headers.get("Content-Type", "").partition(";")[0].strip()
    if media_type in MANIFEST_TYPES | INDEX_TYPES:
        return media_type
    inner = (json_object(answer.body) or {}).get("mediaType")
    return inner if isinstance(inner, str) else media_type
