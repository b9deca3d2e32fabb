"""The results of builds as values, and what a daemon's history keeps of them."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from exporter.client.events import Step, StepWarning
from exporter.client.outputs import AnyOutput
from exporter.client.planning import PlannedOutput
from exporter.client.solving import SolveResult
from exporter.content.protocol import Provider
from exporter.daemon.records import BuildRecord, RecordedBlob
from exporter.errors import FailedPreconditionError
from exporter.image.keys import (
    ENGINE_IMAGE_ID,
    ENGINE_IMAGE_NAME,
    IMAGE_CONFIG_DIGEST,
    IMAGE_DESCRIPTOR,
    IMAGE_DIGEST,
    IMAGE_NAME,
    PREDICATE_TYPE,
    RESPONSE_PREFIX,
)

_PROVENANCE = "https://slsa.dev/provenance/"
_SPDX = "https://spdx.dev/Document"
_MAX_ATTESTATION_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class AttestationDocument:
    """An attestation that a daemon keeps with a build.

    Attributes:
        platform: The platform that it is about; empty if the build has only one.
        predicate_type: The type of its predicate, such as ``https://slsa.dev/provenance/v1``.
        digest: The digest of its blob.
        data: Its blob: an in-toto statement, or only the predicate, as JSON.
    """

    platform: str
    predicate_type: str
    digest: str
    data: bytes = field(repr=False)

    @property
    def predicate(self) -> dict[str, Any]:
        """The predicate.

        Raises:
            FailedPreconditionError: the blob is not a JSON object.
        """
        try:
            document = json.loads(self.data)
        except ValueError as error:
            raise FailedPreconditionError(f"attestation {self.digest} is not JSON: {error}") from error
        if not isinstance(document, dict):
            raise FailedPreconditionError(f"attestation {self.digest} is not a JSON object")
        predicate = document.get("predicate") if "predicateType" in document else document
        return predicate if isinstance(predicate, dict) else {}

    @property
    def is_provenance(self) -> bool:
        """Whether it is SLSA provenance."""
        return self.predicate_type.startswith(_PROVENANCE)

    @property
    def is_sbom(self) -> bool:
        """Whether it is an SBOM in SPDX format."""
        return self.predicate_type == _SPDX


@dataclass(frozen=True, slots=True)
class OutputResult:
    """What an output has made.

    Attributes:
        output: The output.
        metadata: The exporter's response.
        digest: The digest of the image's root, a manifest or an index; empty if it made no image.
    """

    output: AnyOutput
    metadata: Mapping[str, str]
    digest: str = ""

    @property
    def config_digest(self) -> str:
        """The digest of the image's config (the image ID of older Docker engines); empty if unknown."""
        return self.metadata.get(IMAGE_CONFIG_DIGEST, "")

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the image."""
        return tuple(filter(None, self.metadata.get(IMAGE_NAME, "").split(",")))

    @property
    def descriptor(self) -> dict[str, Any]:
        """The descriptor of the image's root; empty if unknown."""
        try:
            found = json.loads(base64.b64decode(self.metadata.get(IMAGE_DESCRIPTOR, "")))
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}


