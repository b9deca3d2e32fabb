"""The configuration of a containerd."""

from __future__ import annotations

import re
from dataclasses import dataclass

from exporter.errors import InvalidArgumentError

_IDENTIFIER = re.compile(r"[A-Za-z0-9]+(?:[._-][A-Za-z0-9]+)*", re.ASCII)
_IDENTIFIER_LENGTH = 76


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerdConfig:
    """An operator's configuration of a containerd.

    Attributes:
        address: The address of its socket: an absolute path, or ``unix:///PATH``.
        namespace: The namespace for images.
        snapshotter: The snapshotter for ``unpack=true``.

    Raises:
        InvalidArgumentError: an option is invalid; ``field`` has its name.
    """

    address: str
    namespace: str = "default"
    snapshotter: str = "overlayfs"

    def __post_init__(self) -> None:
        if not self.socket.startswith("/"):
            raise InvalidArgumentError(
                f"{self.address!r} is not the address of a containerd: use the absolute path of its socket, "
                "such as /run/containerd/containerd.sock",
                field="containerd",
            )
        _check_identifier(self.namespace, "containerd_namespace", "namespace")
        _check_identifier(self.snapshotter, "containerd_snapshotter", "snapshotter")

    @property
    def socket(self) -> str:
        """The path of the socket."""
        return self.address.removeprefix("unix://")


def _check_identifier(text: str, field: str, what: str) -> None:
    """Check an identifier by containerd's rule (``pkg/identifiers``)."""
    if len(text) > _IDENTIFIER_LENGTH or not _IDENTIFIER.fullmatch(text):
        raise InvalidArgumentError(
            f"{text!r} is not a valid name for a containerd {what}: use up to {_IDENTIFIER_LENGTH} letters "
            "and digits, with single dots, dashes or underscores between them",
            field=field,
        )
