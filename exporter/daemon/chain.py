"""Rebuilding layer chains from what a daemon tells about its cache (``Control.DiskUsage``).

A usage record names its parents, but not whether it is a layer on top of its parent, a merge of its parents,
or the difference of two. A chain is found by reading each record in the ways that it can be read, and by
taking the reading that gives as many layers as the image has (upstream: ``cache.immutableRef.layerWalk``).
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
"""Readings kept of one record for one number of layers, of one record, and of each parent of a merge: the
likely ones. Records that can be read in so many ways are nothing that a build makes."""

_MAX_LAYERS = 1000
"""Longest chain, where it is not known how long it is."""

_UNLIKELY = 1
_CONTRADICTED = 4
"""Costs of a reading: the structure speaks against it; the record's description does."""


@dataclass(frozen=True, slots=True)
class UsageRecord:
    """A record of a daemon's cache, as far as chains go.

    Attributes:
        id: Its ID.
        parents: Of a merge, all that were merged; of a difference, lower and upper.
        description: What made it.
        created_at: When; of a pulled layer, when it was pulled.
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
    """A chain, and the others that the records allow.

    Attributes:
        layers: Base first.
        rivals: Chains of other readings that are as good as this one.
    """

    layers: LayerChain
    rivals: tuple[LayerChain, ...] = ()

    @property
    def is_certain(self) -> bool:
        """Whether no other reading is as good as this one."""
        return not self.rivals


@dataclass(frozen=True, slots=True)
class _Reading:
    cost: int
    ids: tuple[str, ...]


def usage_records(response: control_pb2.DiskUsageResponse) -> dict[str, UsageRecord]:
    """The records of an answer, by ID. Old daemons, dockerd 20.10 among them, name only one parent."""
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
    """Rebuild the layer chain of a ref.

    Args:
        ref_id: The ref's ID.
        records: By ID; the ref and its ancestors are among them.
        layers: How many layers the image has. None takes the likeliest reading.
        created: The times of the layers in the image's history, base first, as far as it has them; they
            decide between readings that are equally good otherwise.

    Raises:
        NotFoundError: a record is missing.
        FailedPreconditionError: no reading gives that many layers.
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
    """How many layers were made at another time than the image's history says, as far as both are known."""
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
    """The readings of a record, none of them longer than the limit."""
    done: dict[str, list[_Reading]] = {}
    for record in _ancestors_first(ref_id, records):  # chains are too long for recursion
        done[record.id] = _best(_readings_of(record, records, done, limit))
    return done[ref_id]


def _best(readings: Iterable[_Reading]) -> list[_Reading]:
    """The likeliest readings, without doubles; the likeliest first."""
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
            # A difference whose other side is the empty file system.
            yield _Reading(0 if looks_like_diff else _CONTRADICTED, (own,))
        case (lower, upper):
            looks_like_merge = _looks_like_merge(record.description)
            is_step = records[upper].parents == (lower,)
            merge_cost = _CONTRADICTED * looks_like_diff + _UNLIKELY * is_step
            yield from _merge([done[lower], done[upper]], merge_cost, limit)
            # A difference of one layer is that layer; any other is a layer of its own.
            yield _Reading(_CONTRADICTED * looks_like_merge, (upper if is_step else own,))
        case _:
            yield from _merge([done[parent] for parent in record.parents], 0, limit)


def _looks_like_merge(description: str) -> bool:
    """Whether a merge was described by default: by LLB, or by the Dockerfile frontend for ``--link``."""
    return description.startswith("merge ") or "] LINK " in description


def _merge(parents: Sequence[Sequence[_Reading]], cost: int, limit: int) -> Sequence[_Reading]:
    """A merge is its parents' chains one after the other."""
    partial: Sequence[_Reading] = [_Reading(cost, ())]
    for parent in parents:
        partial = _best(
            _Reading(before.cost + after.cost, before.ids + after.ids)
            for before in partial[:_MAX_MERGED]
            for after in parent[:_MAX_MERGED]
            if len(before.ids) + len(after.ids) <= limit
        )
    return partial
