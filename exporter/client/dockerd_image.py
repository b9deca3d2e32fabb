"""Recomputing images that a Docker engine builds, to compare them with the engine's.

dockerd's exporter creates a config from the build's config, the layers' diff IDs and the cache records of the
result; the digest of that config is the image's ID. A client has access to all of this: its own frontend sees
the config, and the records are available while the result is held.
"""

from __future__ import annotations

import base64
import json
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, BinaryIO, cast

from exporter.client.client import BuildkitClient
from exporter.client.gateway import Gateway, refs_of
from exporter.client.options import SolveOptions
from exporter.content.threads import run_in_thread
from exporter.daemon.chain import rebuild_chain
from exporter.daemon.records import CacheRecord
from exporter.errors import FailedPreconditionError, ImageError
from exporter.image import History, LayerMetadata, digest_bytes, moby_config, parse_history
from exporter.image.keys import IMAGE_CONFIG, IMAGE_DIGEST, INLINE_CACHE
from exporter.pb.moby.buildkit.v1.frontend import gateway_pb2
from exporter.progress.model import StatusSink
from exporter.source.types import LayerChain

if TYPE_CHECKING:
    from exporter.remotes.docker_engine.engine import DockerEngine

MOBY_EXPORTER = "moby"
"""The engine's exporter, which stores the image in the engine."""


_API_OF_23 = (1, 42)

_SOURCES = ("local source for ", "git source ", "http source ")
_EXEC, _FILE = "mount / from exec ", "fileop target"


@dataclass(frozen=True, slots=True)
class EngineImage:
    """An image that an engine has built.

    Attributes:
        id: The engine's ID for it.
        config: The config that is computed here.
        chain: The layer chain that the config is computed from; None for a result without layers.
        is_certain: Whether the cache records do not allow any other chain.
        response: The exporters' response.
    """

    id: str
    config: bytes
    chain: LayerChain | None
    is_certain: bool
    response: Mapping[str, str]

    @property
    def computed_id(self) -> str:
        """The ID of the computed config."""
        return digest_bytes(self.config)

    @property
    def agrees(self) -> bool:
        """Whether both IDs are equal."""
        return self.id == self.computed_id


@dataclass(slots=True)
class _Seen:
    """The result, as seen by our frontend."""

    metadata: dict[str, bytes] = field(default_factory=dict)
    has_ref: bool = False
    records: dict[str, CacheRecord] = field(default_factory=dict)


async def build_and_compute(
    client: BuildkitClient, engine: DockerEngine, options: SolveOptions, sink: StatusSink | None = None
) -> EngineImage:
    """Build an image with a Docker engine, and recompute it.

    Args:
        client: A client of the engine's BuildKit.
        engine: The same engine.
        options: What to build, with a frontend. One of the exports is `MOBY_EXPORTER`.
        sink: Receives the progress.

    Raises:
        ExporterError: the build failed.
        FailedPreconditionError: the engine has not created an image, or its data is inconsistent.
        ImageError: the config cannot be computed.
    """
    seen = _Seen()

    async def frontend(gateway: Gateway) -> gateway_pb2.Result:
        result = await gateway.solve(
            definition=options.definition,
            frontend=options.frontend,
            frontend_attrs=options.frontend_attrs,
            frontend_inputs=options.frontend_inputs,
            evaluate=True,
        )
        # Now, while the result is held: later, its records look like those of other builds.
        seen.metadata = dict(result.metadata)
        seen.has_ref = bool(refs_of(result))
        seen.records = await client.disk_usage()
        return result

    solved = await client.build(replace(options, frontend="", definition=None), frontend, sink)
    image_id = solved.response.get(IMAGE_DIGEST)
    if not image_id:
        raise FailedPreconditionError(
            f"the engine has made no image: is {MOBY_EXPORTER} among the exporters?"
        )
    diff_ids = await engine.diff_ids(image_id)
    config = seen.metadata.get(IMAGE_CONFIG, b"")
    chain, is_certain = find_chain(seen.records, config, len(diff_ids)) if seen.has_ref else (None, True)
    metadata = None if chain is None else [layer.metadata() for layer in chain]
    if metadata and engine.api_version < _API_OF_23:
        metadata = _with_shared_time(metadata, config)
    computed = moby_config(
        config,
        diff_ids,
        metadata,
        await _inline_cache(engine, image_id, options),
    )
    return EngineImage(image_id, computed, chain, is_certain, solved.response)


