"""The subset of the SSH agent protocol that builds may use (draft-ietf-sshm-ssh-agent).

Requests and responses are frames: a length of four bytes, a byte with the type, and the payload.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from exporter.errors import InvalidArgumentError

MAX_FRAME_BYTES = 256 << 10
"""The maximum length of a frame, as in OpenSSH."""

REQUEST_IDENTITIES = 11
IDENTITIES_ANSWER = 12
SIGN_REQUEST = 13
SIGN_RESPONSE = 14

FAILURE = bytes([5])
EXTENSION_FAILURE = bytes([28])

_LENGTH_BYTES = 4


class Agent(Protocol):
    """One connection to an agent."""

    async def answer(self, request: bytes) -> bytes:
        """Answer a request. Both are the contents of frames, without lengths.

        Raises:
            ExporterError, OSError: the agent has disconnected.
        """
        ...

    async def close(self) -> None:
        """Close the connection."""
        ...


async def answer_read_only(agent: Agent, request: bytes) -> bytes:
    """Let a build only list keys and sign with them, like BuildKit's clients."""
    match request[:1]:
        case b"\x0b" | b"\x0d":  # REQUEST_IDENTITIES, SIGN_REQUEST
            return await agent.answer(request)
        case b"\x1b":  # EXTENSION
            return EXTENSION_FAILURE
        case _:
            return FAILURE


class FrameReader:
    """Assembles frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Add received data, and yield the contents of complete frames.

        Raises:
            InvalidArgumentError: a frame is too long.
        """
        self._buffer += data
        while len(self._buffer) >= _LENGTH_BYTES:
            size = frame_size(self._buffer)
            end = _LENGTH_BYTES + size
            if len(self._buffer) < end:
                return
            frame = bytes(self._buffer[_LENGTH_BYTES:end])
            del self._buffer[:end]
            yield frame


def frame_size(head: bytes | bytearray) -> int:
    """Parse the length in a frame's first four bytes.

    Raises:
        InvalidArgumentError: the frame is too long.
    """
    size = int.from_bytes(head[:_LENGTH_BYTES], "big")
    if size > MAX_FRAME_BYTES:
        raise InvalidArgumentError(f"a message of {size} bytes is too long for SSH agents")
    return size


def frame(content: bytes) -> bytes:
    """Prefix a frame's contents with the length. This also encodes a string (RFC 4251, section 5)."""
    return len(content).to_bytes(_LENGTH_BYTES, "big") + content


def read_string(data: bytes) -> tuple[bytes, bytes]:
    """Read a string from the beginning; returns it and the rest.

    Raises:
        ValueError: the data is truncated.
    """
    end = _LENGTH_BYTES + int.from_bytes(data[:_LENGTH_BYTES], "big")
    if len(data) < max(end, _LENGTH_BYTES):
        raise ValueError("a string is cut off")
    return data[_LENGTH_BYTES:end], data[end:]
