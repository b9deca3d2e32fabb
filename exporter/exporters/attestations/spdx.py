"""SPDX documents, read and written as BuildKit does it with ``github.com/spdx/tools-golang``.

BuildKit decodes a scanner's document into that library's model and writes the model again. This drops what
the model does not contain, and upgrades older versions to 2.3. The digest of the attestation depends on it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from exporter.exporters.attestations.spdx_model import (
    CREATION_INFO,
    CURRENT,
    NO_ELEMENT,
    OLDEST,
    RELATIONSHIP,
    VERIFICATION_CODE,
    Document,
    SPDXError,
    document_model,
)
from exporter.image import ImageError
from exporter.image.go import json as gojson

__all__ = ["Document", "SPDXError", "read", "uncommented_files", "write"]

_INVERSES: Final = {"CONTAINED_BY": "CONTAINS", "DESCRIBED_BY": "DESCRIBES"}


def read(data: bytes) -> Document:
    """Decode a document of version 2.1, 2.2 or 2.3.

    Raises:
        SPDXError: it cannot be decoded.
    """
    try:
        version = _find_version(data)
        model = document_model(version)
        document: Document = model.read(gojson.decode(data, model.type))
    except SPDXError:
        raise
    except ImageError as error:
        raise SPDXError(str(error)) from error
    _upgrade(document, version)
    return document


def uncommented_files(document: Document) -> Iterator[Document]:
    """The files without a comment, including those of packages."""
    return (file for file in _files(document) if not file["comment"])


def write(document: Document, *, creator: str) -> bytes:
    """Write a document in version 2.3, and name its last creator.

    Args:
        document: The result of `read`, possibly with comments added.
        creator: Name and version of a tool.

    Raises:
        ImageError: a part of it cannot be encoded; with BuildKit's prefix.
    """
    info = document["creationInfo"] or CREATION_INFO.empty()
    info = {**info, "creators": [*(info["creators"] or ()), f"Tool: {creator}"]}
    try:
        return gojson.marshal(document_model(CURRENT).write({**document, "creationInfo": info}))
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
    return gojson.unquote(text) if node.kind == "string" else text.decode("utf-8", "replace")


def _upgrade(document: Document, version: str) -> None:
    """Set the defaults that the library's decoder sets, which depend on the version."""
    packages: list[Document | None] = document["packages"] or []
    for package in packages:
        if package is None:
            raise SPDXError("a package is null")
        if package["filesAnalyzed"] is None:
            package["filesAnalyzed"] = version != OLDEST
        if version != CURRENT and package["packageVerificationCode"] is None:
            package["packageVerificationCode"] = VERIFICATION_CODE.empty()
    if version != OLDEST:
        document["relationships"] = _relationships(document)
    document["spdxVersion"] = CURRENT


def _relationships(document: Document) -> list[Document]:
    """The relationships, plus those that other fields imply, without duplicates."""
    relationships = [relation for relation in document["relationships"] or () if relation is not None]
    known = {_key(relation) for relation in relationships}
    implied = [("DESCRIBES", document, element) for element in document["documentDescribes"] or ()]
    for package in document["packages"] or ():
        implied += [("CONTAINS", package, file) for file in package["hasFiles"] or ()]
    for kind, owner, element in implied:
        relation = RELATIONSHIP.empty()
        if owner["SPDXID"] != NO_ELEMENT:
            relation["spdxElementId"] = owner["SPDXID"]
        relation |= {"relatedSpdxElement": element, "relationshipType": kind}
        if _key(relation) not in known:
            known.add(_key(relation))
            relationships.append(relation)
    return relationships


def _key(relation: Document) -> tuple[str, object, object]:
    """A key that is equal for equivalent relationships."""
    kind: str = relation["relationshipType"]
    one, other = relation["spdxElementId"], relation["relatedSpdxElement"]
    return (_INVERSES[kind], other, one) if kind in _INVERSES else (kind, one, other)
