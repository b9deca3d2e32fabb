"""The build result of a running daemon, assembled from several sources.

Metadata and refs come from ``FindExporters``, their layer chains from ``DiskUsage`` at that moment, layers
and attestations from the image that the daemon's own exporter has created.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from exporter.content.protocol import Provider
from exporter.daemon.chain import RebuiltChain, UsageRecord, mismatched_times, rebuild_chain
from exporter.errors import FailedPreconditionError, NotFoundError
from exporter.image import ResultPlatform, parse_platforms
from exporter.image.keys import ATTESTATION_INLINE_ONLY, ATTESTATION_REASON, IMAGE_CONFIG, PLATFORMS
from exporter.source.inline import InlineRef
from exporter.source.types import Attestation, BuildInfo, LayerChain, Source
from exporter.takeover.daemon_image import PROVENANCE_TYPE, DaemonImage, PlatformImage


@dataclass(frozen=True, slots=True)
class BuildResult:
    """The data from ``FindExporters``, and the cache records at that moment.

    Attributes:
        metadata: The result's metadata.
        refs: The IDs of its refs in no particular order, including those of attestations; IDs may repeat.
        records: The cache records in use, by ID.
        version: The daemon's version, such as ``v0.32.2``; empty if unknown.
    """

    metadata: Mapping[str, bytes]
    refs: tuple[str, ...]
    records: Mapping[str, UsageRecord]
    version: str = ""

    @property
    def builder(self) -> str:
        """The daemon's name in documents, see `BuildInfo`; empty if its version is unknown."""
        return f"buildkit-{self.version}" if self.version else ""


@dataclass(frozen=True, slots=True)
class Doubt:
    """An ambiguity in the daemon's data: several layer chains are possible for a platform.

    Attributes:
        platform_id: The platform.
        text: A description for people.
        rivals: The other possible chains.
    """

    platform_id: str
    text: str
    rivals: tuple[LayerChain, ...]

    def __str__(self) -> str:
        return f"{self.platform_id}: {self.text}"


@dataclass(frozen=True, slots=True)
class LiveSource:
    """A build result that can be exported.

    Attributes:
        source: The result.
        inline_cache: Cache data by platform ID, as in `BuildInfo`.
        doubts: Ambiguities.
        builder: As in `BuildInfo`.
    """

    source: Source
    inline_cache: Mapping[str, bytes]
    doubts: tuple[Doubt, ...]
    builder: str

    def build_info(self, build_ref: str, compatibility_version: int) -> BuildInfo:
        """The facts about the build."""
        return BuildInfo(
            ref=build_ref,
            compatibility_version=compatibility_version,
            inline_cache=self.inline_cache,
            builder=self.builder,
        )


def live_source(
    result: BuildResult, image: DaemonImage, provider: Provider, *, inline_only_provenance: bool
) -> LiveSource:
    """Assemble a build result.

    Args:
        result: The daemon's description of it.
        image: The daemon's image of it.
        provider: Reads the image's blobs.
        inline_only_provenance: Whether the client wants provenance only in images, not in archives.

    Raises:
        FailedPreconditionError: the parts are inconsistent.
        NotFoundError: cache records are missing.
        MetadataValueError: the metadata is malformed.
    """
    platforms = parse_platforms(result.metadata)
    if len(platforms) != len(image.platforms):
        raise FailedPreconditionError(
            f"the build has {len(platforms)} platforms, but the daemon made {len(image.platforms)} images"
        )
    assignment = _assign(result, platforms, image.platforms)
    doubts = [doubt for _, doubt in assignment if doubt is not None]
    refs = {
        platform.id: None if ref is None else InlineRef(ref.id, ref.chain.layers, part.layers, provider)
        for platform, part, (ref, _) in zip(platforms, image.platforms, assignment, strict=True)
    }
    is_keyed = _is_keyed(result.metadata, platforms, image)
    parts = list(zip(platforms, image.platforms, strict=True))
    source = Source(
        ref=None if is_keyed else refs[platforms[0].id],
        refs=refs if is_keyed else None,
        metadata=dict(result.metadata),
        attestations={
            platform.id: tuple(_marked(a, inline_only_provenance) for a in part.attestations)
            for platform, part in parts
            if part.attestations
        },
    )
    inline_cache = {
        platform.id if is_keyed else "": part.inline_cache
        for platform, part in parts
        if part.inline_cache is not None
    }
    return LiveSource(source, inline_cache, tuple(doubts), result.builder)


