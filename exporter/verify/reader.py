"""Reading the JSON documents of an image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from exporter.content.copy import PARSE_LIMIT, reading
from exporter.content.manifest import is_parent
from exporter.content.protocol import Provider
from exporter.content.threads import run_in_thread
from exporter.content.verify import split_digest
from exporter.errors import InvalidArgumentError, NotFoundError
from exporter.image import Descriptor, ImageError
from exporter.verify import checks
from exporter.verify.blobs import BlobFacts, facts_of
from exporter.verify.checklist import Checklist
from exporter.verify.documents import parse_document, schema_findings
from exporter.verify.report import Finding, Subject

_REQUIRED = frozenset({"mediaType", "digest", "size"})


class DocumentReader:
    """Reads documents, and performs the checks that do not depend on other documents.

    Args:
        provider: Has the documents.
        checklist: Receives the results.
    """

    def __init__(self, provider: Provider, checklist: Checklist) -> None:
        self._provider = provider
        self._checks = checklist

    async def read(
        self, subject: Subject, descriptor: Descriptor, schema: str
    ) -> tuple[dict[str, Any], bool]:
        """Verify and read a document.

        Returns:
            The document, empty if it cannot be read; and whether it is valid by the schema.
        """
        descriptor = self.check_embedded(subject, descriptor)
        try:
            data = await self._read(descriptor)
        except NotFoundError:
            missing = BlobFacts(is_missing=True)
            self._checks.add(subject, "digest", checks.digest_findings(descriptor, missing))
            return {}, False
        if data is None:
            text = f"it is too large: the limit for such a document is {PARSE_LIMIT} bytes"
            self._checks.add(subject, "size", [Finding(text)])
            return {}, False
        facts = await run_in_thread(facts_of, data, descriptor.digest)
        is_right = self._checks.add(subject, "digest", checks.digest_findings(descriptor, facts))
        self._checks.add(subject, "size", checks.size_findings(descriptor, facts))
        return self.parse(subject, data, schema, descriptor) if is_right else ({}, False)

    def check_embedded(self, subject: Subject, descriptor: Descriptor) -> Descriptor:
        """Check data that is embedded in a descriptor; if it is wrong, return the descriptor without it."""
        if not descriptor.data:
            return descriptor
        facts = facts_of(descriptor.data, descriptor.digest)
        if self._checks.add(subject, "data", checks.embedded_findings(descriptor, facts)):
            return descriptor
        return replace(descriptor, data=b"")

    async def own_media_type(self, descriptor: Descriptor) -> str:
        """The ``mediaType`` in a small blob of an unknown type; empty if it has none."""
        if descriptor.size > PARSE_LIMIT:
            return ""
        try:
            data = await self._read(descriptor)
        except NotFoundError:
            return ""
        document, _ = parse_document(data or b"")
        media_type = document.get("mediaType") if document is not None else None
        return media_type if isinstance(media_type, str) else ""

    def parse(
        self, subject: Subject, data: bytes, schema: str, descriptor: Descriptor | None = None
    ) -> tuple[dict[str, Any], bool]:
        """Check the text of a document.

        Args:
            subject: The document.
            data: Its text.
            schema: See `schema_findings`.
            descriptor: The descriptor of a manifest or index, to also check its media type.

        Returns:
            See `read`.
        """
        document, findings = parse_document(data)
        if document is not None:
            if descriptor is not None and is_parent(descriptor):
                type_findings = checks.document_type_findings(descriptor, document)
                if not self._checks.add(subject, "media type", type_findings):
                    return {}, False
            findings += schema_findings(document, schema)
        is_valid = self._checks.add(subject, "schema", findings)
        return document or {}, is_valid

    async def _read(self, descriptor: Descriptor) -> bytes | None:
        """Read a small blob; None if it is too large."""
        pieces: list[bytes] = []
        size = 0
        async with reading(self._provider, descriptor) as source:
            async for data in source:
                pieces.append(data)
                size += len(data)
                if size > PARSE_LIMIT:
                    return None
        return b"".join(pieces)


def descriptors_in(document: Mapping[str, Any], key: str) -> Iterator[tuple[int, Descriptor]]:
    """The well-formed descriptors of a list, with their positions."""
    values = document.get(key)
    for position, value in enumerate(values if isinstance(values, list) else ()):
        descriptor = descriptor_in(value)
        if descriptor is not None:
            yield position, descriptor


def descriptor_in(value: object) -> Descriptor | None:
    """A descriptor; None if it is malformed, which schema validation reports."""
    if not isinstance(value, dict) or not value.keys() >= _REQUIRED:
        return None
    try:
        descriptor = Descriptor.from_dict(value)
        split_digest(descriptor.digest)
    except (ImageError, InvalidArgumentError):
        return None
    return descriptor if descriptor.size >= 0 else None
