"""SPDX documents, read and written as BuildKit does it with ``github.com/spdx/tools-golang``.

BuildKit decodes a scanner's document into that library's model and writes the model anew: what the model does
not know is gone then, and older versions have become 2.3. The digest of the attestation depends on it, so the
model is repeated here: the fields of SPDX 2.3 in its order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from exporter.image import ImageError, gojson
from exporter.image.gojson import Bool, Int64, Pointer, Raw, Slice, String, Struct, Type

__all__ = ["Document", "SPDXError", "read", "uncommented_files", "write"]

Document = dict[str, Any]
"""A document, or a part of it: all fields of the model by their keys in JSON."""

_VERSIONS: Final = ("SPDX-2.1", "SPDX-2.2", "SPDX-2.3")
_OLDEST, _OLDER, _CURRENT = _VERSIONS

_NO_ASSERTION: Final = "NOASSERTION"


class SPDXError(ImageError):
    """The text is no SPDX document that can be decoded."""


def read(data: bytes) -> Document:
    """Decode a document of version 2.1, 2.2 or 2.3.

    Raises:
        SPDXError: it cannot be decoded.
    """
    try:
        version = _find_version(data)
        document: Document = _DOCUMENT.read(gojson.decode(data, _DOCUMENT.type))
    except SPDXError:
        raise
    except ImageError as error:
        raise SPDXError(str(error)) from error
    _upgrade(document, version)
    return document


def uncommented_files(document: Document) -> Iterator[Document]:
    """The files that have no comment, those of packages included."""
    return (file for file in _files(document) if not file["comment"])


def write(document: Document, *, creator: str) -> bytes:
    """Write a document in version 2.3, and name its last creator.

    Args:
        document: As `read` gave it, perhaps with comments added.
        creator: Name and version of a tool.

    Raises:
        ImageError: a part of it has no text in JSON; with BuildKit's prefix.
    """
    info = document["creationInfo"] or _CREATION_INFO.empty()
    info = {**info, "creators": [*(info["creators"] or ()), f"Tool: {creator}"]}
    try:
        return gojson.marshal(_DOCUMENT.write({**document, "creationInfo": info}))
    except ImageError as error:
        raise ImageError(f"unable to encode spdx: {error}") from error


def _files(document: Document) -> Iterator[Document]:
    owners = [document, *(package for package in document["packages"] or () if package is not None)]
    for owner in owners:
        yield from (file for file in owner["files"] or () if file is not None)


def _find_version(data: bytes) -> str:
    root = gojson.parse(data)
    if root.kind != "object":
        raise SPDXError("not a valid SPDX JSON document")
    members = dict(zip(root.keys, root.items, strict=True))
    node = members.get("spdxVersion")
    if node is None:
        raise SPDXError("JSON document does not contain spdxVersion field")
    text = data[node.start : node.end]
    version = gojson.unquote(text) if node.kind == "string" else text.decode("utf-8", "replace")
    if version not in _VERSIONS:
        raise SPDXError(f"unsupported SPDX version: {version}")
    return version


# --- what decoding makes of older versions, and of fields that say the same -------------------------------

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
_UNKNOWN_BEFORE_2_2: Final = _UNKNOWN_BEFORE_2_3 | {"attributionTexts"}
_UNKNOWN: Final = {_OLDEST: _UNKNOWN_BEFORE_2_2, _OLDER: _UNKNOWN_BEFORE_2_3, _CURRENT: frozenset[str]()}
_INVERSES: Final = {"CONTAINED_BY": "CONTAINS", "DESCRIBED_BY": "DESCRIBES"}


def _upgrade(document: Document, version: str) -> None:
    packages: list[Document | None] = document["packages"] or []
    for package in packages:
        if package is None:
            raise SPDXError("a package is null")
        _forget(package, version)
        if package["filesAnalyzed"] is None:
            package["filesAnalyzed"] = version != _OLDEST
        if version != _CURRENT and package["packageVerificationCode"] is None:
            package["packageVerificationCode"] = _VERIFICATION_CODE.empty()
    for file in _files(document):
        _forget(file, version)
    if version != _OLDEST:
        document["relationships"] = _relationships(document)
    document["spdxVersion"] = _CURRENT


def _forget(part: Document, version: str) -> None:
    """Drop what the model of a version does not know."""
    part.update(dict.fromkeys(_UNKNOWN[version] & part.keys()))


def _relationships(document: Document) -> list[Document]:
    """The relationships, with those that other fields stand for, each of these once."""
    relationships = [relation for relation in document["relationships"] or () if relation is not None]
    known = {_key(relation) for relation in relationships}
    implied = [("DESCRIBES", document, element) for element in document["documentDescribes"] or ()]
    for package in document["packages"] or ():
        implied += [("CONTAINS", package, file) for file in package["hasFiles"] or ()]
    for kind, owner, element in implied:
        relation = _RELATIONSHIP.empty()
        # A part without an ID of its own cannot be referred to.
        owner_id = owner["SPDXID"] if owner["SPDXID"] != _ELEMENT_ID.read(b"") else None
        relation |= {"spdxElementId": owner_id, "relatedSpdxElement": element, "relationshipType": kind}
        if _key(relation) not in known:
            known.add(_key(relation))
            relationships.append(relation)
    return relationships


def _key(relation: Document) -> tuple[str, str | None, str | None]:
    """What is the same for relationships that say the same."""
    kind: str = relation["relationshipType"]
    one, other = relation["spdxElementId"], relation["relatedSpdxElement"]
    return (_INVERSES[kind], other, one) if kind in _INVERSES else (kind, one, other)


# --- what the fields are ----------------------------------------------------------------------------------


class _Kind:
    """What a field is: how it is decoded, what becomes of that at once, and how it is written.

    Reading fails with `SPDXError`, writing with any other `ImageError`.
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
    """A struct. Keys that end with ``?`` are left out when they are empty, those with ``-`` are read only."""

    def __init__(self, fields: Mapping[str, _Kind]) -> None:
        self._fields = {key.rstrip("?-"): kind for key, kind in fields.items()}
        self._written = [(key.rstrip("?"), key.endswith("?")) for key in fields if not key.endswith("-")]
        struct = Struct("", {key: kind.type for key, kind in self._fields.items()})
        super().__init__(struct, self._read, self._write)

    def empty(self) -> Document:
        """The struct without anything."""
        value: Document = self._read(gojson.decode(b"{}", self.type))
        return value

    def _read(self, value: Mapping[str, Any]) -> Document:
        return {key: kind.read(value[key]) for key, kind in self._fields.items()}

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


