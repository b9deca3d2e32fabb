"""Reading the vectors in tests/data/vectors."""

from __future__ import annotations

import base64
import gzip
import json
from functools import cache
from pathlib import Path
from typing import Any

Vector = dict[str, Any]

DATA = Path(__file__).parents[1] / "data" / "vectors"


@cache
def read_vectors(name: str) -> tuple[Vector, ...]:
    """The vectors of one file, such as ``visible`` or ``extra/time_json``."""
    with gzip.open(DATA / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
        return tuple(json.loads(line) for line in lines)


def decode(text: str | None) -> bytes | None:
    """Base64; None for null."""
    return None if text is None else base64.b64decode(text)


def encode(data: bytes) -> str:
    """Base64."""
    return base64.b64encode(data).decode()
