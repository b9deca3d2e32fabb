"""The attestations of a build, as far as the page shows them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from exporter.errors import InvalidArgumentError, NotFoundError
from exporter.image.go import text as gotext
from exporter.layer import Kind, LayerFiles
from exporter.source import Attestation, AttestationKind

__all__ = ["Statement", "read_statements"]

_MAX_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Statement:
    """A predicate about the build.

    Attributes:
        predicate_type: The URI of its type.
        predicate: The predicate, parsed; None if it is not a JSON object.
        size: The size of its JSON in bytes.
    """

    predicate_type: str
    predicate: Mapping[str, object] | None
    size: int


async def read_statements(attestations: Sequence[Attestation], scratch: Path) -> list[Statement]:
    """Read the predicates of attestations, including those in bundles.

    Args:
        attestations: Those of one platform.
        scratch: A directory for temporary files.

    Raises:
        InvalidArgumentError: a predicate is larger than 64 MiB.
        NotFoundError: a ref does not have the attestation's file.
    """
    statements: list[Statement] = []
    for attestation in attestations:
        if attestation.kind is AttestationKind.BUNDLE:
            statements += await _bundle(attestation, scratch)
            continue
        data = await attestation.read_content()
        if data is None:
            async with _files(attestation, scratch) as files:
                data = await _read(files, attestation.path.encode())
        statements.append(Statement(attestation.predicate_type, _parse(data), len(data)))
    return statements


async def _bundle(attestation: Attestation, scratch: Path) -> list[Statement]:
    """A bundle is a directory of in-toto statements."""
    statements = []
    async with _files(attestation, scratch) as files:
        directory = files.tree.find(attestation.path.encode())
        for name, child in sorted(directory.children.items()):
            if child.inode.kind is Kind.FILE:
                data = await _read(files, attestation.path.encode() + b"/" + name)
                statement = _parse(data) or {}
                predicate = statement.get("predicate")
                kind = statement.get("predicateType")
                statements.append(
                    Statement(
                        kind if isinstance(kind, str) else "",
                        cast(Mapping[str, object], predicate) if isinstance(predicate, dict) else None,
                        len(data),
                    )
                )
    return statements


@asynccontextmanager
async def _files(attestation: Attestation, scratch: Path) -> AsyncIterator[LayerFiles]:
    if attestation.ref is None:
        raise NotFoundError(
            f"the attestation {gotext.quote(attestation.predicate_type or attestation.path)} has neither "
            "content nor a ref",
            field="source.attestations",
        )
    files = await LayerFiles.unpack(await attestation.ref.remote(), scratch=scratch)
    try:
        yield files
    finally:
        files.close()


async def _read(files: LayerFiles, path: bytes) -> bytes:
    inode = files.tree.find(path)
    if inode.size > _MAX_BYTES:
        raise InvalidArgumentError(
            f"the attestation {path.decode(errors='replace')} has {inode.size} bytes; "
            f"the limit is {_MAX_BYTES}",
            field="source.attestations",
        )
    return b"".join([data async for data in files.read(inode)])


def _parse(data: bytes) -> dict[str, object] | None:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
