"""Reading HTTP responses."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import aiohttp

_PIECE = 64 << 10


def json_object(data: bytes) -> dict[str, Any] | None:
    """Parse an untrusted response as a JSON object; None if it is anything else."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


async def read_body(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """Read the body of a response, up to `limit` bytes."""
    data = bytearray()
    async for piece in response.content.iter_chunked(_PIECE):
        data += piece
        if len(data) >= limit:
            break
    return bytes(data[:limit])
