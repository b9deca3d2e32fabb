"""Rewriting a daemon's build history: substitutes become the exporters that clients requested."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from exporter.pb.moby.buildkit.v1 import control_pb2

ORIGIN_ATTRIBUTE = "buildkit-exporter.origin"
"""The attribute of a substitute with its origin; the daemon keeps it in the build's record."""

_IMAGE_TYPES = frozenset({"docker", "image", "oci", "registry"})


@dataclass(frozen=True, slots=True)
class Origin:
    """The exporter that the client requested.

    Attributes:
        index: Its index among the client's exporters.
        type: The type, as the client wrote it.
        attrs: Its attributes.
    """

    index: int
    type: str
    attrs: Mapping[str, str]

    def attributes(self) -> dict[str, str]:
        """The attributes that record it."""
        return {ORIGIN_ATTRIBUTE: msgspec.json.encode(self, order="sorted").decode()}

    @classmethod
    def of(cls, exporter: control_pb2.Exporter) -> Origin | None:
        """The origin of an exporter in a record; None if it is not a substitute."""
        try:
            return msgspec.json.decode(exporter.Attrs.get(ORIGIN_ATTRIBUTE, ""), type=cls)
        except (msgspec.DecodeError, UnicodeEncodeError):
            return None


def restore_record(record: control_pb2.BuildHistoryRecord) -> None:
    """Restore the client's request in a record: exporters, their order, and which of them created images.

    The image of a substitute for an image exporter is the requested image. Images of other substitutes are
    removed, since a daemon's history does not have results for files.

    Args:
        record: The daemon's record, which is changed.
    """
    origins = [Origin.of(exporter) for exporter in record.Exporters]
    if not any(origins):
        return
    places = _places(origins)
    restored: dict[int, control_pb2.Exporter] = {}
    for position, (exporter, origin) in enumerate(zip(record.Exporters, origins, strict=True)):
        restored[places[position]] = (
            exporter if origin is None else control_pb2.Exporter(Type=origin.type, Attrs=dict(origin.attrs))
        )
    exporters = [restored[place] for place in sorted(restored)]
    hidden = {places[i] for i, o in enumerate(origins) if o is not None and o.type not in _IMAGE_TYPES}
    for info in (record.Result, *record.Results.values()):
        results = {places.get(i, i): result for i, result in info.Results.items()}
        results = {place: result for place, result in results.items() if place not in hidden}
        if info.Results:
            info.Results.clear()
            for place, result in results.items():
                info.Results[place].CopyFrom(result)
            if results:
                info.ResultDeprecated.CopyFrom(results[min(results)])
            else:
                info.ClearField("ResultDeprecated")
    del record.Exporters[:]
    record.Exporters.extend(exporters)


def _places(origins: list[Origin | None]) -> dict[int, int]:
    """Map the daemon's indices of a record's exporters to the client's.

    Substitutes have recorded theirs. The others have kept their order, and get the remaining indices.
    """
    taken = {origin.index for origin in origins if origin is not None}
    free = iter(index for index in range(len(origins) + len(taken) + 1) if index not in taken)
    return {
        position: next(free) if origin is None else origin.index for position, origin in enumerate(origins)
    }
