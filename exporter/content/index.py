"""The ``index.json`` of an OCI layout, maintained as BuildKit's client does (its package ``ociindex``)."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from exporter.content.manifest import decode_descriptor
from exporter.image import Descriptor, ImageError
from exporter.image.go import json as gojson
from exporter.image.keys import CONTAINERD_NAME, REF_NAME
from exporter.image.media_types import OCI_INDEX

_FIELDS = ("schemaVersion", "mediaType", "artifactType", "manifests", "subject", "annotations")
_ANNOTATIONS = gojson.Struct("v1.Descriptor", {"annotations": gojson.Map(gojson.String())})


@dataclass(frozen=True, slots=True)
class _Entry:
    text: bytes
    image_name: str = ""
    ref_name: str = ""

    @classmethod
    def read(cls, text: bytes) -> _Entry:
        try:
            annotations = gojson.decode(text, _ANNOTATIONS)["annotations"] or {}
        except ImageError:
            return cls(text)  # not a valid descriptor, but another tool wrote it, so keep it
        return cls(text, annotations.get(CONTAINERD_NAME, ""), annotations.get(REF_NAME, ""))


class LayoutIndex:
    """The entries of an index, and its other members.

    Whatever other tools wrote is preserved verbatim, including unknown fields; only whitespace is removed.
    """

    def __init__(self) -> None:
        self._members: dict[str, bytes] = {}
        self._entries: list[_Entry] = []

    @classmethod
    def parse(cls, data: bytes) -> LayoutIndex:
        """Read an index. As in BuildKit, an empty file is an empty index.

        Raises:
            ImageError: it is not an index.
        """
        index = cls()
        if not data:
            return index
        root = gojson.parse(data)
        if root.kind != "object":
            raise ImageError(f"an index must be an object, not {root.kind}")
        manifests = None
        for key, node in zip(root.keys, root.items, strict=True):
            index._members[key] = gojson.compact(data[node.start : node.end])
            if key == "manifests":
                manifests = node
        if manifests is not None and manifests.kind != "null":
            if manifests.kind != "array":
                raise ImageError(f"manifests must be an array, not {manifests.kind}")
            texts = [gojson.compact(data[item.start : item.end]) for item in manifests.items]
            index._entries = [_Entry.read(text) for text in texts]
        return index

    def marshal(self) -> bytes:
        """The index as Go's ``json.Marshal`` writes it; unknown fields follow the known ones."""
        members: dict[str, object] = {key: gojson.Verbatim(text) for key, text in self._members.items()}
        if self._members.get("schemaVersion", b"0") in {b"0", b"null"}:
            members["schemaVersion"] = 2
        if self._members.get("mediaType", b"null") in {b'""', b"null"}:
            members["mediaType"] = OCI_INDEX
        members["manifests"] = [gojson.Verbatim(entry.text) for entry in self._entries]
        known = {key: members.pop(key) for key in _FIELDS if key in members}
        return gojson.marshal(known | members)

    def insert(self, descriptor: Descriptor) -> None:
        """Add an entry unchanged, unless an identical one exists."""
        entry = _Entry.read(descriptor.marshal())
        if entry not in self._entries:
            self._entries.append(entry)

    def insert_name(self, descriptor: Descriptor, name: str) -> None:
        """Add an entry with an image name, replacing the one that has this name."""
        self._replace(descriptor, name, _ref_name(name))

    def insert_tag(self, descriptor: Descriptor, tag: str) -> None:
        """Add an entry with only a tag, replacing the one that has this tag."""
        self._replace(descriptor, "", tag)

    def remove_unnamed(self, condition: Callable[[Descriptor], bool]) -> bool:
        """Remove the unnamed entries that satisfy `condition`; return whether there were any.

        Raises:
            ImageError: an entry is not a descriptor.
        """
        before = len(self._entries)
        self._entries = [
            entry
            for entry in self._entries
            if entry.image_name or entry.ref_name or not condition(decode_descriptor(entry.text))
        ]
        return len(self._entries) < before

    def find(self, name: str) -> Descriptor | None:
        """The entry with this image name, or else the first one with this tag.

        Raises:
            ImageError: that entry is not a descriptor.
        """
        for attribute in ("image_name", "ref_name"):
            for entry in self._entries:
                if getattr(entry, attribute) == name:
                    return decode_descriptor(entry.text)
        return None

    def descriptors(self) -> tuple[Descriptor, ...]:
        """All entries.

        Raises:
            ImageError: one is not a descriptor.
        """
        return tuple(decode_descriptor(entry.text) for entry in self._entries)

    def _replace(self, descriptor: Descriptor, image_name: str, ref_name: str) -> None:
        names = {REF_NAME: ref_name} | ({CONTAINERD_NAME: image_name} if image_name else {})
        named = replace(descriptor, annotations={**descriptor.annotations, **names})
        self._entries = [
            entry for entry in self._entries if (entry.image_name, entry.ref_name) != (image_name, ref_name)
        ]
        self._entries.append(_Entry.read(named.marshal()))


def _ref_name(name: str) -> str:
    """Tag and digest of an image name, as in containerd's archives. A name without a slash stays as it is."""
    _, slash, path = name.partition("/")
    if not slash:
        return name
    match = re.search("[:@]", path)
    return path[match.start() :].removeprefix(":") if match else ""
