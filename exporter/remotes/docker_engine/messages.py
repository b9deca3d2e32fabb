"""The stream of JSON messages with which a Docker engine answers while it loads or pushes an image."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from exporter.errors import (
    ExporterError,
    FailedPreconditionError,
    PermissionDeniedError,
    ResourceExhaustedError,
    UnavailableError,
)
from exporter.remotes.http.answers import json_object

_LOADED = "Loaded image: "
_LOADED_ID = "Loaded image ID: "
_LONGEST = 1 << 20
_REFUSED = ("unauthorized", "denied", "authentication required")
"""How errors of registries begin, which the engine passes on, where credentials are wrong or missing."""


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


@dataclass(frozen=True, slots=True)
class Pushed:
    """An image was pushed: `digest` is that of its manifest."""

    digest: str


M = TypeVar("M")


class EngineMessages(ABC, Generic[M]):
    """Takes the stream apart.

    Args:
        engine: For messages.
    """

    def __init__(self, engine: str) -> None:
        self._engine = engine
        self._rest = b""

    def feed(self, data: bytes) -> list[LayerProgress | M]:
        """Take more of the stream.

        Raises:
            ExporterError: the engine says that it failed, or what it says makes no sense.
        """
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _LONGEST:
            raise UnavailableError(f"Docker engine {self._engine}: an answer has no end")
        return [message for line in lines for message in self._read(line)]

    def finish(self) -> list[LayerProgress | M]:
        """Take what is left at the end of the stream.

        Raises:
            ExporterError: see `feed`.
        """
        return self._read(self._rest)

    def _read(self, line: bytes) -> list[LayerProgress | M]:
        if not line.strip():
            return []
        message = json_object(line)
        if message is None:
            raise UnavailableError(f"Docker engine {self._engine}: an answer is not a JSON object")
        if text := _error(message):
            raise self._failure(text)
        if (done := self._done(message)) is not None:
            return [done]
        detail = message.get("progressDetail")
        if isinstance(detail, dict) and isinstance(layer := message.get("id"), str):
            return [LayerProgress(layer, _count(detail, "current"), _count(detail, "total"))]
        return []

    @abstractmethod
    def _done(self, message: dict[str, Any]) -> M | None:
        """What the message says has been done, if it says so."""

    @abstractmethod
    def _failure(self, text: str) -> ExporterError:
        """What the engine failed with."""


class LoadMessages(EngineMessages[Loaded]):
    """Of ``POST /images/load``."""

    def _done(self, message: dict[str, Any]) -> Loaded | None:
        said = message.get("stream")
        for prefix in (_LOADED_ID, _LOADED):
            if isinstance(said, str) and said.startswith(prefix):
                return Loaded(said.removeprefix(prefix).strip())
        return None

    def _failure(self, text: str) -> ExporterError:
        message = f"Docker engine {self._engine} did not load the image: {text}"
        if "no space left on device" in text:
            return ResourceExhaustedError(message)
        return FailedPreconditionError(message)


class PushMessages(EngineMessages[Pushed]):
    """Of ``POST /images/NAME/push``."""

    def _done(self, message: dict[str, Any]) -> Pushed | None:
        aux = message.get("aux")
        digest = aux.get("Digest") if isinstance(aux, dict) else None
        return Pushed(digest) if isinstance(digest, str) else None

    def _failure(self, text: str) -> ExporterError:
        message = f"Docker engine {self._engine} did not push the image: {text}"
        is_refused = text.startswith(_REFUSED) or "no basic auth credentials" in text
        return PermissionDeniedError(message) if is_refused else UnavailableError(message)


def _error(message: dict[str, Any]) -> str:
    detail = message.get("errorDetail")
    text = detail.get("message") if isinstance(detail, dict) else None
    return str(text or message.get("error") or "")


def _count(detail: dict[str, Any], key: str) -> int:
    value = detail.get(key)
    return value if isinstance(value, int) else 0
