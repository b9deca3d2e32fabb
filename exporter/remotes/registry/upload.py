"""Getting a blob into a repository: by mounting it from another one, or by a resumable upload.

Not every registry can resume: distribution 2.8 drops an upload when a request breaks midway. In this case, or
if a registry does not report its position, the upload restarts.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterable, Mapping, Sequence
from dataclasses import dataclass

from yarl import URL

from exporter.content.copy import OnBytes, reading
from exporter.content.protocol import Provider
from exporter.content.threads import run_in_thread
from exporter.content.verify import Verifier
from exporter.errors import DataLossError, ExporterError, UnavailableError
from exporter.image import Descriptor
from exporter.remotes.http.sending import Sending, sending
from exporter.remotes.registry.client import Answer, Request
from exporter.remotes.registry.endpoint import server_url
from exporter.remotes.registry.repository import Repository
from exporter.remotes.registry.retry import RequestError

_NUMBER = re.compile(r"[0-9]{1,18}", re.ASCII)
_RANGE = re.compile(r"(?:bytes=)?0-([0-9]{1,18})", re.ASCII)
_LOST = frozenset({400, 404, 416})
_LONGEST_SHOWN = 100
_SMALLEST_CHUNK = 1 << 20
_LARGEST_CHUNK = 64 << 20  # after a request was rejected as too large; most proxies accept this size


async def upload_blob(
    repository: Repository,
    descriptor: Descriptor,
    provider: Provider,
    *,
    sources: Sequence[str] = (),
    on_bytes: OnBytes | None = None,
) -> None:
    """Get a blob into a repository, unless it already has it.

    Args:
        repository: The destination, opened for pushing.
        descriptor: The blob's descriptor.
        provider: Has the blob. After a broken connection, it is read again from the registry's position.
        sources: Repositories in the same registry that may have the blob, to mount it from.
        on_bytes: Receives the progress; a negative number of bytes has to be sent again.

    Raises:
        DataLossError: the provider's bytes do not match the descriptor.
        ExporterError: the provider failed, or the registry failed too often.
    """
    await _Upload(repository, descriptor, provider, on_bytes).run(sources)


def parse_range(text: str, default: int) -> int:
    """Read from a ``Range`` header (``0-LAST``) how many bytes of an upload the registry has.

    Args:
        text: The header. ``0-0`` is ambiguous: it can mean no byte or one byte.
        default: The result if the header is ambiguous or malformed.
    """
    match = _RANGE.fullmatch(text.strip())
    last = int(match[1]) if match else 0
    return last + 1 if last else default


@dataclass(frozen=True, slots=True)
class _Session:
    """An upload in progress.

    `url` is the URL for the next request, `offset` the number of bytes that the registry has, and `least` the
    minimum chunk size.
    """

    url: URL
    offset: int = 0
    least: int = 0


class _Upload:
    def __init__(
        self, repository: Repository, descriptor: Descriptor, provider: Provider, on_bytes: OnBytes | None
    ) -> None:
        self._repository = repository
        self._transport = repository.transport
        self._descriptor = descriptor
        self._provider = provider
        self._on_bytes = on_bytes
        self._reported = 0
        self._verifier = _ResumableVerifier(descriptor)
        self._chunk_size = self._transport.options.chunk_size
        self._retries = self._transport.retries()
        self._session: _Session | None = None
        self._is_interrupted = False
        self._furthest = 0
        self._may_restart = True

    async def run(self, sources: Sequence[str]) -> None:
        if not await self._repository.has_blob(self._descriptor) and not await self._mount(sources):
            while not await self._try():
                self._is_interrupted = True
        self._report(self._descriptor.size)

    async def _mount(self, sources: Sequence[str]) -> bool:
        for source in sources:
            try:
                answer = await self._transport.call(self._begin_request(source))
                if answer.status == 201:
                    return True
                self._session = self._begun(answer)  # it cannot mount, and has begun an upload instead
            except (ExporterError, RequestError):
                continue  # often because we have no read access there, which an upload does not need
        return False

    async def _try(self) -> bool:
        """Send the rest; return whether that succeeded. If not, it has to be retried."""
        try:
            if self._is_interrupted:
                self._session = await self._find_position()
                # Perhaps only the last response was lost.
                if self._session is None and await self._repository.has_blob(self._descriptor):
                    return True
            if self._session is None:
                self._session = self._begun(await self._transport.exchange(self._begin_request()))
            while self._session.offset < self._descriptor.size:
                self._session = await self._send_part(self._session)
            self._verifier.finish()
            await self._end(self._session)
        except RequestError as failure:
            await self._prepare_next(failure)
            return False
        return True

    async def _prepare_next(self, failure: RequestError) -> None:
        if failure.status == 413 and self._shrink_chunks():
            return
        if failure.status in _LOST and self._session is not None and self._may_restart:
            # The registry has lost its position, or the upload. Restart only once, because a rejection may
            # have the same status.
            self._may_restart = False
            self._session = None
            return
        await self._retries.wait(failure)

    def _shrink_chunks(self) -> bool:
        if self._session is None:
            return False
        refused = self._part_length(self._session)
        self._chunk_size = min(refused // 2, _LARGEST_CHUNK)
        return self._chunk_size >= max(_SMALLEST_CHUNK, self._session.least)

    async def _find_position(self) -> _Session | None:
        """Query the registry's position; None if it no longer knows the upload."""
        session = self._session
        if session is None:
            return None
        request = self._request("GET", session.url, "resuming the upload of", frozenset({200, 202, 204}))
        try:
            answer = await self._transport.exchange(request)
        except RequestError as failure:
            if failure.may_pass or failure.status in {None, 401, 403}:
                raise
            return None  # it does not support the query, so the position is unknown
        offset = parse_range(answer.headers.get("Range", ""), 0)
        if offset > self._verifier.position:  # more than we have sent
            return None
        self._reached(offset)
        return _Session(_location(answer, session.url), offset, session.least)

    async def _send_part(self, session: _Session) -> _Session:
        """Send the rest, or as much of it as fits into one request."""
        self._report(session.offset)
        begin, end = session.offset, session.offset + self._part_length(session)
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(end - begin)}
        if end - begin < self._descriptor.size:
            headers["Content-Range"] = f"{begin}-{end - 1}"

        async def send(body: AsyncIterable[bytes]) -> Answer:
            accepted = frozenset({202, 204})
            request = self._request("PATCH", session.url, "uploading", accepted, headers=headers, body=body)
            return await self._transport.exchange(request)

        async with sending(send, stall_seconds=self._transport.options.stall_seconds) as patch:
            await self._write(patch, begin, end)
            answer = await patch.finish()
        offset = min(parse_range(answer.headers.get("Range", ""), end), end)
        if offset <= begin:
            message = f"{self._repository} accepts no bytes of {self._descriptor.digest}"
            raise RequestError(UnavailableError(message), may_pass=True)
        self._reached(offset)
        return _Session(_location(answer, session.url), offset, session.least)

    def _reached(self, offset: int) -> None:
        """Note where the registry stands. What it had before is not progress: it may lose that for ever."""
        if offset > self._furthest:
            self._furthest = offset
            self._retries.progressed()

    async def _write(self, patch: Sending[Answer], begin: int, end: int) -> None:
        position = begin
        part = reading(self._provider, self._descriptor, offset=begin, length=end - begin)
        async with part as source:
            async for data in source:
                await self._verifier.update(data, position)
                position += len(data)
                try:
                    await patch.write(data)
                except TimeoutError as error:
                    message = f"{self._repository} accepts no more bytes of {self._descriptor.digest}"
                    raise RequestError(UnavailableError(message), may_pass=True) from error
                self._report(position)
        if position != end:
            raise DataLossError(
                f"blob {self._descriptor.digest} ends after {position} of its {self._descriptor.size} bytes"
            )

    async def _end(self, session: _Session) -> None:
        separator = "&" if session.url.raw_query_string else "?"
        # Append to the string instead of parsing the URL, which might change a signed query.
        url = URL(f"{session.url}{separator}digest={self._descriptor.digest}", encoded=True)
        request = self._request("PUT", url, "ending the upload of", frozenset({200, 201, 202, 204}), body=b"")
        answer = await self._transport.exchange(request)
        stored = answer.headers.get("Docker-Content-Digest", self._descriptor.digest)
        if stored != self._descriptor.digest:
            raise DataLossError(f"{self._repository} stored {stored} instead of {self._descriptor.digest}")

    def _part_length(self, session: _Session) -> int:
        left = self._descriptor.size - session.offset
        return left if self._chunk_size is None else min(left, max(self._chunk_size, session.least))

    def _begin_request(self, source: str | None = None) -> Request:
        url = self._repository.url("blobs", "uploads", "")
        if source is None:
            return self._request("POST", url, "beginning the upload of", frozenset({202}), body=b"")
        url = url.with_query({"mount": self._descriptor.digest, "from": source})
        scopes = (*self._repository.scopes, f"repository:{source}:pull")
        doing = f"mounting (from {source})"
        return self._request("POST", url, doing, frozenset({201, 202}), scopes=scopes, body=b"")

    def _begun(self, answer: Answer) -> _Session:
        return _Session(_location(answer), 0, _least(answer))

    def _report(self, position: int) -> None:
        if self._on_bytes is not None and position != self._reported:
            self._on_bytes(position - self._reported)
        self._reported = position

    def _request(
        self,
        method: str,
        url: URL,
        doing: str,
        expect: frozenset[int],
        *,
        scopes: tuple[str, ...] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes | AsyncIterable[bytes] | None = None,
    ) -> Request:
        return Request(
            method=method,
            url=url,
            what=f"{doing} {self._descriptor.digest} to {self._repository}",
            expect=expect,
            scopes=scopes or self._repository.scopes,
            headers=headers or {},
            body=body,
        )


