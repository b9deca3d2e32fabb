"""The stream of JSON messages that a Docker engine sends while it loads or pushes an image."""

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
"""How a registry's errors, which the engine forwards, begin if credentials are wrong or missing."""


@dataclass(frozen=True, slots=True)
class LayerProgress:
    """The engine's progress with a layer. `layer` is its short name; `current` and `total` are bytes."""

    layer: str
    current: int
    total: int


@dataclass(frozen=True, slots=True)
class Loaded:
    """An image was loaded. `reference` is its name, or its ID if it has no name."""

    reference: str


@dataclass(frozen=True, slots=True)
class Pushed:
    """An image was pushed. `digest` is its manifest's digest."""

    digest: str


M = TypeVar("M")


class EngineMessages(ABC, Generic[M]):
    """Parses the stream.

    Args:
        engine: The engine's address, for messages.
    """

    def __init__(self, engine: str) -> None:
        self._engine = engine
        self._rest = b""

    def feed(self, data: bytes) -> list[LayerProgress | M]:
        """Parse more of the stream.

        Raises:
            ExporterError: the engine reports a failure, or a message is malformed.
        """
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _LONGEST:
            raise UnavailableError(f"Docker engine {self._engine}: a message in its response is too long")
        return [message for line in lines for message in self._read(line)]

    def finish(self) -> list[LayerProgress | M]:
        """Parse the rest at the end of the stream.

        Raises:
            ExporterError: see `feed`.
        """
        return self._read(self._rest)

    def _read(self, line: bytes) -> list[LayerProgress | M]:
        if not line.strip():
            return []
        message = json_object(line)
        if message is None:
            raise UnavailableError(
                f"Docker engine {self._engine}: a message in its response is not a JSON object"
            )
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
        """The completed operation, if the message reports one."""

    @abstractmethod
    def _failure(self, text: str) -> ExporterError:
        """The error for a failure that the engine reports."""


class LoadMessages(EngineMessages[Loaded]):
    """The messages of ``POST /images/load``."""

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
    """The messages of ``POST /images/NAME/push``."""

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
