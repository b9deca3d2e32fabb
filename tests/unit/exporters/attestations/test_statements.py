from __future__ import annotations

import json

import pytest

from exporter.exporters.attestations.statements import StatementSubject, is_inline_only, make_statement
from exporter.image import ImageError
from exporter.source.types import Attestation, AttestationKind, Subject, SubjectKind

IMAGE = [
    StatementSubject.of("pkg:docker/a@1", ["sha256:aa"]),
    StatementSubject.of("pkg:docker/b@2", ["sha256:aa"]),
]


def attestation(*subjects: Subject) -> Attestation:
    return Attestation(AttestationKind.IN_TOTO, "x.json", "https://example.com/<type>", subjects)


def test_the_bytes_of_a_statement() -> None:
    statement = make_statement(attestation(), b'{ "b": 1.0, "a": "<\\u0041>" }', IMAGE[:1])
    assert statement.predicate_type == "https://example.com/<type>"
    assert statement.data == (
        rb'{"_type":"https://in-toto.io/Statement/v1","predicateType":"https://example.com/\u003ctype\u003e",'
        rb'"subject":[{"name":"pkg:docker/a@1","digest":{"sha256":"aa"}}],'
        rb'"predicate":{"b":1.0,"a":"\u003c\u0041\u003e"}}'
    )


def test_without_names_there_are_no_subjects() -> None:
    statement = json.loads(make_statement(attestation(), b"", []).data)
    assert statement["subject"] == []
    assert statement["predicate"] is None


def test_subjects() -> None:
    subjects = (
        Subject(SubjectKind.SELF),
        Subject(SubjectKind.SELF, "also"),
        Subject(SubjectKind.RAW, "", ("sha512:cc", "sha256:bb")),
        Subject(SubjectKind.RAW, "file", ()),
    )
    statement = json.loads(make_statement(attestation(*subjects), b"1", IMAGE).data)
    a, b = ({"name": name, "digest": {"sha256": "aa"}} for name in ("pkg:docker/a@1", "pkg:docker/b@2"))
    also = {"name": "also", "digest": {"sha256": "aa"}}
    assert statement["subject"] == [
        *(a, b),
        *(a, also, b, also),
        {"name": "_", "digest": {"sha256": "bb", "sha512": "cc"}},
        {"name": "file", "digest": {}},
    ]


def test_a_predicate_that_is_not_json() -> None:
    with pytest.raises(ImageError, match=r"^failed to marshal attestation: .*unexpected end of JSON input"):
        make_statement(attestation(), b'{"a":', IMAGE)


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [({}, False), ({"inline-only": b"true"}, True), ({"inline-only": b"false"}, False)],
)
def test_inline_only(metadata: dict[str, bytes], expected: bool) -> None:
    assert is_inline_only(Attestation(AttestationKind.IN_TOTO, metadata=metadata)) is expected
