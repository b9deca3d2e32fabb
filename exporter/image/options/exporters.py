"""The resolved attributes of the image exporters: BuildKit's ``image``, ``oci``, ``docker``, and moby's.

Unknown attributes are not an error. BuildKit overlays the result's metadata with them (`meta`), which lets a
user replace an image config from the command line, for example.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from exporter.image.go import text as gotext
from exporter.image.names import ImageNames, parse_names, resolve_image_name
from exporter.image.options import attributes as keys
from exporter.image.options.attributes import parse_bool_attribute
from exporter.image.options.commit import CommitOptions
from exporter.image.reference import Reference

# All of these may have an empty value, as in ``--output type=image,push``.
_IMAGE_BOOL_FIELDS: Final = MappingProxyType(
    {
        keys.PUSH: "push",
        keys.PUSH_BY_DIGEST: "push_by_digest",
        keys.REGISTRY_INSECURE: "insecure",
        keys.UNPACK: "unpack",
        keys.STORE: "store",
        keys.STORE_ALLOW_INCOMPLETE: "store_allow_incomplete",
        keys.DANGLING_NAME_EMPTY_ONLY: "dangling_empty_only",
        keys.NAME_CANONICAL: "name_canonical",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageExporterOptions:
    """Options of the exporter ``image``: an image in a store, pushed on request.

    Attributes:
        commit: How to write the image.
        push: Push it to the registries in its names.
        push_by_digest: Push without tags.
        insecure: Allow plain HTTP and unverified TLS.
        unpack: Unpack it in the store's snapshotter.
        store: Keep it in the image store.
        store_allow_incomplete: Store it without fetching lazy layers.
        dangling_prefix: Also name it ``<prefix>@<digest>``; not if empty.
        dangling_empty_only: Do that only if there is no other name.
        name_canonical: Also name it ``<name>@<digest>`` for each name.
        meta: Overrides for the result's metadata.
    """

    commit: CommitOptions
    push: bool = False
    push_by_digest: bool = False
    insecure: bool = False
    unpack: bool = False
    store: bool = True
    store_allow_incomplete: bool = False
    dangling_prefix: str = ""
    dangling_empty_only: bool = False
    name_canonical: bool = False
    meta: Mapping[str, bytes] = field(default_factory=dict)

    @classmethod
    def resolve(cls, attrs: Mapping[str, str]) -> ImageExporterOptions:
        """Read the exporter's attributes.

        Raises:
            AttributeValueError: a value is invalid; with BuildKit's text.
        """
        commit, attrs = CommitOptions.load(attrs, force_inline_attestations=True)
        flags: dict[str, bool] = {}
        meta: dict[str, bytes] = {}
        for key, value in sorted(attrs.items()):
            if key in _IMAGE_BOOL_FIELDS:
                flags[_IMAGE_BOOL_FIELDS[key]] = parse_bool_attribute(key, value, empty=True)
            elif key != keys.DANGLING_NAME_PREFIX:
                meta[key] = gotext.encode(value)
        prefix = attrs.get(keys.DANGLING_NAME_PREFIX, "")
        return cls(commit=commit, dangling_prefix=prefix, meta=meta, **flags)

    def names(self, metadata: Mapping[str, bytes], digest: str) -> ImageNames:
        """The names of an image.

        Args:
            metadata: The build result's metadata, already overlaid with `meta`.
            digest: The digest of the image's root.
        """
        name = resolve_image_name(self.commit.image_name, metadata)
        if not self.dangling_prefix or (self.dangling_empty_only and name):
            return ImageNames(name, self.name_canonical)
        dangling = f"{self.dangling_prefix}@{digest}"
        if not name:
            return ImageNames(dangling)
        return ImageNames(f"{name},{dangling}", self.name_canonical)


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveExporterOptions:
    """Options of the exporters ``oci`` and ``docker``: an image as an archive or a layout directory.

    Attributes:
        commit: How to write the image.
        tar: One archive instead of a directory.
        meta: Overrides for the result's metadata.
    """

    commit: CommitOptions
    tar: bool = True
    meta: Mapping[str, bytes] = field(default_factory=dict)

    @classmethod
    def resolve(cls, attrs: Mapping[str, str]) -> ArchiveExporterOptions:
        """Read the exporter's attributes.

        Names are checked only when the archive is written (`exporter.image.names.normalized_names`).

        Raises:
            AttributeValueError: a value is invalid; with BuildKit's text.
        """
        commit, rest = CommitOptions.load(attrs)
        tar = parse_bool_attribute(keys.TAR, rest.pop(keys.TAR, ""), empty=True)
        return cls(commit=commit, tar=tar, meta={key: gotext.encode(value) for key, value in rest.items()})


@dataclass(frozen=True, slots=True, kw_only=True)
class MobyExporterOptions:
    """Options of moby's exporter: an image in dockerd's own store.

    Attributes:
        target_names: The fully qualified names. Names without a tag stay without one.
        meta: All other attributes. Moby ignores them.
    """

    target_names: tuple[Reference, ...] = ()
    meta: Mapping[str, bytes] = field(default_factory=dict)

    @classmethod
    def resolve(cls, attrs: Mapping[str, str]) -> MobyExporterOptions:
        """Read the exporter's attributes. Only the names are checked.

        Raises:
            AttributeValueError: a name is not a reference; with the Go library's text.
        """
        meta = {key: gotext.encode(value) for key, value in sorted(attrs.items()) if key != keys.NAME}
        if keys.NAME not in attrs:
            return cls(meta=meta)
        return cls(target_names=parse_names(attrs[keys.NAME]), meta=meta)

    @property
    def image_name(self) -> str:
        """The names as moby reports them (``image.name``); empty if there are none."""
        return ",".join(map(str, self.target_names))
