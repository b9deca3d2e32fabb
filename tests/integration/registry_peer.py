"""A real registry (docker-registry from apt), and a small proxy in front of it that misbehaves on demand."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import re
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from aiohttp import web
from yarl import URL

from tests.peers import require

_STARTING_SECONDS = 30
_PIECE = 64 << 10


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.asynccontextmanager
async def docker_registry(
    directory: Path, *, auth: Mapping[str, object] | None = None, tls: Mapping[str, object] | None = None
) -> AsyncIterator[str]:
    """Run a registry that keeps its data in `directory`; gives ``host:port``."""
    program = require("docker-registry", "docker-registry")
    port = free_port()
    # JSON is YAML.
    settings = {
        "version": 0.1,
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(directory / "data")}},
        "validation": {"manifests": {"urls": {"allow": ["^https://example.com/"]}}},
        "http": {"addr": f"127.0.0.1:{port}", **({"tls": tls} if tls else {})},
        **({"auth": auth} if auth else {}),
    }
    config = directory / "registry.yml"
    config.write_text(json.dumps(settings))
    with (directory / "registry.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            program, "serve", str(config), stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        async with asyncio.timeout(_STARTING_SECONDS):
            while not await _accepts(port):
                assert process.returncode is None, (directory / "registry.log").read_text()
                await asyncio.sleep(0.05)
        yield f"127.0.0.1:{port}"
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _accepts(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True


@dataclass
class Fault:
    """A fault that the proxy injects into the next `times` matching requests.

    Attributes:
        method: Of the requests.
        path: A pattern for path and query.
        status: Answer with this, and do not ask the registry.
        reset_after: Pass on so many bytes of a body that has them, then break the connection.
        keep: With `reset_after`: what was passed on is a request of its own, so that the registry keeps it.
            (docker-registry 2.8 refuses to go on with an upload when a request broke in its middle.)
        lose_answer: Pass on the whole request, then break the connection.
        cut_answer: Break the connection after so many bytes of the answer's body.
        at_least: Bytes of the body of requests that match.
    """

    method: str
    path: str
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    reset_after: int | None = None
    keep: bool = False
    lose_answer: bool = False
    cut_answer: int | None = None
    at_least: int = 0
    times: int = 1


@dataclass
class Seen:
    """A request that came to the proxy. `status` is 0 if the connection was broken."""

    method: str
    path: str
    headers: Mapping[str, str]
    status: int = 0
    received: int = 0


class FaultyProxy:
    """Forwards requests to a registry, injects faults, and records the requests."""

    def __init__(self, upstream: str) -> None:
        self.faults: list[Fault] = []
        self.seen: list[Seen] = []
        self.check: Callable[[web.BaseRequest], web.Response | None] = lambda _: None
        """Asked first: an answer to give in place of the registry's."""
        self.hold = asyncio.Event()
        """Bodies are only passed on while this is set."""
        self.hold.set()
        self._open = 0
        self._idle = asyncio.Condition()
        self.host = ""
        self._upstream = upstream
        self._moved: dict[str, str] = {}
        self._session: aiohttp.ClientSession

    def of(self, method: str, path: str) -> list[Seen]:
        return [seen for seen in self.seen if seen.method == method and re.search(path, seen.path)]

    async def idle(self) -> None:
        """Wait until no request is in flight."""
        async with self._idle:
            await self._idle.wait_for(lambda: self._open == 0)

    @contextlib.asynccontextmanager
    async def run(self) -> AsyncIterator[FaultyProxy]:
        async with aiohttp.ClientSession(auto_decompress=False) as self._session:
            runner = web.ServerRunner(web.Server(self._handle))
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self.host = f"127.0.0.1:{runner.addresses[0][1]}"
            try:
                yield self
            finally:
                self.hold.set()
                await runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        seen = Seen(request.method, request.path_qs, request.headers)
        self.seen.append(seen)
        self._open += 1
        try:
            answer = self.check(request)
            fault = None if answer is not None else self._fault(request)
            if fault is not None and fault.status is not None:
                answer = web.Response(status=fault.status, headers=fault.headers, body=fault.body)
            if answer is not None:
                seen.status = answer.status
                return answer
            return await self._forward(request, seen, fault)
        except (aiohttp.ClientError, ConnectionError):
            if request.transport is not None:
                request.transport.abort()
            return web.Response(status=502)  # to nobody
        finally:
            self._open -= 1
            async with self._idle:
                self._idle.notify_all()

    def _fault(self, request: web.BaseRequest) -> Fault | None:
        for fault in self.faults:
            is_long = (request.content_length or 0) >= max(fault.at_least, fault.reset_after or 0)
            matches = fault.method == request.method and re.search(fault.path, request.path_qs)
            if fault.times > 0 and matches and is_long:
                fault.times -= 1
                return fault
        return None

    async def _forward(self, request: web.BaseRequest, seen: Seen, fault: Fault | None) -> web.StreamResponse:
        if fault is not None and fault.keep:
            await self._forward_beginning(request, seen, fault.reset_after or 0)
            raise ConnectionResetError("cut by the test")
        limit = fault.reset_after if fault is not None else None
        body = self._body(request, seen, limit) if request.body_exists else None
        async with self._send(request, body) as upstream:
            if fault is not None and fault.lose_answer:
                await upstream.read()
                raise ConnectionResetError("cut by the test")
            seen.status = upstream.status
            response = web.StreamResponse(status=upstream.status, headers=upstream.headers)
            response.headers.popall("Transfer-Encoding", None)
            await response.prepare(request)
            left = fault.cut_answer if fault is not None else None
            async for data in upstream.content.iter_chunked(_PIECE):
                piece = data[:left]
                await response.write(piece)
                if left is not None:
                    left -= len(piece)
                    if left == 0:
                        raise ConnectionResetError("cut by the test")
            await response.write_eof()
            return response

    async def _forward_beginning(self, request: web.BaseRequest, seen: Seen, size: int) -> None:
        data = await request.content.readexactly(size)
        seen.received = size
        async with self._send(request, io.BytesIO(data)) as upstream:
            self._moved[request.path_qs] = URL(upstream.headers["Location"], encoded=True).raw_path_qs

    def _send(
        self, request: web.BaseRequest, body: io.BytesIO | AsyncIterator[bytes] | None
    ) -> contextlib.AbstractAsyncContextManager[aiohttp.ClientResponse]:
        headers = {**request.headers, "Host": self.host}
        if isinstance(body, io.BytesIO):
            headers["Content-Length"] = str(len(body.getbuffer()))
        path = self._moved.get(request.path_qs, request.path_qs)
        return self._session.request(
            request.method,
            URL(f"http://{self._upstream}{path}", encoded=True),
            headers=headers,
            data=body,
            allow_redirects=False,
        )

    async def _body(self, request: web.BaseRequest, seen: Seen, limit: int | None) -> AsyncIterator[bytes]:
        async for data in request.content.iter_any():
            await self.hold.wait()
            piece = data if limit is None else data[: limit - seen.received]
            seen.received += len(piece)
            yield piece
            if seen.received == limit:
                raise ConnectionResetError("cut by the test")
