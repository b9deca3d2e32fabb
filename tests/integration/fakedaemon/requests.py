"""Requests, as a daemon would make them of a build."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from exporter.image import digest_bytes
from exporter.pb.buildkit.exporter.v1 import exporter_pb2 as pb
from exporter.remotes.messages.layers import descriptor_message, layer_message
from exporter.remotes.messages.results import build_message, source_message
from exporter.source.saved.load import SavedSource
from tests.integration.fakedaemon.daemon import without_content

DIFF_ID = "containerd.io/uncompressed"
TAR = "application/vnd.oci.image.layer.v1.tar"


def layer(content: bytes, *, embedded: bool = True) -> pb.Descriptor:
    """An uncompressed layer."""
    digest = digest_bytes(content)
    return pb.Descriptor(
        media_type=TAR,
        digest=digest,
        size=len(content),
        data=content if embedded else b"",
        annotations={DIFF_ID: digest},
    )


def inline_ref(*contents: bytes, embedded: bool = True) -> pb.Ref:
    """A ref with these layers."""
    return pb.Ref(
        id=f"ref-{len(contents)}",
        inline=pb.InlineRef(
            chain=[pb.Layer(id=f"record-{n}", description=f"RUN {n}") for n in range(len(contents))],
            descriptors=[layer(content, embedded=embedded) for content in contents],
        ),
    )


def export_request(
    type: str,
    ref: pb.Ref | None = None,
    *,
    id: int = 0,
    session: str = "",
    attrs: Mapping[str, str] | None = None,
    config: Mapping[str, Any] | None = None,
) -> pb.ExportRequest:
    """A request to export a result with a single ref."""
    metadata = {} if config is None else {"containerimage.config": json.dumps(config).encode()}
    return pb.ExportRequest(
        id=id,
        type=type,
        attrs=attrs or {},
        source=pb.Source(ref=ref, metadata=metadata),
        build=pb.BuildInfo(ref="build", session_id=session),
    )


async def saved_request(
    path: Path,
    type: str,
    *,
    inline: bool,
    session: str = "",
    attrs: Mapping[str, str] | None = None,
    id: int = 0,
) -> pb.ExportRequest:
    """A request to export a recorded build: its refs by name only, or with all that is known of them."""
    saved = await SavedSource.open(path)
    source = saved.source

    async def ref(found: Any) -> pb.Ref:
        if found is None or not inline:
            return pb.Ref(id=found.id if found is not None else "")
        descriptors = (await found.remote()).descriptors
        chain = await found.layer_chain()
        layers = pb.InlineRef(
            chain=[layer_message(entry) for entry in chain],
            descriptors=[descriptor_message(descriptor) for descriptor in descriptors],
        )
        return pb.Ref(id=found.id, inline=layers)

    message = pb.Source(metadata=source.metadata)
    if source.refs is not None:
        message.refs.SetInParent()
        for key, value in source.refs.items():
            message.refs.refs[key].CopyFrom(await ref(value))
    elif source.ref is not None:
        message.ref.CopyFrom(await ref(source.ref))
    build = pb.BuildInfo(ref="build", session_id=session)
    return pb.ExportRequest(id=id, type=type, attrs=attrs or {}, source=message, build=build)


async def attested_request(
    path: Path, type: str, *, late: bool, session: str, attrs: Mapping[str, str] | None = None
) -> pb.ExportRequest:
    """A request to export a recorded build with its attestations; with `late`, without their content."""
    saved = await SavedSource.open(path)
    source = without_content(saved.source) if late else saved.source
    build = build_message(saved.build, session)
    return pb.ExportRequest(type=type, attrs=attrs or {}, source=source_message(source), build=build)


def layer_digests(request: pb.ExportRequest) -> Sequence[str]:
    """The digests of the layers of a request's single inline ref."""
    return [descriptor.digest for descriptor in request.source.ref.inline.descriptors]
