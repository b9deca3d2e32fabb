"""Attestations as additional files of a platform.

Rules and error texts are those of BuildKit's ``exporter/local``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterable, Sequence
from contextlib import aclosing
from pathlib import Path

from exporter.content.memory import MemoryStore
from exporter.content.threads import StepTimer, iterate_in_thread
from exporter.errors import InvalidArgumentError
from exporter.exporters.attestations.layers import make_statements
from exporter.exporters.attestations.sbom import SBOMSupplement
from exporter.exporters.attestations.statements import StatementSubject, is_inline_only
from exporter.exporters.files.entry import FileEntry
from exporter.image.go import json as gojson
from exporter.image.options.attributes import ATTESTATION_PREFIX
from exporter.layer.tree import Kind
from exporter.source.types import Attestation, Remote

__all__ = ["statement_entries"]

_MODE = 0o600


async def statement_entries(
    attestations: Sequence[Attestation],
    files: Iterable[FileEntry],
    *,
    prefix: str,
    platform: str,
    mtime: int,
    scratch: Path,
) -> list[FileEntry]:
    """Write each attestation to a file. The subjects of its statement are all files of the platform.

    Inline-only attestations are left out.

    Args:
        attestations: The platform's attestations.
        files: The platform's files.
        prefix: A prefix for the names.
        platform: Included in the names, so that several platforms can share a directory; not if empty.
        mtime: Modification time in nanoseconds since 1970.
        scratch: A directory to unpack refs in.

    Raises:
        InvalidArgumentError: an attestation is invalid, or two files would have the same name; with
            BuildKit's text.
        ImageError: a predicate is invalid; with BuildKit's text.
        NotFoundError: a file or a ref does not exist.
    """
    wanted = [attestation for attestation in attestations if not is_inline_only(attestation)]
    if not wanted:
        return []
    async with aclosing(iterate_in_thread(_subjects(files))) as steps:
        subjects = [subject async for subject in steps if subject is not None]
    # Layers are added to SBOMs in images only.
    statements = await make_statements(
        wanted, subjects, SBOMSupplement(None, Remote((), MemoryStore())), scratch
    )
    entries: dict[str, FileEntry] = {}
    for statement in statements:
        name = _file_name(prefix, statement.path, platform)
        if name in entries:
            raise InvalidArgumentError(
                f"duplicate attestation path name {name}", field=f"attrs[{ATTESTATION_PREFIX}]"
            )
        data = gojson.marshal_indent(gojson.Verbatim(statement.data))
        entries[name] = FileEntry.of(name, data, mode=_MODE, mtime=mtime)
    return sorted(entries.values(), key=lambda entry: entry.key)


def _subjects(files: Iterable[FileEntry]) -> Generator[StatementSubject | None, None, None]:
    """A subject for each file; None marks a step without a result."""
    timer = StepTimer()
    for entry in files:
        if entry.kind is not Kind.FILE:
            continue
        digest = hashlib.sha256()
        for piece in entry.content.pieces():
            digest.update(piece)
            if timer.is_over():
                yield None
        name = entry.path.decode("utf-8", "surrogateescape")
        yield StatementSubject(name, {"sha256": digest.hexdigest()})


def _file_name(prefix: str, path: str, platform: str) -> str:
    name = (prefix + (path.rstrip("/").rpartition("/")[2] or "/")).removeprefix("/")
    if not platform:
        return name
    dot = name.rfind(".")
    if dot < name.rfind("/"):
        dot = -1
    stem, extension = (name, "") if dot < 0 else (name[:dot], name[dot:])
    return f"{stem}.{platform.replace('/', '_')}{extension}"
