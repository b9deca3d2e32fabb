"""The table of contents of an eStargz blob: a JSON entry for each file, and for each chunk of a large one.

Format: stargz-snapshotter, ``docs/estargz.md``. It is written to the byte as the upstream library does,
since it is a part of the layer and so of its diff ID.
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
    """An entry; fields that are empty are left out of the table.

    Attributes:
        modtime: RFC 3339, in whole seconds.
        offset: Where in the blob the gzip member of its content begins; None while that is not known.
        digest: Of a file's content; None while that is not known.
        chunk_offset: Where in the file the chunk begins.
        chunk_size: Bytes in the chunk, unless it is the last one.
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
        """Tell where its gzip member begins."""
        self.offset = offset

    def marshal(self) -> bytes:
        """The entry as it is indented in the table."""
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
    """Writes the table while the entries come, so that memory does not grow with their number.

    Args:
        spool: An empty file to write it to.
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
        """The digest of what was written so far."""
        return f"sha256:{self._hash.hexdigest()}"

    def describe(self, header: Header) -> TocEntry:
        """Make the entry of a file, but for its content.

        A user's or group's name is only in the first of several entries that have it.

        Raises:
            TarError: there can be no such file in an eStargz blob.
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
        """Append an entry. It is written as soon as it and those before it are known completely."""
        self._waiting.append(entry)
        self._write_complete()

    def finish(self) -> None:
        """End the table. All entries must be known."""
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
    # Keys that are not UTF-8 may become the same text; Go keeps their order and writes both.
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
