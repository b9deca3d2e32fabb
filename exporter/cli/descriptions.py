"""Types of outputs, as they are described to users."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from exporter.exporters.base import ArtifactKind, Attribute, Exporter


@dataclass(frozen=True, slots=True)
class ExporterDescription:
    """What is known of a type without using it.

    Attributes:
        type: The word behind ``--output type=``.
        title: One line.
        artifact: What it makes.
        attributes: What it understands.
    """

    type: str
    title: str
    artifact: ArtifactKind
    attributes: Sequence[Attribute]

    @property
    def has_directory_form(self) -> bool:
        """Whether ``tar=false`` makes it write an OCI layout directory in place of an archive."""
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
