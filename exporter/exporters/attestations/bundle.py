"""Bundles: directories of in-toto statements, as SBOM scanners write them."""

from __future__ import annotations

import posixpath
from dataclasses import replace
from pathlib import Path
from typing import Final

from exporter.errors import InvalidArgumentError
from exporter.exporters.attestations import go_any, predicate
from exporter.image import ImageError
from exporter.image.go import json as gojson
from exporter.image.go.json import Map, Raw, Slice, String, Struct
from exporter.source.types import Attestation, AttestationKind, Ref, Subject, SubjectKind

__all__ = ["read_bundle"]

_STATEMENT: Final = Struct(
    "in_toto.Statement",
    {
        "_type": String(),
        "predicateType": String(),
        "subject": Slice(Struct("in_toto.Subject", {"name": String(), "digest": Map(String())})),
        "predicate": Raw(),
    },
)


async def read_bundle(bundle: Attestation, ref: Ref, scratch: Path) -> list[Attestation]:
    """Read the attestations in a bundle, sorted by file name.

    Args:
        bundle: Its path is a directory in `ref`; its predicate type, if set, applies to all statements.
        ref: Has the files.
        scratch: A directory to unpack them in.

    Raises:
        InvalidArgumentError: a file is invalid; with BuildKit's text.
        NotFoundError: the directory or the ref does not exist.
    """
    from exporter.exporters.files.read import RefFiles  # all codecs; bundles are rare

    async with RefFiles.open(ref, scratch) as files:
        contents = await files.read_directory(bundle.path, limit=predicate.MAX_BYTES)
    return [_read_member(bundle, name, contents[name]) for name in sorted(contents)]


def _read_member(bundle: Attestation, name: str, data: bytes) -> Attestation:
    path = posixpath.join(bundle.path, name)
    try:
        statement = gojson.decode(data, _STATEMENT, "Statement")
        content = go_any.normalize(statement["predicate"] or b"null")
    except ImageError as error:
        if str(error).endswith("after top-level value"):
            raise InvalidArgumentError(f"{path}: in-toto statement is not a single JSON object") from error
        raise InvalidArgumentError(f"{path}: cannot decode in-toto statement: {error}") from error
    predicate_type = statement["predicateType"]
    if bundle.predicate_type not in {"", predicate_type}:
        raise InvalidArgumentError(
            f"bundle entry {predicate_type} does not match required predicate type {bundle.predicate_type}"
        )
    return replace(
        bundle,
        kind=AttestationKind.IN_TOTO,
        path=path,
        predicate_type=predicate_type,
        subjects=tuple(_subject(subject) for subject in statement["subject"] or ()),
        ref=None,
        content=content,
    )


def _subject(subject: dict[str, object]) -> Subject:
    digests = subject["digest"] or {}
    assert isinstance(digests, dict)
    return Subject(
        SubjectKind.RAW,
        str(subject["name"]),
        tuple(f"{algorithm}:{encoded}" for algorithm, encoded in digests.items()),
    )
