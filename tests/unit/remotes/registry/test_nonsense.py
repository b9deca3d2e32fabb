"""Registries with invalid responses: errors blame and name the registry."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from exporter.content import MemoryStore
from exporter.content.copy import write_blob
from exporter.errors import ExporterError, UnavailableError
from exporter.image import Descriptor, Reference, digest_bytes
from exporter.remotes.registry import RegistryOptions, RetryPolicy, StaticCredentials
from exporter.remotes.registry.repository import open_repository
from exporter.remotes.registry.upload import upload_blob

DATA = b"a layer"
LAYER = Descriptor(media_type="application/octet-stream", digest=digest_bytes(DATA), size=len(DATA))


class Registry:
    """Answers with headers that HTTP libraries would not send.

    Attributes:
        headers: By the first words of a request, what its answer has.
        status: Likewise, its status.
        asked: The first lines of all requests.
    """

    def __init__(self) -> None:
        self.headers: dict[str, list[bytes]] = {}
        self.status: dict[str, int] = {"POST ": 202, "HEAD ": 404, "PATCH ": 202, "PUT ": 201}
        self.asked: list[str] = []
        self.host = ""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Registry]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.host = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with server:
            yield self

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            line, _, rest = head.partition("\r\n")
            self.asked.append(line)
            fields = dict(field.lower().split(": ", 1) for field in rest.strip().split("\r\n"))
            await reader.readexactly(int(fields.get("content-length", "0")))
            status = next((s for start, s in self.status.items() if line.startswith(start)), 200)
            headers = next((h for start, h in self.headers.items() if line.startswith(start)), [])
            lines = [f"HTTP/1.1 {status} Whatever".encode(), b"Connection: close", *headers]
            if not any(header.startswith(b"Content-Length") for header in lines):
                lines.append(b"Content-Length: 0")
            writer.write(b"\r\n".join([*lines, b"", b""]))
        finally:
            writer.close()


@pytest.fixture
async def registry() -> AsyncIterator[Registry]:
    async with Registry().running() as running:
        yield running


async def upload(registry: Registry) -> None:
    async def sleep(seconds: float) -> None:
        """Not in tests."""

    options = RegistryOptions(credentials=StaticCredentials(), retry=RetryPolicy(sleep=sleep))
    store = MemoryStore()
    await write_blob(store, DATA, LAYER)
    reference = Reference.parse(f"{registry.host}/app")
    async with open_repository(reference, push=True, options=options) as repository:
        await upload_blob(repository, LAYER, store)


async def test_a_conforming_registry(registry: Registry) -> None:
    registry.headers["POST "] = [b"Location: /v2/app/blobs/uploads/1", b"OCI-Chunk-Min-Length: 1"]
    await upload(registry)
    assert registry.asked[-1].startswith("PUT /v2/app/blobs/uploads/1?digest=sha256:")


@pytest.mark.parametrize("method", ["POST ", "PATCH "])
@pytest.mark.parametrize(
    "location",
    [
        *(b"http://[::1", b"http://h:port/", b"http://h:99999/", b"http://h:0/", b"file:///etc/passwd"),
        *(
            b"http://jo:pw@h/x",
            b"http://h/a b",
            b"http://h/\xff",
            b"http://\xc3\xbc.example/",
            b"h:5000/x",
        ),
        *(b"http://xn--/", b"http://" + b"a" * 300, b"http://h\\@i/", b"javascript:1"),
    ],
)
async def test_malformed_upload_locations(registry: Registry, method: str, location: bytes) -> None:
    registry.headers["POST "] = [b"Location: /v2/app/blobs/uploads/1"]
    registry.headers[method] = [b"Location: " + location]
    text = f"^{registry.host} says that an upload goes on at .*, which makes no sense"
    with pytest.raises(UnavailableError, match=text):
        await upload(registry)
    assert len([line for line in registry.asked if line.startswith(method)]) == 1, "it is not asked again"


@pytest.mark.parametrize("value", [b"many", b"-1", b"1.5", b"0x10", b"9" * 5000, b"\xb2", b"1,2"])
async def test_malformed_minimum_chunk_sizes(registry: Registry, value: bytes) -> None:
    registry.headers["POST "] = [b"Location: /v2/app/blobs/uploads/1", b"OCI-Chunk-Min-Length: " + value]
    with pytest.raises(
        UnavailableError, match=f"^{registry.host} says that OCI-Chunk-Min-Length is .{{1,120}}, which"
    ):
        await upload(registry)


@pytest.mark.parametrize(
    "header",
    [
        *(b"Content-Length: " + value for value in (b"many", b"-1", b"9" * 5000, b"1, 2")),
        *(b"Range: " + value for value in (b"0-" + b"9" * 5000, b"bytes", b"\xff")),
        *(b"Retry-After: " + value for value in (b"9" * 5000, b"never", b"\xff")),
        *(
            b"WWW-Authenticate: " + value
            for value in (b"Bearer", b"\xff" * 100, b'Bearer realm="' + b"x" * 5000)
        ),
        *(b"Docker-Content-Digest: " + value for value in (b"", b"sha256:", b"\xff")),
        *(
            b"Location: " + value
            for value in (b"http://[::1", b"http://" + b"a" * 300, b"http://h:port/", b"\xff")
        ),
        *(b"Transfer-Encoding: " + value for value in (b"gzip", b"chunked, chunked", b"\xff")),
        *(b"Content-Type: " + value for value in (b"\xff", b";;;", b"a" * 8000)),
    ],
)
@pytest.mark.parametrize("status", [202, 307, 401])
async def test_any_header_gives_success_or_an_explained_error(
    registry: Registry, header: bytes, status: int
) -> None:
    """Whatever a registry sends, a push succeeds, or fails with an error for users."""
    for method in ("GET ", "POST ", "PUT "):
        registry.headers = {"POST ": [b"Location: /v2/app/blobs/uploads/1"], method: [header]}
        registry.status = {"HEAD ": 404, "POST ": 202, "PATCH ": 202, "PUT ": 201, method: status}
        try:
            await upload(registry)
        except ExporterError as error:
            assert registry.host in str(error)


async def test_a_registry_that_loses_accepted_data(registry: Registry) -> None:
    """It takes all bytes each time and fails at the end: that is not progress, and retries end."""
    registry.headers["POST "] = [b"Location: /v2/app/blobs/uploads/1"]
    registry.status["PUT "] = 500
    with pytest.raises(UnavailableError, match="ending the upload"):
        await upload(registry)
    assert len([line for line in registry.asked if line.startswith("PATCH ")]) == 5
