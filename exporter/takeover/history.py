"""A daemon's build history, with the exporters that clients asked for instead of their substitutes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from exporter.pb.moby.buildkit.v1 import control_pb2

ORIGIN_ATTRIBUTE = "buildkit-exporter.origin"
"""Attribute of a substitute that says what it stands for; the daemon keeps it in the build's record."""

_IMAGE_TYPES = frozenset({"docker", "image", "oci", "registry"})


@dataclass(frozen=True, slots=True)
class Origin:
    """What the client asked for.

    Attributes:
        index: Its index among the client's exporters.
        type: The type as the client wrote it.
        attrs: Its attributes.
    """

    index: int
    type: str
    attrs: Mapping[str, str]

    def attributes(self) -> dict[str, str]:
        """The attributes that tell of it."""
        return {ORIGIN_ATTRIBUTE: msgspec.json.encode(self, order="sorted").decode()}

    @classmethod
    def of(cls, exporter: control_pb2.Exporter) -> Origin | None:
        """What an exporter of a record stands for; None if it is what the client asked for itself."""
        try:
            return msgspec.json.decode(exporter.Attrs.get(ORIGIN_ATTRIBUTE, ""), type=cls)
        except (msgspec.DecodeError, UnicodeEncodeError):
            return None


def restore_record(record: control_pb2.BuildHistoryRecord) -> None:
    """Change a record to what the client asked for: exporters, their order, and which of them made an image.

    The image of a substitute for an image exporter is the image that was asked for. One that stands for
    anything else is left out, as a daemon does with files.

    Args:
        record: As the daemon has it.
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
    """The index that each of a record's exporters had for the client, by the daemon's.

    Substitutes know theirs; the others, which kept their order, have the indices that are left.
    """
    taken = {origin.index for origin in origins if origin is not None}
    free = iter(index for index in range(len(origins) + len(taken) + 1) if index not in taken)
    return {
        position: next(free) if origin is None else origin.index for position, origin in enumerate(origins)
    }
