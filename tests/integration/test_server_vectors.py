"""Malformed image configs, all that were recorded: each is refused as such, and none is taken for a bug."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from exporter.image import ImageError, digest_bytes, parse_digest
from exporter.pb.buildkit.exporter.v1 import exporter_pb2 as pb
from tests.conformance.vectors import Vector, decode, read_vectors
from tests.integration.fakedaemon.harness import Daemon, Server, alive, nothing_left
from tests.integration.fakedaemon.requests import DIFF_ID, TAR

pytestmark = pytest.mark.timeout(300)

VECTORS = [vector for vector in read_vectors("visible") if not {"error", "panic"}.isdisjoint(vector["want"])]


@pytest.mark.parametrize("flavor", ["moby", "buildkit"])
async def test_malformed_configs(flavor: str) -> None:
    vectors = [vector for vector in VECTORS if vector["flavor"] == flavor]
    async with Server.running() as server, Daemon.connected(server.address) as daemon:
        before, blobs = await alive(daemon), await server.blobs()
        outcomes = await asyncio.gather(*(daemon.export(request(vector)) for vector in vectors))
        for vector, outcome in zip(vectors, outcomes, strict=True):
            what = f"{vector['id']}: {outcome.code} {outcome.message}"
            if "panic" in vector["want"]:
                assert outcome.code == "FAILED_PRECONDITION", what
            else:
                assert outcome.code == "INVALID_ARGUMENT", what
                assert outcome.vertexes[-1].error == outcome.message, what
                # BuildKit's exporter checks the platform before the errors in the vectors.
                if flavor == "moby":
                    assert outcome.message == vector["want"]["error"]
        assert await server.blobs() == blobs, "nothing was stored"
        assert not list((server.root / "docker").glob("images/sha256/*"))
        await nothing_left(server, daemon, before)


def request(vector: Vector) -> pb.ExportRequest:
    """The export that a daemon would ask for."""
    config = decode(vector["config_b64"])
    metadata = {"containerimage.config": config} if config else {}
    attrs: dict[str, str] = {}
    if vector["flavor"] == "buildkit":
        attrs["oci-mediatypes"] = "true" if vector["oci_mediatypes"] else "false"
        if vector["epoch"] is not None:
            attrs["source-date-epoch"] = str(vector["epoch"])
        base = decode(vector["base_config_b64"])
        if base:
            metadata["containerimage.base.config"] = base
    descriptors = list(layers(vector))
    chain = [layer_message(layer) for layer in vector["chain"] or []]
    if "error" in vector["want"]:
        # The recorded functions take chains of other lengths as well. Here the config is to be refused.
        missing = max(0, len(descriptors) - len(chain))
        chain = [*chain, *([pb.Layer(id="record")] * missing)][: len(descriptors)]
    inline = pb.InlineRef(chain=chain, descriptors=descriptors)
    inline_cache = decode(vector["inline_cache_b64"])
    return pb.ExportRequest(
        type="moby" if vector["flavor"] == "moby" else "oci",
        attrs=attrs,
        source=pb.Source(ref=pb.Ref(id="ref", inline=inline), metadata=metadata),
        build=pb.BuildInfo(inline_cache={} if inline_cache is None else {"": inline_cache}),
    )


def layers(vector: Vector) -> Iterator[pb.Descriptor]:
    """The layers: of the moby flavor only the diff IDs are known, so each gets some content."""
    for number, diff_id in enumerate(vector.get("diff_ids") or []):
        content = f"layer {number}".encode()
        yield pb.Descriptor(
            media_type=TAR,
            digest=digest_bytes(content),
            size=len(content),
            data=content,
            annotations={DIFF_ID: proper(diff_id)},
        )
    for descriptor in vector.get("descriptors") or []:
        annotations = dict(descriptor.get("annotations") or {})
        annotations[DIFF_ID] = proper(annotations.get(DIFF_ID, ""))
        yield pb.Descriptor(
            media_type=descriptor["mediaType"],
            digest=proper(descriptor["digest"]),
            size=descriptor["size"],
            annotations=annotations,
        )


def layer_message(layer: Vector) -> pb.Layer:
    message = pb.Layer(id="record", description=layer.get("description", ""))
    if layer.get("created_at"):
        message.created_at.FromJsonString(layer["created_at"])
    return message


def proper(digest: str) -> str:
    """A digest in place of the recorded functions' stand-ins such as ``sha256:0``."""
    try:
        parse_digest(digest)
    except ImageError:
        return digest_bytes(digest.encode())
    return digest
