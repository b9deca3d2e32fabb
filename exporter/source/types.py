"""What a daemon passes to an exporter: the build result with its refs.

`Source` mirrors BuildKit's ``exporter.Source`` (``result.Result[ImmutableRef]``). It does not hold the layers
themselves: an exporter asks a `Ref` for its chain and layers when it needs them. Where they come from (the
request itself, a session, an endpoint, a buildkitd, a directory) is up to the resolver.
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from exporter.content.protocol import Provider
from exporter.image import CompressionConfig, Descriptor, LayerMetadata, Time
from exporter.image.keys import DIFF_ID


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of a ref, as the daemon's cache knows it.

    `description` and `created_at` end up in the image's history. `created_at` is None if the daemon does not
    know it.
    """

    id: str
    description: str = ""
    created_at: Time | None = None

    def metadata(self) -> LayerMetadata:
        """The part that `exporter.image` needs."""
        return LayerMetadata(description=self.description, created_at=self.created_at)


LayerChain = tuple[Layer, ...]
"""A ref's layers, base first."""


@dataclass(frozen=True, slots=True)
class Remote:
    """A ref's layers as blobs.

    Attributes:
        descriptors: Base first, with BuildKit's internal annotations: ``containerd.io/uncompressed`` is the
            diff ID.
        provider: Provides the blobs, as long as the source exists.
    """

    descriptors: tuple[Descriptor, ...]
    provider: Provider

    @property
    def diff_ids(self) -> tuple[str, ...]:
        """The digest of each layer's uncompressed tar; ``""`` where unknown."""
        return tuple(d.annotations.get(DIFF_ID, "") for d in self.descriptors)


class Ref(Protocol):
    """A cache record of the daemon (BuildKit: ``cache.ImmutableRef``)."""

    @property
    def id(self) -> str:
        """The record's ID, unique within the daemon."""
        ...

    async def remote(self, compression: CompressionConfig | None = None) -> Remote:
        """The layers as blobs.

        `compression` is a hint to the owner of the ref, so that a daemon that has to compress a layer anyway
        can compress it that way. The layers may still have any compression; the caller has to convert them.

        Raises:
            NotFoundError: the owner does not know the ref, or no longer does.
        """
        ...

    async def layer_chain(self) -> LayerChain:
        """The layers' metadata.

        Call it after `remote`: in BuildKit, a lazily pulled layer gets its description when it is pulled.

        Raises:
            NotFoundError: the owner does not know the ref, or no longer does.
        """
        ...


class AttestationKind(enum.Enum):
    """Values of ``moby.buildkit.v1.frontend.AttestationKind``."""

    IN_TOTO = 0
    BUNDLE = 1


class SubjectKind(enum.Enum):
    """Values of ``moby.buildkit.v1.frontend.InTotoSubjectKind``."""

    SELF = 0
    RAW = 1


@dataclass(frozen=True, slots=True)
class Subject:
    """A subject that the frontend named for an attestation."""

    kind: SubjectKind
    name: str = ""
    digests: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Attestation:
    """An attestation of one platform's image (BuildKit: ``result.Attestation``).

    The predicate is `content` if given, else what `load_content` returns, else the file `path` in `ref`. For
    a bundle, `path` is a directory of in-toto statements in `ref`.

    Attributes:
        load_content: Returns content that the daemon creates late (BuildKit: ``ContentFunc``). Call
            `read_content` after `Ref.remote`: provenance with ``mode=max`` only lists layers that have blobs.
    """

    kind: AttestationKind
    path: str = ""
    predicate_type: str = ""
    subjects: tuple[Subject, ...] = ()
    metadata: Mapping[str, bytes] = field(default_factory=dict)
    ref: Ref | None = None
    content: bytes | None = None
    load_content: Callable[[], Awaitable[bytes]] | None = None

    @property
    def has_content(self) -> bool:
        """Whether the predicate comes from the daemon, and not from a file in `ref`."""
        return self.content is not None or self.load_content is not None

    async def read_content(self) -> bytes | None:
        """The predicate; None if it is a file in `ref`.

        Raises:
            NotFoundError: the daemon no longer knows the attestation.
            UnavailableError: the daemon is gone.
        """
        if self.content is None and self.load_content is not None:
            return await self.load_content()
        return self.content


@dataclass(frozen=True, slots=True)
class Source:
    """A build result.

    Attributes:
        ref: The single ref of a result that is not keyed by platform; None if there is none or it has no
            layers.
        refs: Refs by platform ID. None if the result is not keyed (BuildKit's nil map), which is not the same
            as empty. A ref in it may be None: a platform without layers.
        metadata: BuildKit's result metadata; keys such as ``containerimage.config/linux/amd64``,
            ``refs.platforms``.
        attestations: By platform ID.
    """

    ref: Ref | None = None
    refs: Mapping[str, Ref | None] | None = None
    metadata: Mapping[str, bytes] = field(default_factory=dict)
    attestations: Mapping[str, Sequence[Attestation]] = field(default_factory=dict)

    def find_ref(self, platform_id: str) -> tuple[Ref | None, bool]:
        """Look up a platform's ref as BuildKit's ``Result.FindRef`` does.

        A result that is not keyed, or that is keyed but has only one ref, returns its ref for any platform.

        Returns:
            The ref, and whether it was found.
        """
        if self.refs is None:
            return self.ref, True
        if platform_id in self.refs:
            return self.refs[platform_id], True
        if len(self.refs) == 1:
            return next(iter(self.refs.values())), True
        return None, False

    def with_metadata(self, extra: Mapping[str, bytes]) -> Source:
        """A copy with `extra` added to its metadata."""
        return replace(self, metadata={**self.metadata, **extra})


@dataclass(frozen=True, slots=True)
class BuildInfo:
    """What an exporter may know about the build (BuildKit: ``ExportBuildInfo``).

    Attributes:
        ref: The build's ID.
        session_id: The session through which the owner of the refs can be reached.
        compatibility_version: BuildKit's compatibility version; 0 means the newest.
        inline_cache: Cache data to embed, by platform ID; the key ``""`` is for the result's single ref.
        builder: Name and version of the builder, such as ``buildkit-v0.32.2``, for documents that name the
            tool that created them, such as SBOMs. If empty, they name this package.
    """

    ref: str = ""
    session_id: str = ""
    compatibility_version: int = 0
    inline_cache: Mapping[str, bytes] = field(default_factory=dict)
    builder: str = ""
