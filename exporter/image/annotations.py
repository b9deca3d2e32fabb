"""Annotations that a user requests with attributes such as ``annotation[linux/arm64].KEY``.

The key says where the annotation goes (manifest, index, or the descriptor of either) and for which platform;
without a platform it applies to all. The frontend can set the same keys in the result's metadata.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from exporter.errors import ImageError
from exporter.image.go import text as gotext
from exporter.image.keys import MetadataValueError
from exporter.image.options.attributes import OCI_MEDIATYPES, AttributeValueError
from exporter.image.platforms.platform import Platform

# The last class is Go's `\S`: it excludes ASCII whitespace only, and not the vertical tab.
_KEY = re.compile(r"annotation(?:-([a-z-]+))?(?:\[([A-Za-z0-9_/-]+)\])?\.([^\t\n\f\r ]+)")


class AnnotationType(enum.StrEnum):
    """Where an annotation goes."""

    INDEX = "index"
    INDEX_DESCRIPTOR = "index-descriptor"
    MANIFEST = "manifest"
    MANIFEST_DESCRIPTOR = "manifest-descriptor"


@dataclass(frozen=True, slots=True)
class AnnotationKey:
    """A parsed attribute key.

    Attributes:
        type: Where the annotation goes.
        key: The annotation's own key.
        platform: The platform whose manifest it is for; None for all.
    """

    type: AnnotationType
    key: str
    platform: Platform | None = None

    @classmethod
    def parse(cls, text: str) -> AnnotationKey | None:
        """Parse an attribute's key; None if it does not name an annotation.

        Raises:
            ImageError: the annotation's type is unknown or its platform invalid; with BuildKit's text.
        """
        match = _KEY.fullmatch(text)
        if match is None:
            return None
        type_name, platform, key = match.groups()
        try:
            annotation_type = AnnotationType(type_name or AnnotationType.MANIFEST)
        except ValueError:
            raise ImageError(f"unrecognized annotation type {type_name}") from None
        return cls(annotation_type, key, Platform.parse(platform) if platform else None)

    @property
    def group(self) -> str:
        """The platform as text; ``""`` for all. Annotations of one group belong to the same manifest."""
        return self.platform.format_all() if self.platform else ""

    def __str__(self) -> str:
        """The attribute's key. Index types have no platform, because all platforms share one index."""
        of_manifest = self.type in {AnnotationType.MANIFEST, AnnotationType.MANIFEST_DESCRIPTOR}
        platform = f"[{self.group}]" if self.group and of_manifest else ""
        return f"annotation-{self.type}{platform}.{self.key}"


@dataclass(frozen=True, slots=True)
class Annotations:
    """Annotations by where they go."""

    index: Mapping[str, str] = field(default_factory=dict)
    index_descriptor: Mapping[str, str] = field(default_factory=dict)
    manifest: Mapping[str, str] = field(default_factory=dict)
    manifest_descriptor: Mapping[str, str] = field(default_factory=dict)

    def merge(self, other: Annotations) -> Annotations:
        """Both; where both have a key, the value of `other`."""
        return Annotations(
            index={**self.index, **other.index},
            index_descriptor={**self.index_descriptor, **other.index_descriptor},
            manifest={**self.manifest, **other.manifest},
            manifest_descriptor={**self.manifest_descriptor, **other.manifest_descriptor},
        )


@dataclass(frozen=True, slots=True)
class AnnotationGroups:
    """All requested annotations, by platform (as text; ``""`` for those that apply to all platforms)."""

    groups: Mapping[str, Annotations] = field(default_factory=dict)

    @classmethod
    def from_attributes(cls, attrs: Mapping[str, str]) -> tuple[AnnotationGroups, dict[str, str]]:
        """Split an exporter's attributes into annotations and the rest.

        If two attributes mean the same annotation (``annotation.a`` and ``annotation-manifest.a``), the one
        whose key sorts last wins.

        Returns:
            The annotations and the remaining attributes.

        Raises:
            AttributeValueError: an annotation's key is invalid; with BuildKit's text.
        """
        rest: dict[str, str] = {}
        found: list[tuple[AnnotationKey, str]] = []
        for name, value in sorted(attrs.items()):
            try:
                key = AnnotationKey.parse(name)
            except ImageError as error:
                raise AttributeValueError(name, str(error)) from error
            if key is None:
                rest[name] = value
            else:
                found.append((key, value))
        return cls(_group(found)), rest

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, bytes]) -> AnnotationGroups:
        """Read the frontend's annotations from the metadata of a build result.

        Raises:
            MetadataValueError: an annotation's key is invalid; with BuildKit's text.
        """
        found: list[tuple[AnnotationKey, str]] = []
        for name, value in sorted(metadata.items()):
            try:
                key = AnnotationKey.parse(name)
            except ImageError as error:
                raise MetadataValueError(name, str(error)) from error
            if key is not None:
                found.append((key, gotext.decode(value)))
        return cls(_group(found))

    def platform(self, platform: Platform | None) -> Annotations:
        """The annotations for one platform's manifest and for the index.

        Every group contributes to the index, because there is only one. A platform's own manifest annotations
        override those for all platforms; None selects only the latter.
        """
        index: dict[str, str] = {}
        index_descriptor: dict[str, str] = {}
        for group in self.groups.values():
            index.update(group.index)
            index_descriptor.update(group.index_descriptor)
        common = self.groups.get("", Annotations())
        own = Annotations() if platform is None else self.groups.get(platform.format_all(), Annotations())
        return Annotations(
            index=index,
            index_descriptor=index_descriptor,
            manifest={**common.manifest, **own.manifest},
            manifest_descriptor={**common.manifest_descriptor, **own.manifest_descriptor},
        )

    def merge(self, other: AnnotationGroups) -> AnnotationGroups:
        """Both; where both have an annotation, the value of `other`."""
        groups = dict(self.groups)
        for name, group in other.groups.items():
            groups[name] = groups.get(name, Annotations()).merge(group)
        return AnnotationGroups(groups)

    def check(self, *, has_ref: Callable[[str], bool], oci_types: bool) -> None:
        """Check that an image can carry the annotations.

        Args:
            has_ref: Tells whether the build result has a ref for a platform.
            oci_types: Whether the image has OCI media types. With Docker's, only manifests have annotations.

        Raises:
            ImageError: it cannot; with BuildKit's text.
        """
        for name, group in self.groups.items():
            if name and not has_ref(name):
                raise ImageError(f"invalid annotation: no platform {name} found in source")
            others = (group.index, group.index_descriptor, group.manifest_descriptor)
            if not oci_types and any(others):
                raise AttributeValueError(
                    OCI_MEDIATYPES, f'cannot export annotations with "{OCI_MEDIATYPES}=false"'
                )


def _group(found: Iterable[tuple[AnnotationKey, str]]) -> dict[str, Annotations]:
    values: dict[str, dict[AnnotationType, dict[str, str]]] = {}
    for key, value in found:
        group = values.setdefault(key.group, {annotation_type: {} for annotation_type in AnnotationType})
        group[key.type][key.key] = value
    return {
        name: Annotations(
            index=group[AnnotationType.INDEX],
            index_descriptor=group[AnnotationType.INDEX_DESCRIPTOR],
            manifest=group[AnnotationType.MANIFEST],
            manifest_descriptor=group[AnnotationType.MANIFEST_DESCRIPTOR],
        )
        for name, group in values.items()
    }
