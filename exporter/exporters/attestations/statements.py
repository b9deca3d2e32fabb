"""In-toto statements about an image: the layers of its attestation manifest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from exporter.image import ImageError
from exporter.image.go import json as gojson
from exporter.image.keys import ATTESTATION_INLINE_ONLY
from exporter.source.types import Attestation, SubjectKind

__all__ = ["Statement", "StatementSubject", "is_inline_only", "make_statement"]

_STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
_NO_NAME = "_"


@dataclass(frozen=True, slots=True)
class StatementSubject:
    """A subject of a statement.

    Attributes:
        name: A package URL, or the name that the frontend set.
        digest: Digests in hexadecimal, by algorithm.
    """

    name: str
    digest: Mapping[str, str]

    @classmethod
    def of(cls, name: str, digests: Iterable[str]) -> StatementSubject:
        """The subject with digests in the form ``algorithm:hex``."""
        pairs = (digest.partition(":") for digest in digests)
        return cls(name, {algorithm: encoded for algorithm, _, encoded in pairs})


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement, ready to be stored.

    Attributes:
        predicate_type: The URI of the predicate's type.
        data: The statement as JSON.
        path: The attestation's path; its last component becomes the name of the statement's file.
    """

    predicate_type: str
    data: bytes
    path: str


def is_inline_only(attestation: Attestation) -> bool:
    """Whether an attestation is for images in a store only, not for archives."""
    return attestation.metadata.get(ATTESTATION_INLINE_ONLY) == b"true"


def make_statement(
    attestation: Attestation, predicate: bytes, image: Sequence[StatementSubject]
) -> Statement:
    """Write the statement of an attestation.

    Args:
        attestation: An attestation of kind in-toto.
        predicate: The predicate as JSON.
        image: The image, once for each of its names; replaces subjects of kind ``SELF``.

    Raises:
        ImageError: the predicate is not JSON; with BuildKit's text.
    """
    subjects = _subjects(attestation, image)
    try:
        gojson.parse(predicate or b"null")
    except ImageError as error:
        raise ImageError(
            "failed to marshal attestation: json: error calling MarshalJSON for type json.RawMessage: "
            + str(error)
        ) from error
    statement = {
        "_type": _STATEMENT_TYPE,
        "predicateType": attestation.predicate_type,
        "subject": [
            {"name": subject.name, "digest": gojson.sort_keys(subject.digest)} for subject in subjects
        ],
        "predicate": gojson.Verbatim(gojson.compact(predicate or b"null")),
    }
    return Statement(attestation.predicate_type, gojson.marshal(statement), attestation.path)


def _subjects(attestation: Attestation, image: Sequence[StatementSubject]) -> list[StatementSubject]:
    if not attestation.subjects:
        return list(image)
    subjects: list[StatementSubject] = []
    for subject in attestation.subjects:
        name = subject.name or _NO_NAME
        if subject.kind is SubjectKind.RAW:
            subjects.append(StatementSubject.of(name, subject.digests))
            continue
        for own in image:
            subjects.append(own)
            if name != _NO_NAME:
                subjects.append(StatementSubject(name, own.digest))
    return subjects
