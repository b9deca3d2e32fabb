"""BuildKit's model for SPDX documents, that of ``github.com/spdx/tools-golang``, with its field order.

Fields that do not exist in a document's version are not read from it. The newest version is always written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from exporter.image import ImageError
from exporter.image.go import json as gojson
from exporter.image.go.json import Bool, Int64, Pointer, Raw, Slice, String, Struct, Type

__all__ = [
    "CREATION_INFO",
    "CURRENT",
    "NO_ELEMENT",
    "OLDEST",
    "RELATIONSHIP",
    "VERIFICATION_CODE",
    "Document",
    "SPDXError",
    "document_model",
]

OLDEST: Final = "SPDX-2.1"
_OLDER: Final = "SPDX-2.2"
CURRENT: Final = "SPDX-2.3"

_UNKNOWN_BEFORE_2_3: Final = frozenset(
    {
        "artifactOfs",
        "builtDate",
        "fileDependencies",
        "primaryPackagePurpose",
        "releaseDate",
        "validUntilDate",
    }
)
_UNKNOWN_BEFORE_2_2: Final = _UNKNOWN_BEFORE_2_3 | {"attributionTexts", "documentDescribes", "hasFiles"}

_NO_ASSERTION: Final = "NOASSERTION"

Document = dict[str, Any]
"""A document, or a part of it: all fields of the model by their keys in JSON."""


class SPDXError(ImageError):
    """The text is not an SPDX document that can be decoded."""


def document_model(version: str) -> _Model:
    """The model for reading and writing documents of a version.

    Raises:
        SPDXError: there is no such version.
    """
    if version not in _DOCUMENTS:
        raise SPDXError(f"unsupported SPDX version: {version}")
    return _DOCUMENTS[version]


class _Kind:
    """The kind of a field: how to decode it, convert the decoded value, and write it.

    Reading raises `SPDXError`; writing raises any other `ImageError`.
    """

    def __init__(
        self,
        type_: Type[Any],
        read: Callable[[Any], Any] = lambda value: value,
        write: Callable[[Any], Any] = lambda value: value,
    ) -> None:
        self.type = type_
        self.read = read
        self.write = write


class _Model(_Kind):
    """A struct.

    Args:
        fields: The fields by key. The suffix ``?`` means that empty values are omitted, ``-`` that the field
            is never written.
        unknown: Keys that are not read.
    """

    def __init__(self, fields: Mapping[str, _Kind], unknown: frozenset[str] = frozenset()) -> None:
        self._fields = {key.rstrip("?-"): kind for key, kind in fields.items()}
        self._written = [(key.rstrip("?"), key.endswith("?")) for key in fields if not key.endswith("-")]
        known = {key: kind.type for key, kind in self._fields.items() if key not in unknown}
        super().__init__(Struct("", known), self._read, self._write)

    def empty(self) -> Document:
        """The struct with all fields empty."""
        value: Document = self._read(gojson.decode(b"{}", self.type))
        return value

    def _read(self, value: Mapping[str, Any]) -> Document:
        # Unknown fields are strings or lists, which may be None.
        return {key: kind.read(value[key]) if key in value else None for key, kind in self._fields.items()}

    def _write(self, value: Mapping[str, Any]) -> Document:
        return {
            key: self._fields[key].write(value[key])
            for key, optional in self._written
            if value[key] or not optional
        }


def _list(kind: _Kind, *, pointers: bool = False) -> _Kind:
    def each(action: Callable[[Any], Any]) -> Callable[[Any], Any]:
        return lambda items: items and [None if item is None else action(item) for item in items]

    element = Pointer(kind.type) if pointers else kind.type
    return _Kind(Slice(element), each(kind.read), each(kind.write))


def _pointer(kind: _Kind) -> _Kind:
    def unless_none(action: Callable[[Any], Any]) -> Callable[[Any], Any]:
        return lambda value: None if value is None else action(value)

    return _Kind(Pointer(kind.type), unless_none(kind.read), unless_none(kind.write))


_UNWRITABLE: Final = object()
"""A value that can be read but not written."""


def _one_line(parse: Callable[[str], str | None], *, unset: str | None = None) -> _Kind:
    """A string that the library parses without decoding escapes, and formats again.

    Args:
        parse: Returns the text to be written; None for a value that can be read but not written.
        unset: The text for a missing field; None if it cannot be written then.
    """

    def read(raw: bytes) -> object:
        text = parse(raw.decode("utf-8", "replace").strip('"')) if raw else unset
        return _UNWRITABLE if text is None else text

    def write(text: object) -> object:
        if text is _UNWRITABLE:
            raise ImageError("an identifier or a name in the document is empty")
        return text

    return _Kind(Raw(), read, write)


def _prefixed(prefix: str, name: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if not text.startswith(prefix) or text == prefix:
            raise SPDXError(f"failed to parse {name}: {text}")
        return text

    return parse


_parse_element_id = _prefixed("SPDXRef-", "ElementID")
_parse_document_id = _prefixed("DocumentRef-", "DocumentID")


def _parse_doc_element_id(text: str) -> str | None:
    if text in {"NONE", _NO_ASSERTION}:
        return text
    if not text.startswith("DocumentRef-"):
        return _parse_element_id(text)
    document, colon, element = text.partition(":")
    _parse_document_id(document)
    return f"{document}:{_parse_element_id(element)}" if colon else None


def _agent(name: str, *, needs_type: bool, strip: bool = True) -> _Kind:
    """``TYPE: NAME``, or ``NOASSERTION`` if a type is required."""

    def parse(text: str) -> str | None:
        if needs_type and text == _NO_ASSERTION:
            return text
        agent_type, colon, agent = text.partition(":")
        if not colon:
            raise SPDXError(f"failed to parse {name} '{text}'")
        agent_type, agent = (
            (agent_type.strip(), agent.strip()) if strip else (agent_type, agent.lstrip(" \t"))
        )
        if needs_type and agent == _NO_ASSERTION:
            return agent
        return f"{agent_type}: {agent}" if agent and (agent_type or not needs_type) else None

    return _one_line(parse)


# --- the model --------------------------------------------------------------------------------------------

_TEXT = _Kind(String())
_TEXTS = _list(_TEXT)
_NUMBER = _Kind(Int64())
NO_ELEMENT: Final = "SPDXRef-"
"""The ID of a part that has none."""

_ELEMENT_ID = _one_line(_parse_element_id, unset=NO_ELEMENT)
_DOC_ELEMENT_ID = _one_line(_parse_doc_element_id)

_CHECKSUM = _Model({"algorithm": _TEXT, "checksumValue": _TEXT})

_ANNOTATION = _Model(
    {
        "annotator": _agent("Annotator", needs_type=False),
        "annotationDate": _TEXT,
        "annotationType": _TEXT,
        "comment": _TEXT,
    }
)

VERIFICATION_CODE = _Model(
    {"packageVerificationCodeValue": _TEXT, "packageVerificationCodeExcludedFiles?": _TEXTS}
)

RELATIONSHIP = _Model(
    {
        "spdxElementId": _DOC_ELEMENT_ID,
        "relatedSpdxElement": _DOC_ELEMENT_ID,
        "relationshipType": _TEXT,
        "comment?": _TEXT,
    }
)

_RANGE_POINTER = _Model({"offset?": _NUMBER, "lineNumber?": _NUMBER, "reference": _ELEMENT_ID})

_SNIPPET = _Model(
    {
        "SPDXID": _ELEMENT_ID,
        "snippetFromFile": _ELEMENT_ID,
        "ranges": _list(_Model({"startPointer": _RANGE_POINTER, "endPointer": _RANGE_POINTER})),
        "licenseConcluded?": _TEXT,
        "licenseInfoInSnippets?": _TEXTS,
        "licenseComments?": _TEXT,
        "copyrightText": _TEXT,
        "comment?": _TEXT,
        "name?": _TEXT,
    }
)

CREATION_INFO = _Model(
    {
        "licenseListVersion?": _TEXT,
        "creators": _list(_agent("Creator", needs_type=False)),
        "created": _TEXT,
        "comment?": _TEXT,
    }
)


def _file(unknown: frozenset[str]) -> _Model:
    return _Model(
        {
            "fileName": _TEXT,
            "SPDXID": _ELEMENT_ID,
            "fileTypes?": _TEXTS,
            "checksums": _list(_CHECKSUM),
            "licenseConcluded?": _TEXT,
            "licenseInfoInFiles?": _TEXTS,
            "licenseComments?": _TEXT,
            "copyrightText": _TEXT,
            "artifactOfs?": _list(_Model({"name": _TEXT, "homePage": _TEXT, "URI": _TEXT}), pointers=True),
            "comment?": _TEXT,
            "noticeText?": _TEXT,
            "fileContributors?": _TEXTS,
            "attributionTexts?": _TEXTS,
            "fileDependencies?": _TEXTS,
            "annotations?": _list(_ANNOTATION),
        },
        unknown,
    )


def _package(unknown: frozenset[str]) -> _Model:
    return _Model(
        {
            "name": _TEXT,
            "SPDXID": _ELEMENT_ID,
            "versionInfo?": _TEXT,
            "packageFileName?": _TEXT,
            "supplier?": _pointer(_agent("Supplier", needs_type=True)),
            "originator?": _pointer(_agent("Originator", needs_type=True, strip=False)),
            "downloadLocation": _TEXT,
            "filesAnalyzed": _Kind(Pointer(Bool())),
            "packageVerificationCode?": _pointer(VERIFICATION_CODE),
            "checksums?": _list(_CHECKSUM),
            "homepage?": _TEXT,
            "sourceInfo?": _TEXT,
            "licenseConcluded?": _TEXT,
            "licenseInfoFromFiles?": _TEXTS,
            "licenseDeclared?": _TEXT,
            "licenseComments?": _TEXT,
            "copyrightText?": _TEXT,
            "summary?": _TEXT,
            "description?": _TEXT,
            "comment?": _TEXT,
            "externalRefs?": _list(
                _Model(
                    {
                        # Its values used to be spelled with underscores.
                        "referenceCategory": _Kind(String(), lambda text: text.replace("_", "-")),
                        "referenceType": _TEXT,
                        "referenceLocator": _TEXT,
                        "comment?": _TEXT,
                    }
                ),
                pointers=True,
            ),
            "attributionTexts?": _TEXTS,
            "primaryPackagePurpose?": _TEXT,
            "releaseDate?": _TEXT,
            "builtDate?": _TEXT,
            "validUntilDate?": _TEXT,
            "files?": _list(_file(unknown), pointers=True),
            "annotations?": _list(_ANNOTATION),
            "hasFiles-": _list(_DOC_ELEMENT_ID),
        },
        unknown,
    )


def _document(unknown: frozenset[str]) -> _Model:
    return _Model(
        {
            "spdxVersion": _TEXT,
            "dataLicense": _TEXT,
            "SPDXID": _ELEMENT_ID,
            "name": _TEXT,
            "documentNamespace": _TEXT,
            "externalDocumentRefs?": _list(
                _Model(
                    {
                        "externalDocumentId": _one_line(_parse_document_id, unset="DocumentRef-"),
                        "spdxDocument": _TEXT,
                        "checksum": _CHECKSUM,
                    }
                )
            ),
            "comment?": _TEXT,
            "creationInfo": _pointer(CREATION_INFO),
            "packages?": _list(_package(unknown), pointers=True),
            "files?": _list(_file(unknown), pointers=True),
            "hasExtractedLicensingInfos?": _list(
                _Model(
                    {
                        "licenseId": _TEXT,
                        "extractedText": _TEXT,
                        "name?": _TEXT,
                        "seeAlsos?": _TEXTS,
                        "comment?": _TEXT,
                    }
                ),
                pointers=True,
            ),
            "relationships?": _list(RELATIONSHIP, pointers=True),
            "annotations?": _list(_ANNOTATION, pointers=True),
            "snippets?": _list(_SNIPPET),
            "documentDescribes-": _list(_DOC_ELEMENT_ID),
        },
        unknown,
    )


_DOCUMENTS = {
    OLDEST: _document(_UNKNOWN_BEFORE_2_2),
    _OLDER: _document(_UNKNOWN_BEFORE_2_3),
    CURRENT: _document(frozenset()),
}
