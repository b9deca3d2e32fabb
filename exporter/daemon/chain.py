"""Reconstructing layer chains from a daemon's cache records (``Control.DiskUsage``).

A usage record names its parents, but not whether it is a layer on top of its parent, a merge of its parents,
or the difference of two. We consider all possible readings of each record, and choose the one with as many
layers as the image has (upstream: ``cache.immutableRef.layerWalk``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from exporter.errors import FailedPreconditionError, NotFoundError
from exporter.image import Time
from exporter.pb.moby.buildkit.v1 import control_pb2
from exporter.remotes.messages.layers import time_of
from exporter.source.types import Layer, LayerChain

_MAX_ALIKE = 8
_MAX_READINGS = 128
_MAX_MERGED = 48
"""The maximum number of readings kept: of a record per number of layers, of a record in total, and of each
parent of a merge. The likeliest are kept. Real builds do not have more."""

_MAX_LAYERS = 1000
"""The maximum length of a chain whose length is unknown."""

_UNLIKELY = 1
_CONTRADICTED = 4
"""The costs of a reading: the structure makes it unlikely; the record's description contradicts it."""


@dataclass(frozen=True, slots=True)
class UsageRecord:
    """The parts of a cache record that matter for chains.

    Attributes:
        id: Its ID.
        parents: The IDs of its parents; for a merge, all merged records; for a difference, lower and upper.
        description: The step that created it.
        created_at: When it was created, or pulled.
    """

    id: str
    parents: tuple[str, ...] = ()
    description: str = ""
    created_at: Time | None = None

    def layer(self) -> Layer:
        """The record as a layer of a chain."""
        return Layer(self.id, self.description, self.created_at)


@dataclass(frozen=True, slots=True)
class RebuiltChain:
    """A chain, and alternatives that match the records equally well.

    Attributes:
        layers: The layers, base first.
        rivals: The chains of other readings that match equally well.
    """

    layers: LayerChain
    rivals: tuple[LayerChain, ...] = ()

    @property
    def is_certain(self) -> bool:
        """Whether no other reading matches equally well."""
        return not self.rivals


@dataclass(frozen=True, slots=True)
class _Reading:
    cost: int
    ids: tuple[str, ...]


def usage_records(response: control_pb2.DiskUsageResponse) -> dict[str, UsageRecord]:
    """The records of a response by ID. Old daemons, including dockerd 20.10, only name one parent."""
    records = {}
    for message in response.record:
        parents = tuple(message.Parents) or ((message.Parent,) if message.Parent else ())
        created_at = None
        if message.HasField("CreatedAt"):
            created_at = time_of(message.CreatedAt, "record.CreatedAt")
        records[message.ID] = UsageRecord(message.ID, parents, message.Description, created_at)
    return records


def rebuild_chain(
    ref_id: str,
    records: Mapping[str, UsageRecord],
    *,
    layers: int | None = None,
    created: Sequence[Time | None] = (),
) -> RebuiltChain:
    """Reconstruct the layer chain of a ref.

    Args:
        ref_id: The ref's ID.
        records: The records by ID, including the ref and its ancestors.
        layers: The number of the image's layers. None chooses the likeliest reading.
        created: The creation times of the layers in the image's history, base first, where known. They
            break ties between readings.

    Raises:
        NotFoundError: a record is missing.
        FailedPreconditionError: no reading has that many layers.
    """
    readings = _read(ref_id, records, _MAX_LAYERS if layers is None else layers)
    found = [reading for reading in readings if layers is None or len(reading.ids) == layers]
    if not found:
        counts = " or ".join(map(str, sorted({len(reading.ids) for reading in readings}))) or "too many"
        raise FailedPreconditionError(
            f"the daemon's cache records make {counts} layers of ref {ref_id}, but the image has {layers}"
        )
    ranked = sorted((_mismatches(r.ids, records, created), r.cost, r.ids) for r in found)
    best, *rivals = (
        tuple(records[layer_id].layer() for layer_id in ids)
        for *cost, ids in ranked
        if cost == [*ranked[0][:2]]
    )
    return RebuiltChain(best, tuple(rivals))


def lacks_records(ref_ids: Iterable[str], records: Mapping[str, UsageRecord]) -> bool:
    """Whether records of these refs, or of their ancestors, are missing."""
    pending, seen = list(ref_ids), set[str]()
    while pending:
        record_id = pending.pop()
        if record_id in seen:
            continue
        if record_id not in records:
            return True
        seen.add(record_id)
        pending.extend(records[record_id].parents)
    return False