@dataclass(frozen=True, slots=True)
class BuildResult:
    """The result of a build.

    Attributes:
        ref: The build's ID, for the daemon's history.
        metadata: The merged response of all outputs; the last value of a key wins.
        outputs: What each output has made, in the caller's order.
        steps: The steps, in the order of their appearance.
        warnings: The warnings.
        attestations: What the daemon attests about the build; empty if it keeps no history.
    """

    ref: str
    metadata: Mapping[str, str]
    outputs: tuple[OutputResult, ...] = ()
    steps: tuple[Step, ...] = ()
    warnings: tuple[StepWarning, ...] = ()
    attestations: tuple[AttestationDocument, ...] = ()

    @property
    def digest(self) -> str:
        """The digest of the image; of the last one if several outputs made some, and empty if none did."""
        return self.metadata.get(IMAGE_DIGEST, "")

    @property
    def config_digest(self) -> str:
        """The digest of the image's config; empty if unknown."""
        return self.metadata.get(IMAGE_CONFIG_DIGEST, "")

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the image."""
        return tuple(filter(None, self.metadata.get(IMAGE_NAME, "").split(",")))

    @property
    def cached(self) -> tuple[Step, ...]:
        """The steps whose results came from the cache."""
        return tuple(step for step in self.steps if step.is_cached)

    @property
    def provenance(self) -> dict[str, Any]:
        """The SLSA provenance of the build, of the first platform if there are several; empty if unknown."""
        return next((each.predicate for each in self.attestations if each.is_provenance), {})


def output_results(
    planned: Sequence[PlannedOutput], solved: SolveResult, record: BuildRecord | None
) -> tuple[OutputResult, ...]:
    """Find out what each output has made.

    A daemon merges the responses of its outputs. So if it made several images, only the digests of all but
    the last one are known, from its history.

    Args:
        planned: The outputs.
        solved: The build's response.
        record: The build in the daemon's history; None if it keeps none.
    """
    images = _images(record)
    merged = {key for ours in solved.our_responses.values() for key in ours}
    theirs = {key: value for key, value in solved.response.items() if key not in merged}
    found = []
    for index, plan in enumerate(planned):
        if (ours := solved.our_responses.get(index)) is not None:
            metadata = dict(ours)
        else:
            recorded = images.get(solved.daemon_indexes[index])
            metadata = _daemon_metadata(planned, index, theirs, recorded)
        if plan.engine is not None:
            metadata |= _loaded(plan)
        found.append(OutputResult(plan.output, metadata, metadata.get(IMAGE_DIGEST, "")))
    return tuple(found)


def _daemon_metadata(
    planned: Sequence[PlannedOutput], index: int, response: Mapping[str, str], recorded: RecordedBlob | None
) -> dict[str, str]:
    is_image = planned[index].export.type not in {"local", "tar"}
    keys = (RESPONSE_PREFIX, IMAGE_NAME)
    shared = {key: value for key, value in response.items() if not key.startswith(keys)}
    if not is_image:
        return shared
    of_image = {key: value for key, value in response.items() if key.startswith(keys)}
    if recorded is None or of_image.get(IMAGE_DIGEST) == recorded.digest:
        is_only = sum(plan.export.type not in {"local", "tar"} for plan in planned) == 1
        names = planned[index].export.attrs.get("name", "")
        return shared | of_image | ({} if is_only or not names else {IMAGE_NAME: names})
    descriptor = {
        "mediaType": recorded.media_type,
        "digest": recorded.digest,
        "size": recorded.size,
        **({"annotations": dict(recorded.annotations)} if recorded.annotations else {}),
    }
    found = {
        IMAGE_DIGEST: recorded.digest,
        IMAGE_DESCRIPTOR: base64.b64encode(json.dumps(descriptor).encode()).decode(),
        IMAGE_NAME: planned[index].export.attrs.get("name", ""),
    }
    return shared | {key: value for key, value in found.items() if value}


def _images(record: BuildRecord | None) -> dict[int, RecordedBlob]:
    if record is None:
        return {}
    return {index: blob for result in record.results.values() for index, blob in result.images.items()}


def _loaded(plan: PlannedOutput) -> dict[str, str]:
    assert plan.engine is not None
    ids = dict.fromkeys(image.id for image in plan.engine.images)
    names = dict.fromkeys(image.name for image in plan.engine.images if image.name)
    found = {ENGINE_IMAGE_ID: ",".join(ids), ENGINE_IMAGE_NAME: ",".join(names)}
    return {key: value for key, value in found.items() if value}


async def read_attestations(content: Provider, record: BuildRecord) -> tuple[AttestationDocument, ...]:
    """Read the attestations of a build from a daemon's content store.

    Raises:
        NotFoundError: the daemon no longer has a blob.
        FailedPreconditionError: an attestation is implausibly large.
    """
    found = []
    for platform, result in sorted(record.results.items()):
        for blob in result.attestations:
            data = await read_blob(content, blob)
            kind = blob.annotations.get(PREDICATE_TYPE, "") or _predicate_type(data)
            found.append(AttestationDocument(platform, kind, blob.digest, data))
    return tuple(found)


async def read_blob(content: Provider, blob: RecordedBlob) -> bytes:
    """Read a small blob of a daemon's content store.

    Raises:
        NotFoundError: the daemon no longer has it.
        FailedPreconditionError: it is implausibly large.
    """
    if blob.size > _MAX_ATTESTATION_BYTES:
        raise FailedPreconditionError(
            f"blob {blob.digest} is too large to be read at once: {blob.size} bytes"
        )
    return b"".join([piece async for piece in content.read(blob.digest)])


def _predicate_type(data: bytes) -> str:
    try:
        document = json.loads(data)
    except ValueError:
        return ""
    return str(document.get("predicateType", "")) if isinstance(document, dict) else ""
