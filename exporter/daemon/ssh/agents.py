"""The SSH agents of a build: the option `SSHAgent`, and opened agents."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from exporter.daemon.ssh.protocol import Agent, frame, frame_size
from exporter.errors import InvalidArgumentError, NotFoundError, PermissionDeniedError, UnavailableError

if TYPE_CHECKING:
    from exporter.daemon.ssh.keys import KeyRing

DEFAULT_ID = "default"
"""The default ID of ``RUN --mount=type=ssh``."""

AGENT_VARIABLE = "SSH_AUTH_SOCK"
"""The environment variable with the socket of the user's agent."""

CONNECT_SECONDS = 2.0
"""The timeout for connecting to an agent."""


@dataclass(frozen=True, slots=True)
class SSHAgent:
    """An SSH agent for a build.

    Attributes:
        id: Its ID in the build.
        paths: The socket of an agent, or files with private keys. If empty, the agent of ``$SSH_AUTH_SOCK``.
        is_raw: Whether the build has full access to the single socket in `paths`, which need not be an
            agent's. Otherwise, it can only list keys and sign with them.
    """

    id: str = DEFAULT_ID
    paths: Sequence[str] = ()
    is_raw: bool = False


@dataclass(frozen=True, slots=True)
class OpenAgent:
    """An opened agent: a running one, or keys in memory."""

    socket: str = ""
    keys: KeyRing | None = None
    is_raw: bool = False

    async def connect(self) -> Agent:
        """Open a connection.

        Raises:
            UnavailableError: the agent no longer listens.
        """
        if self.keys is not None:
            return self.keys
        return _ForwardedAgent(self.socket, *await self.dial())

    async def dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a raw connection to the socket.

        Raises:
            UnavailableError: nothing listens there any more.
        """
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                return await asyncio.open_unix_connection(self.socket)
        except OSError as error:
            raise _no_listener(self.socket, error) from error


class _ForwardedAgent:
    """A connection to a running agent."""

    def __init__(self, path: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._path = path
        self._reader = reader
        self._writer = writer

    async def answer(self, request: bytes) -> bytes:
        """See `Agent.answer`."""
        self._writer.write(frame(request))
        await self._writer.drain()
        try:
            return await self._reader.readexactly(frame_size(await self._reader.readexactly(4)))
        except EOFError as error:
            raise UnavailableError(f"the SSH agent at {self._path} has ended the connection") from error

    async def close(self) -> None:
        """See `Agent.close`."""
        self._writer.transport.abort()


def open_agent(agent: SSHAgent, environ: Mapping[str, str]) -> OpenAgent:
    """Check the paths, and read keys. Blocks.

    Raises:
        InvalidArgumentError: a path is neither a socket nor a supported key, or there is no path.
        NotFoundError, PermissionDeniedError: a path does not exist, or is not readable.
        UnavailableError: no agent listens at the socket.
    """
    if agent.is_raw and len(agent.paths) != 1:
        raise InvalidArgumentError("raw mode must supply exactly one socket path")
    paths = [path for path in agent.paths if path] or [environ.get(AGENT_VARIABLE, "")]
    if not paths[0]:
        raise InvalidArgumentError(
            f"there is no SSH agent: make sure {AGENT_VARIABLE} is set (ssh-agent), or name a socket or "
            "private keys"
        )
    sockets = [path for path in paths if _is_socket(path)]
    if not sockets and agent.is_raw:
        raise InvalidArgumentError(f"raw mode only supported with socket paths: {paths[0]} is a file")
    if not sockets:
        from exporter.daemon.ssh.keys import KeyRing

        return OpenAgent(keys=KeyRing.read(map(Path, paths)))
    if len(sockets) < len(paths):
        raise InvalidArgumentError(f"invalid combination of keys and sockets: {', '.join(paths)}")
    if len(sockets) > 1:
        raise InvalidArgumentError(f"only single socket allowed: {', '.join(paths)}")
    _check_listener(sockets[0])
    return OpenAgent(socket=sockets[0], is_raw=agent.is_raw)


def agents_by_id(agents: Sequence[SSHAgent], environ: Mapping[str, str]) -> dict[str, OpenAgent]:
    """Open several agents. Blocks.

    Raises:
        InvalidArgumentError: two have the same ID; otherwise, see `open_agent`.
    """
    found: dict[str, OpenAgent] = {}
    for agent in agents:
        name = agent.id or DEFAULT_ID
        if name in found:
            raise InvalidArgumentError(f"duplicate agent ID {name!r}: give each SSH agent an ID of its own")
        found[name] = open_agent(agent, environ)
    return found


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)  # noqa: PTH116 (the user's path, verbatim)
    except OSError as error:
        text = f"{path}: {(error.strerror or str(error)).lower()}"
        raise (PermissionDeniedError if isinstance(error, PermissionError) else NotFoundError)(
            text
        ) from error


def _check_listener(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(CONNECT_SECONDS)
        try:
            client.connect(path)
        except OSError as error:
            raise _no_listener(path, error) from error


def _no_listener(path: str, error: OSError) -> UnavailableError:
    reason = (
        "it does not answer" if isinstance(error, TimeoutError) else (error.strerror or str(error)).lower()
    )
    hint = " (has it ended?)" if error.errno in {errno.ECONNREFUSED, errno.ENOENT} else ""
    return UnavailableError(f"no SSH agent can be reached at {path}: {reason}{hint}")
