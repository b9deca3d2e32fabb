"""Descriptions of exporter types for users."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from exporter.exporters.base import ArtifactKind, Attribute, Exporter


@dataclass(frozen=True, slots=True)
class ExporterDescription:
    """What users can know about an exporter type without running it.

    Attributes:
        type: The value of ``--output type=``.
        title: One line about it.
        artifact: The kind of artifact that it creates.
        attributes: The attributes that it supports.
    """

    type: str
    title: str
    artifact: ArtifactKind
    attributes: Sequence[Attribute]

    @property
    def has_directory_form(self) -> bool:
        """Whether it writes an OCI layout directory instead of an archive with ``tar=false``."""
        return any(attribute.name == "tar" for attribute in self.attributes)

    def used_with(self, attrs: Mapping[str, str]) -> ExporterDescription:
        """What it makes with these attributes: with ``to``, another type writes the artifact."""
        delegates = any(attribute.name == "to" for attribute in self.attributes)
        if delegates and attrs.get("to") in {"image", "registry"}:
            return replace(self, artifact=ArtifactKind.IMAGE)
        return self


def describe(kind: type[Exporter]) -> ExporterDescription:
    """Describe an installed type."""
    return ExporterDescription(kind.type, kind.title, kind.artifact, kind.attributes)