def find_chain(records: Mapping[str, CacheRecord], config: bytes, layers: int) -> tuple[LayerChain, bool]:
    """Find the layer chain of a build's result among cache records.

    An engine does not say which record belongs to the result. It must be in use, and not the parent of
    another record in use. If a multi-stage build leaves several candidates, the one whose steps match the
    config's history is chosen, or else the newest.

    Args:
        records: The records by ID, read while the result is held.
        config: The result's config; empty if it has none.
        layers: The number of the image's layers.

    Returns:
        The chain, and whether it is the only match.

    Raises:
        FailedPreconditionError: no record matches.
        ImageError: the config is malformed.
    """
    held = {key: record for key, record in records.items() if record.is_in_use and not record.is_mutable}
    parents = {parent for record in held.values() for parent in record.parents}
    steps = _steps(config)
    candidates = []
    for record in held.values():
        if record.id in parents or record.description.startswith(_SOURCES):
            continue
        try:
            chain = rebuild_chain(record.id, records, layers=layers)
        except FailedPreconditionError:
            continue
        created = record.created_at.unix_nano if record.created_at is not None else 0
        candidates.append((_mismatches(chain.layers, steps), -created, record.id, chain))
    if not candidates:
        raise FailedPreconditionError(
            f"none of the engine's {len(held)} cache records in use has the image's {layers} layers"
        )
    candidates.sort(key=lambda candidate: candidate[:3])
    best = candidates[0]
    return best[3].layers, best[3].is_certain and all(other[0] > best[0] for other in candidates[1:])


def _with_shared_time(chain: Sequence[LayerMetadata], config: bytes) -> list[LayerMetadata]:
    """Set the time of layers without an entry in the history to that of the last one, like old engines.

    Until 20.10, each entry that moby's exporter adds has a pointer to the same loop variable as its time.
    """
    known = len(_steps(config))
    return [
        *chain[:known],
        *(replace(layer, created_at=chain[-1].created_at) for layer in chain[known:]),
    ]


def _steps(config: bytes) -> list[History]:
    """The entries of a config's history with layers; none without a config, as in results of plain LLB."""
    history = parse_history(config) if config else None
    return [entry for entry in history or () if not entry.empty_layer]


def _mismatches(chain: LayerChain, steps: Sequence[History]) -> int:
    """How many layers were made by another step than the history says, as far as one can tell."""
    return sum(
        not _may_be(layer.description, step.created_by)
        for layer, step in zip(reversed(chain), reversed(steps), strict=False)
    )


def _may_be(description: str, created_by: str) -> bool:
    is_run = created_by.startswith("RUN ")
    if description.startswith(_EXEC):
        command = description.removeprefix(_EXEC)
        return is_run and created_by.removesuffix(" # buildkit").endswith(command)
    return not (is_run and description == _FILE)


async def _inline_cache(engine: DockerEngine, image_id: str, options: SolveOptions) -> bytes | None:
    """The cache data in the engine's config, which describes the build's steps and cannot be recomputed."""
    if not any(place.type == "inline" for place in options.cache_exports):
        return None
    config = await read_config(engine, image_id)
    try:
        text = json.loads(config).get(INLINE_CACHE)
        return None if text is None else base64.b64decode(text, validate=True)
    except (ValueError, AttributeError) as error:
        raise ImageError(f"config of image {image_id}: {error}") from error


async def read_config(engine: DockerEngine, image_id: str) -> bytes:
    """Read the exact bytes of an image's config. The only way is to save the whole image as an archive.

    Raises:
        NotFoundError: the image does not exist.
        FailedPreconditionError: the archive does not contain the config.
    """
    with cast(BinaryIO, await run_in_thread(tempfile.TemporaryFile)) as file:
        async with engine.save(image_id) as archive:
            async for data in archive:
                await run_in_thread(file.write, data)
        config = await run_in_thread(_config_of, file, image_id)
    if config is None:
        raise FailedPreconditionError(f"what the engine saves as image {image_id} has no such config")
    return config


def _config_of(file: BinaryIO, image_id: str) -> bytes | None:
    file.seek(0)
    digest = image_id.removeprefix("sha256:")
    names = {f"{digest}.json", f"blobs/sha256/{digest}"}
    try:
        with tarfile.open(fileobj=file) as archive:
            for member in archive:
                if member.name in names and (content := archive.extractfile(member)) is not None:
                    data = content.read()
                    return data if digest_bytes(data) == image_id else None
    except tarfile.TarError as error:
        raise FailedPreconditionError(f"what the engine saves as image {image_id}: {error}") from error
    return None