class _ResumableVerifier:
    """Hashes a blob incrementally, although parts of it may be sent twice."""

    def __init__(self, descriptor: Descriptor) -> None:
        self._verifier = Verifier(descriptor)
        self.position = 0

    async def update(self, data: bytes, position: int) -> None:
        new = data[self.position - position :]
        if new:
            await run_in_thread(self._verifier.update, new)
            self.position += len(new)

    def finish(self) -> None:
        self._verifier.finish()


def _location(answer: Answer, default: URL | None = None) -> URL:
    """The URL for the next request of an upload. It may be relative, and may be on a different host."""
    location = answer.headers.get("Location")
    if location:
        url = server_url(location, answer.url)
        if url is None:
            raise _nonsense(answer, "an upload goes on at", location)
        return url
    if default is None:
        raise RequestError(
            UnavailableError(f"{answer.url.authority} accepted an upload, but sent no Location for it")
        )
    return default


def _least(answer: Answer) -> int:
    """How many bytes the registry wants at once, at the least."""
    text = answer.headers.get("OCI-Chunk-Min-Length", "0").strip()
    if not _NUMBER.fullmatch(text):
        raise _nonsense(answer, "OCI-Chunk-Min-Length is", text)
    return int(text)


def _nonsense(answer: Answer, what: str, text: str) -> RequestError:
    shown = text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"
    return RequestError(
        UnavailableError(f"{answer.url.authority} says that {what} {shown!r}, which makes no sense")
    )
