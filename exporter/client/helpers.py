"""Connection helpers: commands that carry a connection to a buildkitd that has no address on this machine.

A helper runs ``buildctl dial-stdio`` next to the daemon and speaks over its standard input and output, as
buildctl's own connection helpers do.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from exporter.errors import InvalidArgumentError, UnavailableError, os_error_text
from exporter.pb.moby.buildkit.v1 import control_pb2
from exporter.rpc.session.tunnel import CHUNK_SIZE

_DIAL = ("buildctl", "dial-stdio")
_KUBE_NAME = re.compile(r"[-a-z0-9.]+")

_ENDING_SECONDS = 2.0
_KEPT_LINES = 20
_KEPT_LINE_BYTES = 4 << 10


def helper_command(address: str) -> list[str] | None:
    """The command for an address; None if its scheme needs no helper.

    The schemes are ``docker-container://NAME[?context=CONTEXT]``, ``podman-container://NAME``,
    ``nerdctl-container://NAME[?namespace=NAMESPACE]``,
    ``kube-pod://POD[?context=…&namespace=…&container=…]`` and ``ssh://[USER@]HOST[:PORT][/SOCKET]``.

    Raises:
        InvalidArgumentError: the address is malformed.
    """
    url = urlsplit(address)
    match url.scheme:
        case "docker-container":
            name, query = _name(url, "container"), _query(url, "context")
            context = [f"--context={query['context']}"] if "context" in query else []
            return ["docker", *context, "exec", "-i", name, *_DIAL]
        case "podman-container":
            _query(url)
            return ["podman", "exec", "-i", _name(url, "container"), *_DIAL]
        case "nerdctl-container":
            name, query = _name(url, "container"), _query(url, "namespace")
            namespace = ["--namespace", query["namespace"]] if "namespace" in query else []
            return ["nerdctl", "exec", *namespace, "-i", name, *_DIAL]
        case "kube-pod":
            return _kubectl(url)
        case "ssh":
            return _ssh(url)
    return None


def _kubectl(url: SplitResult) -> list[str]:
    pod, query = _name(url, "pod"), _query(url, "context", "namespace", "container")
    for what, value in (("pod", pod), *query.items()):
        if what != "context" and not _KUBE_NAME.fullmatch(value):
            raise InvalidArgumentError(f"{url.geturl()}: {value!r} is not a valid {what} name")
    command = ["kubectl"]
    command += [f"--{key}={query[key]}" for key in ("context", "namespace") if key in query]
    command += ["exec"]
    command += [f"--container={query['container']}"] if "container" in query else []
    return [*command, "-i", pod, "--", *_DIAL]


def _ssh(url: SplitResult) -> list[str]:
    if url.password is not None:
        raise InvalidArgumentError(
            f"{url.scheme}://{url.hostname}: a password in the address is not supported; use a key"
        )
    host = _name(url, "host")
    _query(url)
    try:
        port = url.port
    except ValueError as error:
        raise InvalidArgumentError(f"{url.geturl()}: {error}") from error
    command = ["ssh"]
    command += ["-l", unquote(url.username)] if url.username else []
    command += ["-p", str(port)] if port is not None else []
    command += ["--", host, "buildctl"]
    command += ["--addr", f"unix://{url.path}"] if url.path else []
    return [*command, "dial-stdio"]


def _name(url: SplitResult, what: str) -> str:
    # `hostname` would be in lower case, but names of containers are not.
    name = unquote(url.netloc.rpartition("@")[2])
    if what == "host":
        name = url.hostname or ""
    if not name or name.startswith("-"):
        raise InvalidArgumentError(
            f"{url.geturl()}: the {what} is missing; write {url.scheme}://{what.upper()}"
        )
    return name


def _query(url: SplitResult, *known: str) -> dict[str, str]:
    found = {key: values[-1] for key, values in parse_qs(url.query).items()}
    if unknown := found.keys() - set(known):
        takes = f"it takes {', '.join(known)}" if known else "it takes no parameters"
        raise InvalidArgumentError(f"{url.geturl()}: unknown parameter {min(unknown)!r}; {takes}")
    if url.fragment:
        raise InvalidArgumentError(f"{url.geturl()}: unexpected {'#' + url.fragment!r}")
    return found


class HelperStream:
    """The standard input and output of a helper as a `MessageStream`."""

    def __init__(self, process: asyncio.subprocess.Process, command: list[str]) -> None:
        assert process.stdin is not None and process.stdout is not None
        self._process = process
        self._command = command
        self._stdin, self._stdout = process.stdin, process.stdout
        self._said: deque[str] = deque(maxlen=_KEPT_LINES)

    async def read(self) -> control_pb2.BytesMessage | None:
        """See `MessageStream.read`."""
        data = await self._stdout.read(CHUNK_SIZE)
        return control_pb2.BytesMessage(data=data) if data else None

    async def write(self, message: control_pb2.BytesMessage, /) -> None:
        """See `MessageStream.write`."""
        self._stdin.write(message.data)
        await self._stdin.drain()

    async def keep_stderr(self) -> None:
        """Read standard error until its end, and keep the last lines for `explain`."""
        assert self._process.stderr is not None
        while True:
            try:
                line = await self._process.stderr.readline()
            except ValueError:  # a line longer than the reader's limit; the rest follows
                continue
            if not line:
                return
            self._said.append(line[:_KEPT_LINE_BYTES].decode("utf-8", "replace").rstrip())

    async def explain(self) -> str:
        """Say why the helper does not carry a connection."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), _ENDING_SECONDS)
        said = "\n".join(line for line in self._said if line)
        status = self._process.returncode
        ended = "is still running" if status is None else f"has ended with status {status}"
        return f"`{' '.join(self._command)}` {ended}{': ' + said if said else ''}"


@asynccontextmanager
async def run_helper(command: list[str]) -> AsyncIterator[HelperStream]:
    """Run a helper. When the block ends, the process has ended too.

    Raises:
        UnavailableError: the program cannot be started.
    """
    loop = asyncio.get_running_loop()
    try:
        transport, protocol = await loop.subprocess_exec(
            lambda: asyncio.subprocess.SubprocessStreamProtocol(limit=CHUNK_SIZE, loop=loop),
            *command,
            # Ctrl-C is for the caller, who still has to cancel the build through this connection.
            start_new_session=True,
        )
    except OSError as error:
        missing = f"; is {command[0]} installed?" if isinstance(error, FileNotFoundError) else ""
        raise UnavailableError(f"cannot run {os_error_text(error)}{missing}") from error
    process = asyncio.subprocess.Process(transport, protocol, loop)
    stream = HelperStream(process, command)
    errors = asyncio.create_task(stream.keep_stderr(), name=f"errors of {command[0]}")
    try:
        yield stream
    finally:
        await _end(process)
        errors.cancel()
        await asyncio.wait((errors,))
        transport.close()  # a grandchild may still hold the pipes


async def _end(process: asyncio.subprocess.Process) -> None:
    assert process.stdin is not None
    process.stdin.close()
    for stop in (process.terminate, process.kill):
        if process.returncode is not None:
            break
        try:
            async with asyncio.timeout(_ENDING_SECONDS):
                await process.wait()
        except TimeoutError:
            with suppress(ProcessLookupError):
                stop()
    await process.wait()
