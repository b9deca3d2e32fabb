"""Check results for blobs that have been read."""

from __future__ import annotations

from collections.abc import Iterator

from exporter.content.manifest import must_not_be_distributed
from exporter.image import Descriptor
from exporter.verify import checks
from exporter.verify.blobs import BlobFacts
from exporter.verify.report import Result, Subject

_ELSEWHERE = "it must not be distributed and is fetched from its own URLs"


def layer_results(
    subject: Subject, layer: Descriptor, diff_id: str | None, facts: BlobFacts
) -> Iterator[Result]:
    """The results for a layer of a manifest.

    Args:
        subject: The layer.
        layer: Its descriptor.
        diff_id: The diff ID in the config: empty if it has none for this layer, None if it cannot be read.
        facts: What was found out about the blob.
    """
    yield from blob_results(subject, layer, facts)
    if not facts.is_missing and facts.digest == layer.digest:
        yield Result(subject, "media type", tuple(checks.layer_type_findings(layer, facts)))
        yield _diff_id_result(subject, diff_id, facts)


def unpacked_results(subject: Subject, diff_id: str | None, facts: BlobFacts) -> Iterator[Result]:
    """The results for a layer of which only the diff ID, and perhaps the digest, is known."""
    expected = Descriptor("", subject.digest or facts.digest, facts.size)
    findings = checks.digest_findings(expected, facts)
    yield Result(subject, "digest" if subject.digest else "file", tuple(findings))
    if not findings:
        yield _diff_id_result(subject, diff_id, facts)


def _diff_id_result(subject: Subject, diff_id: str | None, facts: BlobFacts) -> Result:
    if diff_id is None and not facts.damage:
        return Result(subject, "diff ID", skipped="the config cannot be read")
    return Result(subject, "diff ID", tuple(checks.diff_id_findings(diff_id or "", facts)))


def blob_results(subject: Subject, descriptor: Descriptor, facts: BlobFacts) -> Iterator[Result]:
    """The results for a blob whose content is not examined."""
    if facts.is_missing and must_not_be_distributed(descriptor):
        yield Result(subject, "digest", skipped=_ELSEWHERE)
        return
    yield Result(subject, "digest", tuple(checks.digest_findings(descriptor, facts)))
    if not facts.is_missing:
        yield Result(subject, "size", tuple(checks.size_findings(descriptor, facts)))
