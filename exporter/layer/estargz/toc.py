"""The table of contents (TOC) of an eStargz blob, with a JSON entry for each file or chunk of a large file.

Format: stargz-snapshotter, ``docs/estargz.md``. The TOC is part of the layer and so affects its diff ID.
Therefore, the bytes are the same as those of the upstream library.
"""

from __future__ import annotations

import base64
import hashlib
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import BinaryIO

from exporter.image import Time
from exporter.image.go import json as gojson
from exporter.image.go import text as gotext
from exporter.layer.gotar import Header, TarError, TypeFlag
from exporter.layer.gotar.pax import XATTR_PREFIX

TOC_NAME = b"stargz.index.json"
"""Name of the table's tar entry."""

_TYPES: Mapping[bytes, str] = {
    TypeFlag.LINK: "hardlink",
    TypeFlag.SYMLINK: "symlink",
    TypeFlag.DIR: "dir",
    TypeFlag.REG: "reg",
    TypeFlag.CHAR: "char",
    TypeFlag.BLOCK: "block",
    TypeFlag.FIFO: "fifo",
}
_LINKS = frozenset({TypeFlag.LINK, TypeFlag.SYMLINK})
_DEVICES = frozenset({TypeFlag.CHAR, TypeFlag.BLOCK})


@dataclass(slots=True)
class TocEntry:
    """An entry. Empty fields are omitted from the TOC.

    Attributes:
        modtime: RFC 3339, in whole seconds.
        offset: The offset in the blob of the gzip member with its content; None if not yet known.
        digest: The digest of a file's content; None if not yet known.
        chunk_offset: The offset of the chunk in the file.
        chunk_size: The size of the chunk in bytes; 0 for the last one.
    """

    name: bytes
    type: str
    size: int = 0
    modtime: str = ""
    link_name: bytes = b""
    mode: int = 0
    uid: int = 0
    gid: int = 0
    user_name: bytes = b""
    group_name: bytes = b""
    offset: int | None = 0
    dev_major: int = 0
    dev_minor: int = 0
    xattrs: Mapping[bytes, bytes] = field(default_factory=dict)
    digest: str | None = ""
    chunk_offset: int = 0
    chunk_size: int = 0
    chunk_digest: str = ""

    def set_offset(self, offset: int) -> None:
        """Set the offset of its gzip member."""
        self.offset = offset

    def marshal(self) -> bytes:
        """The entry's JSON, indented for the TOC."""
        fields: list[tuple[str, object]] = [
            ("name", gotext.decode(self.name)),
            ("type", self.type),
            ("size", self.size),
            ("modtime", self.modtime),
            ("linkName", gotext.decode(self.link_name)),
            ("mode", self.mode),
            ("uid", self.uid),
            ("gid", self.gid),
            ("userName", gotext.decode(self.user_name)),
            ("groupName", gotext.decode(self.group_name)),
            ("offset", self.offset),
            ("devMajor", self.dev_major),
            ("devMinor", self.dev_minor),
            ("xattrs", self.xattrs),
            ("digest", self.digest),
            ("chunkOffset", self.chunk_offset),
            ("chunkSize", self.chunk_size),
            ("chunkDigest", self.chunk_digest),
        ]
        lines = [
            b'\t\t\t"%s": %s' % (key.encode(), _marshal_value(value))
            for key, value in fields
            if value or key == "name"
        ]
        return b"\t\t{\n" + b",\n".join(lines) + b"\n\t\t}"


class TocWriter:
    """Writes the TOC incrementally, so that memory does not grow with the number of entries.

    Args:
        spool: An empty file to write to.
    """

    def __init__(self, spool: BinaryIO) -> None:
        self._spool = spool
        self._hash = hashlib.sha256()
        self._waiting: deque[TocEntry] = deque()
        self._user_names: dict[int, bytes] = {}
        self._group_names: dict[int, bytes] = {}
        self._count = 0
        self.size = 0
        """Bytes written so far."""
        self._put(b'{\n\t"version": 1,\n\t"entries": ')

    @property
    def digest(self) -> str:
        """The digest of the bytes written so far."""
        return f"sha256:{self._hash.hexdigest()}"

    def describe(self, header: Header) -> TocEntry:
        """Create the entry of a file, without content fields.

        The name of a user or group is omitted if the previous entry of this user or group had the same name.

        Raises:
            TarError: eStargz does not support such a file.
        """
        type_name = _TYPES.get(header.typeflag)
        if type_name is None:
            raise TarError(f"eStargz has no entries of kind {header.typeflag!r}, such as {header.name!r}")
        prefix = len(XATTR_PREFIX)
        records = header.pax_records.items()
        return TocEntry(
            name=header.name,
            type=type_name,
            size=header.size if header.typeflag == TypeFlag.REG else 0,
            modtime=_modtime(header),
            link_name=header.linkname if header.typeflag in _LINKS else b"",
            mode=header.mode,
            uid=header.uid,
            gid=header.gid,
            user_name=_if_changed(self._user_names, header.uid, header.uname),
            group_name=_if_changed(self._group_names, header.gid, header.gname),
            dev_major=header.devmajor if header.typeflag in _DEVICES else 0,
            dev_minor=header.devminor if header.typeflag in _DEVICES else 0,
            xattrs={key[prefix:]: value for key, value in records if key.startswith(XATTR_PREFIX)},
            digest=None if header.typeflag == TypeFlag.REG else "",
        )

    def add(self, entry: TocEntry) -> None:
        """Append an entry. It is written as soon as it and all previous entries are complete."""
        self._waiting.append(entry)
        self._write_complete()

    def finish(self) -> None:
        """Finish the TOC. All entries must be complete."""
        self._write_complete()
        assert not self._waiting, "an entry without offset or digest"
        self._put(b"\n\t]\n}" if self._count else b"null\n}")

    def _write_complete(self) -> None:
        while self._waiting and self._waiting[0].offset is not None and self._waiting[0].digest is not None:
            self._put(b",\n" if self._count else b"[\n")
            self._put(self._waiting.popleft().marshal())
            self._count += 1

    def _put(self, data: bytes) -> None:
        self._spool.write(data)
        self._hash.update(data)
        self.size += len(data)


def _marshal_value(value: object) -> bytes:
    if not isinstance(value, Mapping):
        return gojson.marshal(value)
    # Different keys that are not UTF-8 may have the same text. Go writes both, in this order.
    lines = [
        b"\t\t\t\t%s: %s"
        % (gojson.marshal(gotext.decode(key)), gojson.marshal(base64.b64encode(text).decode()))
        for key, text in sorted(value.items())
    ]
    return b"{\n" + b",\n".join(lines) + b"\n\t\t\t}"


def _modtime(header: Header) -> str:
    if header.mod_time.is_zero or header.mod_time.seconds == 0:
        return ""
    return str(Time.from_unix(header.mod_time.rounded().seconds))


def _if_changed(names: dict[int, bytes], number: int, name: bytes) -> bytes:
    if not name or names.get(number) == name:
        return b""
    names[number] = name
    return name
