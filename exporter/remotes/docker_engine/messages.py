"""The stream of JSON messages with which a Docker engine answers while it loads an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from exporter.errors import ExporterError, FailedPreconditionError, ResourceExhaustedError, UnavailableError
from exporter.remotes.http.answers import json_object

_LOADED = "Loaded image: "
_LOADED_ID = "Loaded image ID: "
_LONGEST = 1 << 20


@dataclass(frozen=True, slots=True)
class LayerProgress:
    """How far the engine is with a layer. `layer` is its short name, `current` and `total` are bytes."""

    layer: str
    current: int
    total: int


@dataclass(frozen=True, slots=True)
class Loaded:
    """An image was loaded: `reference` is a name, or the ID of an image without one."""

    reference: str


class LoadMessages:
    """Takes the stream apart.

    Args:
        engine: For messages.
    """

    def __init__(self, engine: str) -> None:
        self._engine = engine
        self._rest = b""

    def feed(self, data: bytes) -> list[LayerProgress | Loaded]:
        """Take more of the stream.

        Raises:
            ExporterError: the engine says that it failed, or what it says makes no sense.
        """
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _LONGEST:
            raise UnavailableError(f"Docker engine {self._engine}: an answer has no end")
        return [message for line in lines for message in self._read(line)]

    def finish(self) -> list[LayerProgress | Loaded]:
        """Take what is left at the end of the stream.

        Raises:
            ExporterError: see `feed`.
        """
        return self._read(self._rest)

    def _read(self, line: bytes) -> list[LayerProgress | Loaded]:
        if not line.strip():
            return []
        message = json_object(line)
        if message is None:
            raise UnavailableError(f"Docker engine {self._engine}: an answer is no JSON object")
        if text := _error(message):
            raise self._failure(text)
        detail = message.get("progressDetail")
        if isinstance(detail, dict) and isinstance(layer := message.get("id"), str):
            return [LayerProgress(layer, _count(detail, "current"), _count(detail, "total"))]
        said = message.get("stream")
        for prefix in (_LOADED_ID, _LOADED):
            if isinstance(said, str) and said.startswith(prefix):
                return [Loaded(said.removeprefix(prefix).strip())]
        return []

    def _failure(self, text: str) -> ExporterError:
        message = f"Docker engine {self._engine} did not load the image: {text}"
        if "no space left on device" in text:
            return ResourceExhaustedError(message)
        return FailedPreconditionError(message)


def _error(message: dict[str, Any]) -> str:
    detail = message.get("errorDetail")
    text = detail.get("message") if isinstance(detail, dict) else None
    return str(text or message.get("error") or "")


def _count(detail: dict[str, Any], key: str) -> int:
    value = detail.get(key)
    return value if isinstance(value, int) else 0
