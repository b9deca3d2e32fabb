"""Converting the attestations of a build result to the statements that are stored.

Rules and error texts are those of BuildKit's ``exporter/attestation``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from exporter.content.concurrency import gather
from exporter.errors import InvalidArgumentError
from exporter.exporters.attestations.bundle import read_bundle
from exporter.exporters.attestations.predicate import read_predicate
from exporter.exporters.attestations.sbom import SBOMSupplement
from exporter.exporters.attestations.statements import Statement, StatementSubject, make_statement
from exporter.image.keys import ATTESTATION_SBOM_CORE
from exporter.source.types import Attestation, AttestationKind

__all__ = ["make_statements"]

_PROVENANCE = "https://slsa.dev/provenance/"


async def make_statements(
    attestations: Sequence[Attestation],
    image: Sequence[StatementSubject],
    sbom: SBOMSupplement,
    scratch: Path,
) -> list[Statement]:
    """Convert attestations to statements.

    Args:
        attestations: The attestations of one platform.
        image: The platform's image, once for each of its names.
        sbom: Adds information about the image to SBOMs.
        scratch: A directory to unpack refs in.

    Raises:
        InvalidArgumentError: an attestation is incomplete, or a frontend must not set it; with BuildKit's
            text.
        ImageError: a predicate is invalid; with BuildKit's text.
        NotFoundError: a file or a ref does not exist.
    """
    single = await _unbundle(attestations, scratch)
    predicates = await gather(_predicate(attestation, sbom, scratch) for attestation in single)
    return [
        make_statement(attestation, predicate, image)
        for attestation, predicate in zip(single, predicates, strict=True)
    ]


async def _unbundle(attestations: Sequence[Attestation], scratch: Path) -> list[Attestation]:
    """Replace bundles with their attestations, and put the SBOM of the image itself first."""
    _check(attestations)
    parts = await gather(_open(attestation, scratch) for attestation in attestations)
    single = [attestation for part in parts for attestation in part]
    _check(single)
    return sorted(single, key=lambda attestation: not _is_core(attestation))


async def _open(attestation: Attestation, scratch: Path) -> list[Attestation]:
    if attestation.kind is AttestationKind.IN_TOTO:
        if not attestation.has_content and attestation.predicate_type.startswith(_PROVENANCE):
            raise InvalidArgumentError(
                "frontend may not set provenance attestations", field="source.attestations"
            )
        return [attestation]
    if attestation.has_content:
        raise InvalidArgumentError("attestation bundle cannot have callback", field="source.attestations")
    if attestation.ref is None:
        raise InvalidArgumentError("no ref provided for attestation bundle", field="source.attestations")
    bundled = await read_bundle(attestation, attestation.ref, scratch)
    if any(member.predicate_type.startswith(_PROVENANCE) for member in bundled):
        raise InvalidArgumentError(
            "frontend may not bundle provenance attestations", field="source.attestations"
        )
    return bundled


def _check(attestations: Iterable[Attestation]) -> None:
    for attestation in attestations:
        if attestation.kind is not AttestationKind.BUNDLE and not attestation.path:
            raise InvalidArgumentError("attestation does not have set path", field="source.attestations")
        if attestation.ref is None and not attestation.has_content:
            raise InvalidArgumentError(
                "attestation does not have available content", field="source.attestations"
            )


def _is_core(attestation: Attestation) -> bool:
    name = attestation.metadata.get(ATTESTATION_SBOM_CORE)
    return name is not None and attestation.path.partition(".")[0].encode() == name


async def _predicate(attestation: Attestation, sbom: SBOMSupplement, scratch: Path) -> bytes:
    predicate = await read_predicate(attestation, scratch)
    return await sbom.supplement(attestation, predicate)
