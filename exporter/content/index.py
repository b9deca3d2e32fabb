"""The ``index.json`` of an OCI layout, maintained as BuildKit's client does (its package ``ociindex``)."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

import msgspec

from exporter.content.manifest import decode_descriptor
from exporter.image import Descriptor, ImageError
from exporter.image.go import json as gojson
from exporter.image.keys import CONTAINERD_NAME, REF_NAME
from exporter.image.media_types import OCI_INDEX

_FIELDS = ("schemaVersion", "mediaType", "artifactType", "manifests", "subject", "annotations")
_IS_COMPACT = re.compile(rb"[!-%'-;=?-~]*")
"""No whitespace, and nothing that is escaped for HTML."""
_ANNOTATIONS = gojson.Struct("v1.Descriptor", {"annotations": gojson.Map(gojson.String())})


class _Names(msgspec.Struct):
    """The part of an entry that contains its names."""

    annotations: dict[str, str] | None = None


@dataclass(frozen=True, slots=True)
class _Entry:
    text: bytes
    image_name: str = ""
    ref_name: str = ""

    @classmethod
    def read(cls, text: bytes) -> _Entry:
        try:
            annotations = msgspec.json.decode(text, type=_Names).annotations or {}
        except (msgspec.DecodeError, UnicodeDecodeError):
            try:  # Go reads more than that, such as keys in other letters
                annotations = gojson.decode(text, _ANNOTATIONS)["annotations"] or {}
            except ImageError:
                return cls(text)  # not a valid descriptor, but another tool wrote it, so keep it
        return cls(text, annotations.get(CONTAINERD_NAME, ""), annotations.get(REF_NAME, ""))


class LayoutIndex:
    """The entries of an index, and its other members.

    Whatever other tools wrote is preserved verbatim, including unknown fields; only whitespace is removed.
    Adding and finding an entry takes the same time in an index of ten entries as in one of ten thousand.
    """

    def __init__(self) -> None:
        self._members: dict[str, bytes] = {}
        # In the order of the file, under numbers that are not used again.
        self._entries: dict[int, _Entry] = {}
        self._next = 0
        self._by_names: dict[tuple[str, str], list[int]] = {}
        self._by_text: dict[bytes, int] = {}

    @classmethod
    def parse(cls, data: bytes) -> LayoutIndex:
        """Read an index. As in BuildKit, an empty file is an empty index.

        Raises:
            ImageError: it is not an index.
        """
        index = cls()
        if not data:
            return index
        members, manifests = _parse_quickly(data) or _parse(data)
        index._members = members
        for text in manifests:
            index._append(_Entry.read(text))
        return index

    def marshal(self) -> bytes:
        """The index as Go's ``json.Marshal`` writes it; unknown fields follow the known ones."""
        members: dict[str, object] = {key: gojson.Verbatim(text) for key, text in self._members.items()}
        if self._members.get("schemaVersion", b"0") in {b"0", b"null"}:
            members["schemaVersion"] = 2
        if self._members.get("mediaType", b"null") in {b'""', b"null"}:
            members["mediaType"] = OCI_INDEX
        texts = b",".join([entry.text for entry in self._entries.values()])
        members["manifests"] = gojson.Verbatim(b"[" + texts + b"]")
        known = {key: members.pop(key) for key in _FIELDS if key in members}
        return gojson.marshal(known | members)

    def insert(self, descriptor: Descriptor) -> None:
        """Add an entry unchanged, unless an identical one exists."""
        text = descriptor.marshal()
        if text not in self._by_text:
            self._append(_Entry.read(text))

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
        unnamed = [(number, self._entries[number]) for number in self._by_names.get(("", ""), ())]
        removed = [number for number, entry in unnamed if condition(decode_descriptor(entry.text))]
        for number in removed:
            self._remove(number)
        return bool(removed)

    def find(self, name: str) -> Descriptor | None:
        """The entry with this image name, or else the first one with this tag.

        Raises:
            ImageError: that entry is not a descriptor.
        """
        for attribute in ("image_name", "ref_name"):
            for entry in self._entries.values():
                if getattr(entry, attribute) == name:
                    return decode_descriptor(entry.text)
        return None

    def descriptors(self) -> tuple[Descriptor, ...]:
        """All entries.

        Raises:
            ImageError: one is not a descriptor.
        """
        return tuple(decode_descriptor(entry.text) for entry in self._entries.values())

    def _replace(self, descriptor: Descriptor, image_name: str, ref_name: str) -> None:
        names = {REF_NAME: ref_name} | ({CONTAINERD_NAME: image_name} if image_name else {})
        named = replace(descriptor, annotations={**descriptor.annotations, **names})
        for number in list(self._by_names.get((image_name, ref_name), ())):
            self._remove(number)
        self._append(_Entry.read(named.marshal()))

    def _append(self, entry: _Entry) -> None:
        number, self._next = self._next, self._next + 1
        self._entries[number] = entry
        self._by_names.setdefault((entry.image_name, entry.ref_name), []).append(number)
        self._by_text[entry.text] = number

    def _remove(self, number: int) -> None:
        entry = self._entries.pop(number)
        self._by_names[entry.image_name, entry.ref_name].remove(number)
        if self._by_text.get(entry.text) == number:
            del self._by_text[entry.text]


def _parse_quickly(data: bytes) -> tuple[dict[str, bytes], list[bytes]] | None:
    """The fast path for ordinary indexes; None if `_parse` has to handle it, including errors."""
    if not data.isascii():
        return None
    try:
        raw = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
        manifests = msgspec.json.decode(raw.get("manifests", b"null"), type=list[msgspec.Raw] | None)
    except msgspec.DecodeError:
        return None
    members = {key: _compact(bytes(value)) for key, value in raw.items() if key != "manifests"}
    return members, [_compact(bytes(text)) for text in manifests or ()]


def _compact(text: bytes) -> bytes:
    return text if _IS_COMPACT.fullmatch(text) else gojson.compact(text)


def _parse(data: bytes) -> tuple[dict[str, bytes], list[bytes]]:
    root = gojson.parse(data)
    if root.kind != "object":
        raise ImageError(f"an index must be an object, not {root.kind}")
    members = {}
    manifests = None
    for key, node in zip(root.keys, root.items, strict=True):
        members[key] = gojson.compact(data[node.start : node.end])
        if key == "manifests":
            manifests = node
    if manifests is None or manifests.kind == "null":
        return members, []
    if manifests.kind != "array":
        raise ImageError(f"manifests must be an array, not {manifests.kind}")
    return members, [gojson.compact(data[item.start : item.end]) for item in manifests.items]


def _ref_name(name: str) -> str:
    """Tag and digest of an image name, as in containerd's archives. A name without a slash stays as it is."""
    _, slash, path = name.partition("/")
    if not slash:
        return name
    match = re.search("[:@]", path)
    return path[match.start() :].removeprefix(":") if match else ""