def _is_keyed(metadata: Mapping[str, bytes], platforms: Sequence[ResultPlatform], image: DaemonImage) -> bool:
    """Whether the result has refs by platform. The daemon does not say so, but exports those as an index.

    It rejects such a result without ``refs.platforms``. Attestations alone also lead to an index.
    """
    if PLATFORMS not in metadata:
        return False
    if len(platforms) > 1:
        return True
    is_attested = any(part.attestations for part in image.platforms)
    return image.is_index and (not is_attested or IMAGE_CONFIG not in metadata)


def _marked(attestation: Attestation, inline_only: bool) -> Attestation:
    """Add BuildKit's metadata to provenance, since it is not in the image."""
    if not attestation.predicate_type.startswith(PROVENANCE_TYPE):
        return attestation
    metadata = {ATTESTATION_REASON: b"provenance"}
    metadata[ATTESTATION_INLINE_ONLY] = b"true" if inline_only else b"false"
    return replace(attestation, metadata=metadata)


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A ref that may belong to a platform, and its rank: lower is better."""

    id: str
    chain: RebuiltChain
    rank: tuple[int, int]


def _assign(
    result: BuildResult, platforms: Sequence[ResultPlatform], images: Sequence[PlatformImage]
) -> list[tuple[_Candidate | None, Doubt | None]]:
    """Find the ref of each platform, and ambiguities.

    The best pairs are assigned first. A ref that is listed n times can belong to n platforms.
    """
    pairs = []
    for index, (platform, image) in enumerate(zip(platforms, images, strict=True)):
        pairs += [(c.rank, position, index, c) for position, c in _candidates(result, platform, image)]
    found: dict[int, _Candidate] = {}
    used: set[int] = set()
    for _, position, index, candidate in sorted(pairs, key=lambda pair: pair[:3]):
        if index not in found and position not in used:
            found[index] = candidate
            used.add(position)
    assignment: list[tuple[_Candidate | None, Doubt | None]] = []
    for index, (platform, image) in enumerate(zip(platforms, images, strict=True)):
        if not image.layers:
            assignment.append((None, None))
        elif index not in found:
            raise FailedPreconditionError(_nothing_fits(result, platform, image))
        else:
            rivals = [pair for pair in pairs if pair[2] == index and pair[3].id != found[index].id]
            assignment.append((found[index], _doubt(platform, found[index], [pair[3] for pair in rivals])))
    return assignment


def _candidates(
    result: BuildResult, platform: ResultPlatform, image: PlatformImage
) -> list[tuple[int, _Candidate]]:
    found = []
    for position, ref_id in enumerate(result.refs):
        try:
            chain = rebuild_chain(ref_id, result.records, layers=len(image.layers), created=image.created)
        except (FailedPreconditionError, NotFoundError):
            continue
        # Dockerfile builds of several platforms name them in the steps' descriptions.
        names_it = any(layer.description.startswith(f"[{platform.id} ") for layer in chain.layers)
        rank = (mismatched_times(chain.layers, image.created), -int(names_it))
        found.append((position, _Candidate(ref_id, chain, rank)))
    return found


def _nothing_fits(result: BuildResult, platform: ResultPlatform, image: PlatformImage) -> str:
    text = f"{platform.id}: no ref of the build has the image's {len(image.layers)} layers"
    for ref_id in dict.fromkeys(result.refs):
        try:
            chain = rebuild_chain(ref_id, result.records)
        except NotFoundError as error:
            return f"{text}; {error}"
        text += f"; ref {ref_id} has {len(chain.layers)}"
    return text


def _doubt(platform: ResultPlatform, found: _Candidate, rivals: Sequence[_Candidate]) -> Doubt | None:
    others = [rival.chain for rival in rivals if rival.rank <= found.rank]
    if others:
        text = f"other refs fit its layers as well as {found.id}"
    elif found.chain.rivals:
        text = f"the cache records of ref {found.id} allow several layer chains"
    else:
        return None
    chains = [*found.chain.rivals]
    for other in others:
        chains += [other.layers, *other.rivals]
    return Doubt(platform.id, text, tuple(chains))
