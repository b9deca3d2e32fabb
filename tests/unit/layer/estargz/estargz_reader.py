"""A reader of eStargz blobs that shares nothing with the writer: what a lazy puller relies on."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import tarfile
import zlib
from dataclasses import dataclass
from typing import Any


def sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def members(blob: bytes) -> list[tuple[int, bytes, bytes]]:
    """Offset, compressed and decompressed bytes of each gzip member."""
    found = []
    offset = 0
    while offset < len(blob):
        inflater = zlib.decompressobj(31)
        data = inflater.decompress(blob[offset:])
        assert inflater.eof
        end = len(blob) - len(inflater.unused_data)
        found.append((offset, blob[offset:end], data))
        offset = end
    return found


@dataclass
class Estargz:
    """An eStargz blob, its parts checked against each other."""

    toc: dict[str, Any]
    toc_digest: str
    tar: bytes
    tar_with_toc: bytes

    @classmethod
    def open(cls, blob: bytes) -> Estargz:
        footer = blob[-51:]
        assert footer[:16] == b"\x1f\x8b\x08\x04\x00\x00\x00\x00\x00\xff\x1a\x00SG\x16\x00"
        assert footer[32:38] == b"STARGZ"
        assert footer[38:] == b"\x01\x00\x00\xff\xff" + bytes(8)
        toc_offset = int(footer[16:32], 16)
        parts = members(blob)
        assert parts[-1][0] == len(blob) - 51
        offset, _, toc_tar = parts[-2]
        assert offset == toc_offset
        with tarfile.open(fileobj=io.BytesIO(toc_tar)) as archive:
            (info,) = archive
            assert info.name == "stargz.index.json"
            content = archive.extractfile(info)
            assert content is not None
            raw = content.read()
        reader = cls(
            toc=json.loads(raw),
            toc_digest=sha256(raw),
            tar=b"".join(data for _, _, data in parts[:-2]),
            tar_with_toc=b"".join(data for _, _, data in parts),
        )
        reader.check_contents({start: data for start, _, data in parts})
        return reader

    def check_contents(self, starts: dict[int, bytes]) -> None:
        """Every chunk begins a member and has its digest; the chunks of a file make up the file."""
        assert self.toc["version"] == 1
        entries = self.toc["entries"] or []
        file: dict[str, Any] = {}
        whole = b""
        for entry in entries:
            if entry["type"] == "reg":
                file, whole = entry, b""
            if entry["type"] not in {"reg", "chunk"} or not file.get("size"):
                continue
            assert entry["name"] == file["name"]
            assert entry.get("chunkOffset", 0) == len(whole)
            size = entry.get("chunkSize") or file["size"] - len(whole)
            chunk = starts[entry["offset"]][:size]
            assert len(chunk) == size
            assert sha256(chunk) == entry["chunkDigest"]
            whole += chunk
            if len(whole) == file["size"]:
                assert sha256(whole) == file["digest"]

    def entries(self) -> dict[str, dict[str, Any]]:
        return {entry["name"]: entry for entry in self.toc["entries"] or [] if entry["type"] != "chunk"}

    def xattrs(self, name: str) -> dict[str, bytes]:
        xattrs = self.entries()[name].get("xattrs", {})
        return {key: base64.b64decode(value) for key, value in xattrs.items()}
