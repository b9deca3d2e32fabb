"""Validating requests and converting them to the values that exporters work with.

Errors have the path of the invalid field. Converted values have well-formed digests, sizes and enumerations.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from exporter.content.protocol import Provider
from exporter.engine.hooks import uses_of
from exporter.errors import InvalidArgumentError
from exporter.exporters.base import ArtifactKind, Exporter, Uses
from exporter.image import ImageError, check_compatibility_version
from exporter.pb.buildkit.exporter.v1 import exporter_pb2
from exporter.remotes.messages.layers import check_digest, compression_message, descriptor_of, layer_of
from exporter.remotes.registry.hosts import parse_host
from exporter.remotes.registry.options import RegistryHost
from exporter.source.inline import InlineRef, OpenFiles, check_chain
from exporter.source.types import (
    Attestation,
    AttestationKind,
    BuildInfo,
    Ref,
    Source,
    Subject,
    SubjectKind,
)

RefFactory = Callable[[exporter_pb2.Ref, str], Ref]
"""Creates a ref from a message that is not a nil ref, and the path of its field."""

ContentFactory = Callable[[str, str], Callable[[], Awaitable[bytes]]]
"""Creates what gets an attestation's content, from its ID and the path of the attestation's field."""


def source_of(message: exporter_pb2.Source, make_ref: RefFactory, make_content: ContentFactory) -> Source:
    """Convert a build result.

    Raises:
        InvalidArgumentError, FailedPreconditionError: the message is malformed or inconsistent.
        PermissionDeniedError: from `make_ref`.
        FailedPreconditionError: from `make_content`.
    """

    def ref(ref_message: exporter_pb2.Ref, path: str) -> Ref | None:
        return None if _is_nil(ref_message, path) else make_ref(ref_message, path)

    single = ref(message.ref, "source.ref") if message.HasField("ref") else None
    refs: dict[str, Ref | None] | None = None
    if message.HasField("refs"):
        refs = {key: ref(value, f"source.refs[{key}]") for key, value in message.refs.refs.items()}
        if single is not None:
            raise InvalidArgumentError(
                "a result has either a single ref or refs by platform", field="source.ref"
            )
    return Source(
        ref=single,
        refs=refs,
        metadata=dict(message.metadata),
        attestations={
            key: tuple(
                _attestation(item, f"source.attestations[{key}][{index}]", ref, make_content)
                for index, item in enumerate(value.attestations)
            )
            for key, value in message.attestations.items()
        },
    )


def inline_ref_of(
    message: exporter_pb2.Ref, path: str, provider: Provider, open_files: OpenFiles
) -> InlineRef:
    """Convert an inline ref, whose blobs are in `provider`, and whose files `open_files` opens.

    Raises:
        InvalidArgumentError, FailedPreconditionError: a time is malformed, or see `check_chain`.
    """
    inline, path = message.inline, f"{path}.inline"
    chain = tuple(layer_of(layer, f"{path}.chain[{i}]") for i, layer in enumerate(inline.chain))
    descriptors = tuple(
        descriptor_of(blob, f"{path}.descriptors[{i}]") for i, blob in enumerate(inline.descriptors)
    )
    check_chain(chain, descriptors, field=path)
    return InlineRef(message.id, chain, descriptors, provider, open_files)


def build_info_of(message: exporter_pb2.BuildInfo) -> BuildInfo:
    """Convert the facts about the build.

    Raises:
        InvalidArgumentError: the compatibility version is unknown; with BuildKit's message.
    """
    try:
        check_compatibility_version(message.compatibility_version)
    except ImageError as error:
        raise InvalidArgumentError(str(error), field="build.compatibility_version") from None
    return BuildInfo(
        ref=message.ref,
        session_id=message.session_id,
        compatibility_version=message.compatibility_version,
        inline_cache=dict(message.inline_cache),
        builder=message.builder,
    )


def registries_of(message: exporter_pb2.BuildInfo) -> dict[str, RegistryHost]:
    """Convert how the daemon reaches registries.

    Raises:
        InvalidArgumentError: a host or a certificate is malformed.
    """
    registries = {}
    for name, value in message.registries.items():
        path = f"build.registries[{name}]"
        try:
            host = parse_host(name)
            certificates = tuple(data.decode("ascii") for data in value.ca_certificates)
        except InvalidArgumentError as error:
            raise InvalidArgumentError(error.message, field=path) from None
        except UnicodeDecodeError:
            text = f"a CA certificate for {name} is not in PEM form"
            raise InvalidArgumentError(text, field=f"{path}.ca_certificates") from None
        registries[host] = RegistryHost(value.plain_http, value.insecure, certificates)
    return registries


_ARTIFACT_KINDS: Mapping[ArtifactKind, exporter_pb2.ArtifactKind.ValueType] = {
    ArtifactKind.IMAGE: exporter_pb2.ARTIFACT_KIND_IMAGE,
    ArtifactKind.ARCHIVE: exporter_pb2.ARTIFACT_KIND_ARCHIVE,
    ArtifactKind.FILES: exporter_pb2.ARTIFACT_KIND_FILES,
    ArtifactKind.NONE: exporter_pb2.ARTIFACT_KIND_NONE,
}


def exporter_info(kind: type[Exporter]) -> exporter_pb2.ExporterInfo:
    """Describe an exporter type."""
    return exporter_pb2.ExporterInfo(
        type=kind.type,
        title=kind.title,
        attributes=[
            exporter_pb2.ExporterAttribute(name=a.name, kind=a.kind, default=a.default, help=a.help)
            for a in kind.attributes
        ],
        artifact_kind=_ARTIFACT_KINDS[kind.artifact],
    )


def resolve_response(exporter: Exporter) -> exporter_pb2.ResolveResponse:
    """Describe a resolved exporter."""
    uses = uses_of(exporter)
    return exporter_pb2.ResolveResponse(
        name=exporter.name,
        compression=compression_message(exporter.compression),
        uses_layers=Uses.LAYERS in uses,
        uses_files=Uses.FILES in uses,
        uses_inline_cache=Uses.INLINE_CACHE in uses,
    )


def _is_nil(message: exporter_pb2.Ref, path: str) -> bool:
    if message.id:
        return False
    if message.HasField("inline") or message.endpoint:
        raise InvalidArgumentError("a ref needs an ID", field=f"{path}.id")
    return True


def _attestation(
    message: exporter_pb2.Attestation,
    path: str,
    ref: Callable[[exporter_pb2.Ref, str], Ref | None],
    make_content: ContentFactory,
) -> Attestation:
    try:
        kind = AttestationKind(message.kind)
    except ValueError:
        raise InvalidArgumentError(
            f"unknown kind of attestation {message.kind}", field=f"{path}.kind"
        ) from None
    is_late = message.content_id and not message.HasField("content")
    return Attestation(
        kind=kind,
        path=message.path,
        predicate_type=message.predicate_type,
        subjects=tuple(_subject(item, f"{path}.subjects[{i}]") for i, item in enumerate(message.subjects)),
        metadata=dict(message.metadata),
        ref=ref(message.ref, f"{path}.ref") if message.HasField("ref") else None,
        content=message.content if message.HasField("content") else None,
        load_content=make_content(message.content_id, path) if is_late else None,
    )


def _subject(message: exporter_pb2.Subject, path: str) -> Subject:
    try:
        kind = SubjectKind(message.kind)
    except ValueError:
        raise InvalidArgumentError(f"unknown kind of subject {message.kind}", field=f"{path}.kind") from None
    for index, digest in enumerate(message.digests):
        check_digest(digest, f"{path}.digests[{index}]")
    return Subject(kind, message.name, tuple(message.digests))
