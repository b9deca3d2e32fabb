"""Reading what HTTP services answer."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import aiohttp

_PIECE = 64 << 10


def json_object(data: bytes) -> dict[str, Any] | None:
    """Read a JSON object; None if it is anything else. For answers that nobody vouches for."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


async def read_body(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """Read the body of an answer, or so many bytes of it."""
    data = bytearray()
    async for piece in response.content.iter_chunked(_PIECE):
        data += piece
        if len(data) >= limit:
            break
    return bytes(data[:limit])
