"""An image's history, and how it is fitted to the layers that the build actually made.

An entry holds its time as a `Time` or as canonical text, depending on which config reader made it. This
module only needs to know whether there is a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import msgspec

from exporter.errors import LayerChainError
from exporter.image.go.time import Time

C = TypeVar("C")

_COMMENT = "buildkit.exporter.image.v0"
_DESCRIPTION = "created by buildkit"


@dataclass(frozen=True, slots=True)
class LayerMetadata:
    """What the daemon knows about a layer: an item of a layer chain.

    Attributes:
        description: The step that created it, such as ``RUN make``; becomes ``created_by`` in the history.
        created_at: When it was created.
    """

    description: str = ""
    created_at: Time | None = None


@dataclass(frozen=True, slots=True)
class History:
    """An entry of an image's history, as defined by the OCI image specification.

    Attributes:
        created: When the step ran.
        created_by: The step.
        author: The author of the step.
        comment: The tool that wrote the entry, such as ``buildkit.dockerfile.v0``.
        empty_layer: Whether the step created no layer.
    """

    created: Time | None = None
    created_by: str = ""
    author: str = ""
    comment: str = ""
    empty_layer: bool = False


class HistoryEntry(msgspec.Struct, Generic[C], omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """A mutable entry. It is encoded as in Go: same key order, same omissions."""

    created: C | None = None
    created_by: str = ""
    author: str = ""
    comment: str = ""
    empty_layer: bool = False


def fit_history(
    history: list[HistoryEntry[C]] | None,
    layers: int,
    chain: Sequence[LayerMetadata] | None,
    stamp: Callable[[Time], C],
) -> list[HistoryEntry[C]] | None:
    """Make the history account for every layer, and give each entry a time if any has one.

    This is BuildKit's (and moby's) ``normalizeLayersAndHistory``.

    Args:
        history: The config's entries, changed in place. None if the config has no history, which is not the
            same as an empty one.
        layers: The number of layers.
        chain: The layers' metadata, base first. None if the build result has no ref.
        stamp: Converts a time of the chain to the type that the entries hold.

    Returns:
        The fitted history; None if there was none and nothing was added.

    Raises:
        LayerChainError: the chain is shorter than the list of layers, and one of the missing items is needed.
    """
    if chain is None:
        items, description = [LayerMetadata()] * layers, ""
    else:
        items, description = list(chain[max(len(chain) - layers, 0) :]), _DESCRIPTION
    filled = [entry for entry in history or () if not entry.empty_layer]
    if len(filled) > layers:
        for entry in filled[layers:]:
            entry.empty_layer = True
        del filled[layers:]
    elif len(filled) < layers:
        if len(filled) > len(items):
            raise LayerChainError(f"runtime error: slice bounds out of range [{len(filled)}:{len(items)}]")
        added: list[HistoryEntry[C]] = [
            HistoryEntry(created_by=item.description or description, comment=_COMMENT)
            for item in items[len(filled) :]
        ]
        if added:
            history = [*(history or ()), *added]
            filled += added
    for position, entry in enumerate(filled):
        if entry.created is None:
            if position >= len(items):
                raise LayerChainError(
                    f"runtime error: index out of range [{position}] with length {len(items)}"
                )
            created_at = items[position].created_at
            entry.created = None if created_at is None else stamp(created_at)
    if history is not None:
        _fill_in_times(history)
    return history


def _fill_in_times(history: list[HistoryEntry[C]]) -> None:
    """Give every entry without a time the time of a neighbour.

    The entries before the first new layer get that layer's time, not the older time of the base image's last
    layer.
    """
    timed = 0
    for entry in history:
        if entry.created is None:
            break
        timed += 1
    created = history[timed - 1].created if timed else None
    rest = history[timed:]
    for entry in rest:
        if entry.created is not None:
            created = entry.created
            break
    for entry in rest:
        if entry.created is None:
            entry.created = created
        else:
            created = entry.created


def last_created(history: list[HistoryEntry[C]] | None) -> C | None:
    """The time of the last entry that has one."""
    for entry in reversed(history or ()):
        if entry.created is not None:
            return entry.created
    return None
