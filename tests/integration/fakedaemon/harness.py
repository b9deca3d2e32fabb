"""Starts the server and the daemon, each as a process, and watches them."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import urllib.request
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from exporter.content.layout import OCILayout
from exporter.exporters.registry import ENTRY_POINT_GROUP
from exporter.pb.buildkit.exporter.v1 import exporter_pb2 as pb
from exporter.pb.moby.buildkit.v1 import control_pb2
from tests.integration.fakedaemon.exporters import EXPORTERS

PATIENCE = 60.0
"""Seconds to wait for something that must happen. Machines are shared; a test that fails has time."""

_REPOSITORY = Path(__file__).parents[3]
_MAIN = "import sys; from exporter.cli.main import main; sys.exit(main())"


@dataclass(frozen=True)
class Outcome:
    """How a call ended, and all that it sent."""

    code: str
    message: str
    field: str | None
    reason: str | None
    progress: list[control_pb2.StatusResponse]
    result: pb.ExportResult | pb.FinalizeResult | None

    @classmethod
    def of(
        cls, answer: Mapping[str, Any], kind: type[pb.ExportResponse] | type[pb.FinalizeResponse]
    ) -> Outcome:
        events = [kind.FromString(base64.b64decode(event)) for event in answer["events"]]
        kinds = [event.WhichOneof("event") for event in events]
        if answer["code"] == "OK":
            assert kinds.count("result") == 1, "exactly one result"
            assert kinds[-1] == "result", "last"
        else:
            assert "result" not in kinds
        return cls(
            code=answer["code"],
            message=answer["message"],
            field=answer["field"],
            reason=answer["reason"],
            progress=[event.progress for event in events if event.HasField("progress")],
            result=events[-1].result if "result" in kinds else None,
        )

    @property
    def response(self) -> dict[str, str]:
        assert self.result is not None, f"{self.code}: {self.message}"
        return dict(self.result.response)

    @property
    def token(self) -> str:
        assert isinstance(self.result, pb.ExportResult), f"{self.code}: {self.message}"
        return self.result.finalize_token

    @property
    def vertexes(self) -> list[control_pb2.Vertex]:
        return [vertex for message in self.progress for vertex in message.vertexes]


async def eventually(condition: Callable[[], Any], what: str = "") -> Any:
    """Wait until a condition holds, and return its value."""
    try:
        async with asyncio.timeout(PATIENCE):
            while not (found := condition()):  # noqa: ASYNC110 - it happens in another process
                await asyncio.sleep(0.02)
            return found
    except TimeoutError:
        raise AssertionError(f"has not happened within {PATIENCE} s: {what or condition}") from None


class Server:
    """The server's process.

    Attributes:
        root: Its root directory.
        address: Its Unix socket.
        records: What it has logged.
    """

    def __init__(self, process: asyncio.subprocess.Process, directory: Path) -> None:
        self.process = process
        self.directory = directory
        self.root = directory / "root"
        self.address = f"unix:{directory}/s"
        self.records: list[dict[str, Any]] = []
        self.noise: list[str] = []

    @classmethod
    @asynccontextmanager
    async def running(cls, *flags: str, directory: Path | None = None) -> AsyncIterator[Server]:
        """Run a server; stop it with SIGTERM at the end, unless it has ended before.

        Args:
            flags: For ``buildkit-exporter serve``, in addition to those for address, root and log.
            directory: Of an earlier server whose root is to be used again.
        """
        own = directory or Path(tempfile.mkdtemp(prefix="bx-"))  # short: a socket's path has 107 bytes
        try:
            server = cls(await _spawn(own, flags), own)
            reader = asyncio.create_task(server._read_log())
            try:
                await server.logged("listening on")
                yield server
            finally:
                await server.stop()
                await reader
        finally:
            if directory is None:
                shutil.rmtree(own)

    async def logged(self, text: str) -> dict[str, Any]:
        """Wait for a line in the log."""

        def find() -> dict[str, Any] | None:
            for record in self.records:
                if text in record["msg"]:
                    return record
            assert self.process.returncode is None, "\n".join(self.noise)
            return None

        found: dict[str, Any] = await eventually(find, f"{text!r} in the log")
        return found

    async def bound(self, scheme: str) -> str:
        """The address that it listens on, as gRPC spells it."""
        record = await self.logged("listening on")
        match = re.search(rf"{scheme}://(\S+?)(?:,|$)", record["msg"])
        assert match is not None
        return match[1]

    async def metrics(self) -> dict[tuple[str, ...], float]:
        """What its metrics endpoint shows: values by name and label values, the latter sorted by label."""
        record = await self.logged("metrics on")
        url = record["msg"].removeprefix("metrics on ")
        with await asyncio.to_thread(urllib.request.urlopen, url, timeout=PATIENCE) as answer:
            text = (await asyncio.to_thread(answer.read)).decode()
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        return {(sample.name, *_label_values(sample.labels)): sample.value for sample in samples}

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def stop(self) -> int:
        """Send SIGTERM if it runs and wait for its end."""
        if self.process.returncode is None:
            self.process.terminate()
        return await self.ended()

    async def ended(self) -> int:
        """Wait for its end."""
        async with asyncio.timeout(PATIENCE):
            return await self.process.wait()

    def leftovers(self) -> list[str]:
        """Files that exist only during an operation."""
        scratch = [str(path) for path in self.root.glob("scratch/server-*/*")]
        staged = [str(path) for path in self.root.glob("*/.buildkit-exporter/*")]
        staged += [str(path) for path in self.root.glob("docker/staging/*")]
        temporary = [str(path) for path in (self.directory / "tmp").iterdir()]
        return scratch + staged + temporary

    async def blobs(self) -> set[str]:
        """The digests in its store."""
        return {info.digest for info in await (await OCILayout.open(self.root / "oci")).blobs()}

    async def _read_log(self) -> None:
        assert self.process.stderr is not None
        while line := await self.process.stderr.readline():
            try:
                self.records.append(json.loads(line))
            except ValueError:
                self.noise.append(line.decode(errors="replace").rstrip())


def _label_values(labels: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(value for _, value in sorted(labels.items()))


async def _spawn(directory: Path, flags: tuple[str, ...]) -> asyncio.subprocess.Process:
    plugins = directory / "plugins" / "test_exporters-1.0.dist-info"
    plugins.mkdir(parents=True, exist_ok=True)
    (plugins / "METADATA").write_text("Metadata-Version: 2.1\nName: test-exporters\nVersion: 1.0\n")
    lines = [f"{kind.type} = {kind.__module__}:{kind.__name__}" for kind in EXPORTERS]
    (plugins / "entry_points.txt").write_text("\n".join([f"[{ENTRY_POINT_GROUP}]", *lines]) + "\n")
    (directory / "tmp").mkdir(exist_ok=True)
    path = os.pathsep.join([str(_REPOSITORY), str(plugins.parent)])
    arguments = ("serve", "--addr", f"unix://{directory}/s", "--root", str(directory / "root"))
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        _MAIN,
        *arguments,
        "--log-format",
        "json",
        *flags,
        env={**os.environ, "PYTHONPATH": path, "TMPDIR": str(directory / "tmp")},
        stderr=asyncio.subprocess.PIPE,
        limit=1 << 24,
    )


class Daemon:
    """The daemon's process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.events: list[dict[str, Any]] = []
        self._numbers = itertools.count()
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._keys = (f"call-{number}" for number in itertools.count())

    @classmethod
    @asynccontextmanager
    async def connected(cls, target: str, **credentials: str) -> AsyncIterator[Daemon]:
        """Run a daemon that is connected to a server."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.integration.fakedaemon.daemon",
            cwd=_REPOSITORY,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=1 << 28,
        )
        daemon = cls(process)
        reader = asyncio.create_task(daemon._read())
        try:
            await daemon.do("connect", target=target, **credentials)
            yield daemon
        finally:
            await daemon.kill()
            await reader

    async def do(self, name: str, **arguments: Any) -> Any:
        """Send a command and return its result."""
        assert self.process.stdin is not None
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        self.process.stdin.write(json.dumps({"id": number, "do": name, **arguments}).encode() + b"\n")
        await self.process.stdin.drain()
        found = await answer
        assert "error" not in found, found["error"]
        return found["result"]

    async def export(self, request: pb.ExportRequest, *, key: str = "", **options: Any) -> Outcome:
        """Export; `options` as of the daemon's command."""
        encoded = base64.b64encode(request.SerializeToString()).decode()
        answer = await self.do("export", key=key or next(self._keys), request=encoded, **options)
        return Outcome.of(answer, pb.ExportResponse)

    async def finalize(self, token: str, *, key: str = "", **options: Any) -> Outcome:
        """Finalize; `options` as of the daemon's command."""
        answer = await self.do("finalize", key=key or next(self._keys), token=token, **options)
        return Outcome.of(answer, pb.FinalizeResponse)

    async def event(self, **wanted: Any) -> dict[str, Any]:
        """Wait for an event with these members."""

        def find() -> dict[str, Any] | None:
            return next((event for event in self.events if wanted.items() <= event.items()), None)

        found: dict[str, Any] = await eventually(find, f"event {wanted}")
        return found

    async def kill(self) -> None:
        """Kill the process, as if its machine had lost power."""
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()

    async def _read(self) -> None:
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            message = json.loads(line)
            if "id" in message:
                self._answers.pop(message["id"]).set_result(message)
            else:
                self.events.append(message)
        for answer in self._answers.values():
            answer.cancel()


@dataclass(frozen=True)
class Alive:
    """The tasks and files of the server."""

    tasks: tuple[str, ...]
    files: int


async def alive(daemon: Daemon) -> Alive:
    """Ask the server for its tasks and files."""
    response = (await daemon.export(pb.ExportRequest(type="test-introspecting"))).response
    return Alive(tuple(json.loads(response["tasks"])), int(response["files"]))


async def nothing_left(server: Server, daemon: Daemon, before: Alive) -> None:
    """Wait until the server is as it was before: no temporary file, task or open file more."""
    async with asyncio.timeout(PATIENCE):
        while True:
            now = await alive(daemon)
            left = server.leftovers()
            if not left and now.tasks == before.tasks and now.files <= before.files:
                return
            await asyncio.sleep(0.05)