def mismatched_times(chain: LayerChain, created: Sequence[Time | None]) -> int:
    """The number of layers whose known creation time differs from that in the image's history."""
    return sum(
        layer.created_at is not None and time is not None and not _same_instant(layer.created_at, time)
        for layer, time in zip(chain, created, strict=False)
    )


def _mismatches(
    ids: Sequence[str], records: Mapping[str, UsageRecord], created: Sequence[Time | None]
) -> int:
    return mismatched_times(tuple(records[layer_id].layer() for layer_id in ids), created)


def _same_instant(one: Time, other: Time) -> bool:
    return (one.unix, one.nanosecond) == (other.unix, other.nanosecond)


def _read(ref_id: str, records: Mapping[str, UsageRecord], limit: int) -> list[_Reading]:
    """The readings of a record with at most `limit` layers."""
    done: dict[str, list[_Reading]] = {}
    for record in _ancestors_first(ref_id, records):  # chains are too long for recursion
        done[record.id] = _best(_readings_of(record, records, done, limit))
    return done[ref_id]


def _best(readings: Iterable[_Reading]) -> list[_Reading]:
    """The likeliest readings without duplicates, the likeliest first."""
    cheapest: dict[tuple[str, ...], _Reading] = {}
    for reading in readings:
        known = cheapest.get(reading.ids)
        if known is None or reading.cost < known.cost:
            cheapest[reading.ids] = reading
    alike: Counter[int] = Counter()
    best = []
    for reading in sorted(cheapest.values(), key=lambda reading: reading.cost):
        alike[len(reading.ids)] += 1
        if alike[len(reading.ids)] <= _MAX_ALIKE:
            best.append(reading)
    return best[:_MAX_READINGS]


def _ancestors_first(ref_id: str, records: Mapping[str, UsageRecord]) -> Iterator[UsageRecord]:
    seen: set[str] = set()
    pending = [(ref_id, False)]
    while pending:
        record_id, is_expanded = pending.pop()
        if is_expanded:
            yield records[record_id]
            continue
        if record_id in seen:
            continue
        if record_id not in records:
            raise NotFoundError(f"the daemon's cache has no record {record_id} (any more)")
        seen.add(record_id)
        pending.append((record_id, True))
        pending.extend((parent, False) for parent in records[record_id].parents)


def _readings_of(
    record: UsageRecord,
    records: Mapping[str, UsageRecord],
    done: Mapping[str, Sequence[_Reading]],
    limit: int,
) -> Iterator[_Reading]:
    own = record.id
    looks_like_diff = record.description.startswith("diff ")
    match record.parents:
        case ():
            yield _Reading(0, (own,))
        case (parent,):
            for below in done[parent]:
                if len(below.ids) < limit:
                    yield _Reading(below.cost + _CONTRADICTED * looks_like_diff, (*below.ids, own))
            # A difference from the empty file system.
            yield _Reading(0 if looks_like_diff else _CONTRADICTED, (own,))
        case (lower, upper):
            looks_like_merge = _looks_like_merge(record.description)
            is_step = records[upper].parents == (lower,)
            merge_cost = _CONTRADICTED * looks_like_diff + _UNLIKELY * is_step
            yield from _merge([done[lower], done[upper]], merge_cost, limit)
            # A difference by a single layer is that layer; any other is a new layer.
            yield _Reading(_CONTRADICTED * looks_like_merge, (upper if is_step else own,))
        case _:
            yield from _merge([done[parent] for parent in record.parents], 0, limit)


def _looks_like_merge(description: str) -> bool:
    """Whether it describes a merge: LLB's default, or the Dockerfile frontend's for ``--link``."""
    return description.startswith("merge ") or "] LINK " in description


def _merge(parents: Sequence[Sequence[_Reading]], cost: int, limit: int) -> Sequence[_Reading]:
    """A merge is the concatenation of its parents' chains."""
    partial: Sequence[_Reading] = [_Reading(cost, ())]
    for parent in parents:
        partial = _best(
            _Reading(before.cost + after.cost, before.ids + after.ids)
            for before in partial[:_MAX_MERGED]
            for after in parent[:_MAX_MERGED]
            if len(before.ids) + len(after.ids) <= limit
        )
    return partial