def _one_line(parse: Callable[[str], str | None], *, unset: str | None = None) -> _Kind:
    """A string that the library takes apart without decoding escapes in it, and puts together again.

    Args:
        parse: Gives the text that will be written; None for what can be read but not written.
        unset: The text of a field that does not occur; None if it cannot be written then.
    """

    def read(raw: bytes) -> str | None:
        return parse(raw.decode("utf-8", "replace").strip('"')) if raw else unset

    def write(text: str | None) -> str:
        if text is None:
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
    """``TYPE: NAME``, or ``NOASSERTION`` where a type is needed."""

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
_ELEMENT_ID = _one_line(_parse_element_id, unset="SPDXRef-")
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

_FILE = _Model(
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
    }
)

_VERIFICATION_CODE = _Model(
    {"packageVerificationCodeValue": _TEXT, "packageVerificationCodeExcludedFiles?": _TEXTS}
)

_PACKAGE = _Model(
    {
        "name": _TEXT,
        "SPDXID": _ELEMENT_ID,
        "versionInfo?": _TEXT,
        "packageFileName?": _TEXT,
        "supplier?": _pointer(_agent("Supplier", needs_type=True)),
        "originator?": _pointer(_agent("Originator", needs_type=True, strip=False)),
        "downloadLocation": _TEXT,
        "filesAnalyzed": _Kind(Pointer(Bool())),
        "packageVerificationCode?": _pointer(_VERIFICATION_CODE),
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
                    # Its words were once spelled with underscores.
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
        "files?": _list(_FILE, pointers=True),
        "annotations?": _list(_ANNOTATION),
        "hasFiles-": _list(_DOC_ELEMENT_ID),
    }
)

_RELATIONSHIP = _Model(
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

_CREATION_INFO = _Model(
    {
        "licenseListVersion?": _TEXT,
        "creators": _list(_agent("Creator", needs_type=False)),
        "created": _TEXT,
        "comment?": _TEXT,
    }
)

_DOCUMENT = _Model(
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
        "creationInfo": _pointer(_CREATION_INFO),
        "packages?": _list(_PACKAGE, pointers=True),
        "files?": _list(_FILE, pointers=True),
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
        "relationships?": _list(_RELATIONSHIP, pointers=True),
        "annotations?": _list(_ANNOTATION, pointers=True),
        "snippets?": _list(_SNIPPET),
        "documentDescribes-": _list(_DOC_ELEMENT_ID),
    }
)
