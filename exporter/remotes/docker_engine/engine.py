"""A Docker engine's images, through its API: loading, naming, pushing and saving them.

We use aiohttp. docker-py, the library for this API, is synchronous and accepts an archive only as bytes or as
a file, not as a stream that is still being written.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import quote

import aiohttp
from yarl import URL

from exporter.content.threads import run_in_thread
from exporter.errors import (
    ExporterError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    UnavailableError,
)
from exporter.image import Reference
from exporter.remotes.docker_engine.address import EngineAddress, find_engine
from exporter.remotes.docker_engine.messages import LayerProgress, Loaded, LoadMessages, Pushed, PushMessages
from exporter.remotes.http.answers import json_object, read_body
from exporter.remotes.http.sending import Sending, sending

OnLayer = Callable[[LayerProgress], None]
"""Called with the engine's progress, from the event loop's thread."""

_NEWEST_API = (1, 51)
"""The newest API version that we support. With older engines, we use theirs."""

_AUTH = "X-Registry-Auth"
_CONNECT_SECONDS = 30.0
_ANSWER_LIMIT = 8 << 20


@dataclass(frozen=True, slots=True)
class LoadedImage:
    """An image that the engine has loaded. `name` is empty if it has none."""

    id: str
    name: str


class DockerEngine:
    """A connection to a Docker engine. Entering this asynchronous context manager connects to it.

    Args:
        address: The engine's address; None for the engine that the user's docker client uses.

    Raises:
        UnavailableError: the engine is not reachable.
        PermissionDeniedError: access to its socket is denied.
    """

    def __init__(self, address: EngineAddress | None = None) -> None:
        self._address = address
        self._name = ""
        self._base = URL()
        self._session: aiohttp.ClientSession

    async def __aenter__(self) -> Self:
        address = self._address
        if address is None:
            address = await run_in_thread(find_engine, environ=os.environ)
        self._name = str(address)
        self._session = aiohttp.ClientSession(
            connector=await _connector(address),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        try:
            # For a socket, the host is ignored.
            self._base = await self._negotiate(address.url or URL("http://docker"))
        except BaseException:
            await self._session.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    @asynccontextmanager
    async def load(self, on_layer: OnLayer | None = None) -> AsyncIterator[ImageLoad]:
        """Load an image from an archive, which is streamed to the engine.

        Nothing is loaded if the block ends without `ImageLoad.commit`.

        Args:
            on_layer: See `OnLayer`.
        """

        async def send(body: AsyncIterable[bytes]) -> list[str]:
            return await self._load(body, on_layer)

        # No timeout: between two reads, the engine unpacks layers, which can take any time.
        async with sending(send, stall_seconds=None) as request:
            yield ImageLoad(self, request)

    async def tag(self, image: str, name: str) -> None:
        """Give an image another name.

        Args:
            image: Its ID, or one of its names.
            name: The new name; the default tag is ``latest``.

        Raises:
            ImageError: the name is not a reference.
            NotFoundError: there is no such image.
            InvalidArgumentError: the name has a digest.
        """
        reference = Reference.parse(name).tag_name_only()
        if reference.digest is not None or reference.tag is None:
            raise InvalidArgumentError(f"an image in a Docker engine cannot be named {name}: it has a digest")
        query = {"repo": reference.familiar_name, "tag": reference.tag}
        await self._call("POST", f"images/{quote(image, safe='')}/tag", f"naming {image} {name}", query)

    async def push(self, name: str, credentials: Mapping[str, str], on_layer: OnLayer | None = None) -> str:
        """Tell the engine to push an image to the registry in its name.

        Args:
            name: The image's name; the default tag is ``latest``.
            credentials: For the registry, with the keys of the engine's API (``username``, ``password``, …).
            on_layer: See `OnLayer`.

        Returns:
            The digest of the manifest in the registry; empty if the engine does not report it.

        Raises:
            ImageError: the name is not a reference.
            NotFoundError: there is no such image.
            PermissionDeniedError: the registry rejects the credentials.
            UnavailableError: the engine cannot push it.
        """
        reference = Reference.parse(name).tag_name_only()
        path = f"images/{quote(reference.familiar_name, safe='/')}/push"
        url = URL(f"{self._base}/{path}", encoded=True).with_query(tag=reference.tag or "")
        secret = base64.urlsafe_b64encode(json.dumps(dict(credentials)).encode()).decode("ascii")
        messages = PushMessages(self._name)
        digest = ""
        async with self._request("POST", url, f"pushing {name}", headers={_AUTH: secret}) as response:
            async for data in response.content.iter_any():
                digest = _report(messages.feed(data), on_layer) or digest
        return _report(messages.finish(), on_layer) or digest

    async def image_id(self, image: str) -> str:
        """The ID of an image, which is the digest of its config.

        Raises:
            NotFoundError: there is no such image.
        """
        found = (await self._inspect(image)).get("Id")
        if not isinstance(found, str):
            raise UnavailableError(f"Docker engine {self._name} does not report the ID of image {image}")
        return found

    async def diff_ids(self, image: str) -> tuple[str, ...]:
        """The diff IDs of an image's layers, base first.

        Raises:
            NotFoundError: there is no such image.
        """
        root = (await self._inspect(image)).get("RootFS")
        found = (root.get("Layers") or []) if isinstance(root, dict) else None
        if not isinstance(found, list) or not all(isinstance(layer, str) for layer in found):
            raise UnavailableError(f"Docker engine {self._name} does not report the layers of image {image}")
        return tuple(found)

    @asynccontextmanager
    async def save(self, image: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """Stream an image as an archive (``docker save``).

        Raises:
            NotFoundError: there is no such image.
        """
        url = URL(f"{self._base}/images/{quote(image, safe='')}/get", encoded=True)
        async with self._request("GET", url, f"saving image {image}") as response:
            yield response.content.iter_any()

    async def _inspect(self, image: str) -> dict[str, Any]:
        answer = await self._call("GET", f"images/{quote(image, safe='')}/json", f"looking for image {image}")
        return json_object(answer) or {}

    @property
    def api_version(self) -> tuple[int, int]:
        """The API version in use: the engine's, or the newest one that we support."""
        major, minor = self._base.name.removeprefix("v").split(".")
        return int(major), int(minor)

    async def _negotiate(self, url: URL) -> URL:
        async with self._request("GET", url / "_ping", "connecting") as response:
            version = response.headers.get("Api-Version", "")
        numbers = version.split(".")
        if not all(part.isascii() and part.isdigit() for part in numbers) or len(numbers) != 2:
            raise UnavailableError(f"what answers at {self._name} is not a Docker engine")
        major, minor = min((int(numbers[0]), int(numbers[1])), _NEWEST_API)
        return url / f"v{major}.{minor}"

    async def _load(self, body: AsyncIterable[bytes], on_layer: OnLayer | None) -> list[str]:
        url = (self._base / "images/load").with_query(quiet="0")
        headers = {"Content-Type": "application/x-tar"}
        messages = LoadMessages(self._name)
        loaded: list[str] = []

        def take(found: list[LayerProgress | Loaded]) -> None:
            for message in found:
                if isinstance(message, Loaded):
                    loaded.append(message.reference)
                elif on_layer is not None:
                    on_layer(message)

        async with self._request("POST", url, "loading the image", data=body, headers=headers) as response:
            async for data in response.content.iter_any():
                take(messages.feed(data))
        take(messages.finish())
        if not loaded:
            raise FailedPreconditionError(f"Docker engine {self._name} found no image in the archive")
        return loaded

    async def _call(self, method: str, path: str, what: str, query: dict[str, str] | None = None) -> bytes:
        url = URL(f"{self._base}/{path}", encoded=True).with_query(query)
        async with self._request(method, url, what) as response:
            return await read_body(response, _ANSWER_LIMIT)

    @asynccontextmanager
    async def _request(
        self, method: str, url: URL, what: str, **options: Any
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        what = f"Docker engine {self._name}: {what}"
        try:
            async with self._session.request(method, url, **options) as response:
                if response.status >= 300:
                    raise _refusal(response.status, await read_body(response, _ANSWER_LIMIT), what)
                yield response
        except (aiohttp.ClientError, OSError) as error:
            raise _broken(error, what, is_streamed="data" in options) from error


class ImageLoad:
    """An archive that is being loaded into the engine; created by `DockerEngine.load`."""

    def __init__(self, engine: DockerEngine, request: Sending[list[str]]) -> None:
        self._engine = engine
        self._request = request
        self._held = b""
        self.images: tuple[LoadedImage, ...] = ()

    async def write(self, data: bytes) -> None:
        """Send more of the archive, with backpressure from the engine.

        Raises:
            ExporterError: the engine rejected the archive or went away.
        """
        if data:
            # Hold back the last piece until `commit`: once the engine has the whole archive, it loads it.
            await self._request.write(self._held)
            self._held = data

    async def commit(self) -> None:
        """Finish the archive, wait until the engine has loaded it, and set `images`.

        Raises:
            ExporterError: the engine rejected the archive or went away. The archive was streamed, so it
            cannot
                be sent again.
        """
        await self._request.write(self._held)
        loaded = await self._request.finish()
        self.images = tuple([await self._describe(reference) for reference in loaded])

    async def _describe(self, reference: str) -> LoadedImage:
        if reference.startswith("sha256:"):
            return LoadedImage(reference, "")
        return LoadedImage(await self._engine.image_id(reference), reference)


def _report(messages: Iterable[LayerProgress | Pushed], on_layer: OnLayer | None) -> str:
    """Forward progress; return the digest if there is one."""
    digest = ""
    for message in messages:
        if isinstance(message, Pushed):
            digest = message.digest
        elif on_layer is not None:
            on_layer(message)
    return digest


async def _connector(address: EngineAddress) -> aiohttp.BaseConnector:
    if address.socket is not None:
        return aiohttp.UnixConnector(str(address.socket))
    tls = await run_in_thread(address.tls.context) if address.tls is not None else True
    return aiohttp.TCPConnector(ssl=tls)


def _refusal(status: int, body: bytes, what: str) -> ExporterError:
    text = (json_object(body) or {}).get("message", f"status {status}")
    message = f"{what}: {text}"
    if status in {401, 403}:
        return PermissionDeniedError(message)
    if status == 404:
        return NotFoundError(message)
    if status == 400:
        return InvalidArgumentError(message)
    return UnavailableError(message) if status >= 500 else FailedPreconditionError(message)


def _broken(error: Exception, what: str, *, is_streamed: bool) -> ExporterError:
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(cause, PermissionError):
        return PermissionDeniedError(
            f"{what}: permission denied; join the group `docker`, or run as a user who may use the socket"
        )
    reason = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
    if isinstance(error, aiohttp.ClientConnectorError):
        return UnavailableError(
            f"{what}: {reason}; is it running? DOCKER_HOST or a docker context says where"
        )
    hint = "; the archive was streamed and cannot be sent again: repeat the export" if is_streamed else ""
    return UnavailableError(f"{what}: the connection broke: {reason}{hint}")
