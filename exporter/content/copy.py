"""Copying blobs between stores. Everything that is copied is verified."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import cast

from exporter.content.concurrency import map_each
from exporter.content.manifest import children, gc_labels, is_parent, must_not_be_distributed
from exporter.content.protocol import BlobInfo, BulkProvider, ContentStore, LabelledStore, Provider
from exporter.content.threads import run_in_thread
from exporter.content.verify import Verifier
from exporter.errors import NotFoundError, ResourceExhaustedError
from exporter.image import Descriptor

_Key = tuple[str, bool]

PARSE_LIMIT = 32 << 20
"""Maximum size of a blob that is read into memory for parsing. Registries reject
manifests of more than 4 MiB, but configs with inline cache data can be larger."""

_HASHED_AT_ONCE = 32 << 10
"""Maximum bytes to hash without a thread, because the switch would take longer."""

CONCURRENCY = 4
"""Default number of concurrent copies; BuildKit's limit per registry."""

Labels = Mapping[str, str]

OnBytes = Callable[[int], None]
"""Called with the number of additional bytes done, from the event loop's thread."""


@asynccontextmanager
async def reading(
    provider: Provider, descriptor: Descriptor, *, offset: int = 0, length: int | None = None
) -> AsyncIterator[AsyncIterator[bytes]]:
    """Read a blob or a part of it, unverified. Data that is embedded in the descriptor is used directly.

    Leaving the block closes the provider's stream, whether or not it has been read to the end.
    """
    if descriptor.data and len(descriptor.data) == descriptor.size:
        source = _only(descriptor.data[offset:][:length])
    else:
        source = provider.read(descriptor.digest, offset=offset, length=length)
    async with closing_stream(source):
        yield source


@asynccontextmanager
async def closing_stream(stream: AsyncIterator[bytes]) -> AsyncIterator[AsyncIterator[bytes]]:
    """Close a stream from `Provider.read` on leaving the block, not when it is garbage-collected."""
    try:
        yield stream
    finally:
        close = getattr(stream, "aclose", None)
        if close is not None:
            await close()


async def read_blob(provider: Provider, descriptor: Descriptor, limit: int = PARSE_LIMIT) -> bytes:
    """Read and verify a whole blob. Data that is embedded in the descriptor is used directly.

    Raises:
        DataLossError: the blob does not match the descriptor.
        NotFoundError: the provider does not have it.
        ResourceExhaustedError: it has more than `limit` bytes.
    """
    if descriptor.size > limit:
        raise ResourceExhaustedError(
            f"blob {descriptor.digest} has {descriptor.size} bytes; the limit for blobs in memory is {limit}"
        )
    verifier = Verifier(descriptor)
    pieces: list[bytes] = []
    async with reading(provider, descriptor) as source:
        async for data in source:
            if len(data) > _HASHED_AT_ONCE:
                await run_in_thread(verifier.update, data)
            else:
                verifier.update(data)
            pieces.append(data)
    verifier.finish()
    return b"".join(pieces)


async def write_blob(
    store: ContentStore,
    data: bytes,
    descriptor: Descriptor | None = None,
    labels: Labels | None = None,
) -> BlobInfo:
    """Write a blob that is in memory.

    Args:
        store: The destination.
        data: The blob.
        descriptor: The blob's descriptor; see `ContentStore.ingest`.
        labels: See `ContentStore.ingest`.

    Raises:
        DataLossError: the blob does not match the descriptor.
    """
    async with store.ingest(descriptor, labels=labels) as writer:
        await writer.write(data)
        return await writer.commit()


async def has_blob(provider: Provider, descriptor: Descriptor) -> bool:
    """Whether the provider has a blob, in its full length."""
    try:
        info = await provider.info(descriptor.digest)
    except NotFoundError:
        return False
    return info.size == descriptor.size


async def present_blobs(provider: Provider, descriptors: Iterable[Descriptor]) -> set[str]:
    """The digests of those blobs that the provider has, in their full length."""
    items = list(descriptors)
    infos = await _infos(provider, list({item.digest: None for item in items}))
    # If a digest occurs with two sizes, at least one of them is wrong.
    absent = {
        item.digest for item in items if item.digest not in infos or infos[item.digest].size != item.size
    }
    return infos.keys() - absent


async def _infos(provider: Provider, digests: Sequence[str]) -> dict[str, BlobInfo]:
    if hasattr(provider, "infos"):  # faster than asking whether it is a BulkProvider
        return await cast(BulkProvider, provider).infos(digests)

    async def find(digest: str) -> BlobInfo | None:
        try:
            return await provider.info(digest)
        except NotFoundError:
            return None

    found = await map_each(digests, find, CONCURRENCY)
    return {digest: info for digest, info in zip(digests, found, strict=True) if info is not None}


async def copy_blob(
    store: ContentStore,
    provider: Provider,
    descriptor: Descriptor,
    on_bytes: OnBytes | None = None,
    labels: Labels | None = None,
) -> None:
    """Copy a blob, unless the store has it already. Memory does not grow with its size.

    Args:
        store: The destination.
        provider: The origin.
        descriptor: The blob's descriptor.
        on_bytes: Receives the progress; the whole size at once if nothing has to be copied.
        labels: See `ContentStore.ingest`. They are added to an existing blob as well.

    Raises:
        DataLossError: the provider's blob does not match the descriptor.
        NotFoundError: the provider does not have it.
    """
    if await has_blob(store, descriptor):
        await _keep(store, descriptor, on_bytes, labels)
    else:
        await _copy(store, provider, descriptor, on_bytes, labels)


async def _keep(
    store: ContentStore, descriptor: Descriptor, on_bytes: OnBytes | None, labels: Labels | None
) -> None:
    if on_bytes is not None:
        on_bytes(descriptor.size)
    if labels and hasattr(store, "add_labels"):  # faster than asking whether it is a LabelledStore
        await cast(LabelledStore, store).add_labels(descriptor.digest, labels)


async def _copy(
    store: ContentStore,
    provider: Provider,
    descriptor: Descriptor,
    on_bytes: OnBytes | None,
    labels: Labels | None,
) -> None:
    async with reading(provider, descriptor) as source, store.ingest(descriptor, labels=labels) as writer:
        async for data in source:
            await writer.write(data)
            if on_bytes is not None:
                on_bytes(len(data))
        await writer.commit()


async def copy_blobs(
    store: ContentStore,
    provider: Provider,
    descriptors: Iterable[Descriptor],
    on_bytes: OnBytes | None = None,
    concurrency: int = CONCURRENCY,
    labels: Mapping[str, Labels] | None = None,
) -> None:
    """Copy several blobs, each digest once. The first failure is raised and cancels the others.

    Args:
        store: The destination.
        provider: The origin.
        descriptors: The blobs' descriptors.
        on_bytes: Receives the progress.
        concurrency: The number of concurrent copies.
        labels: See `ContentStore.ingest`; by digest.

    Raises:
        DataLossError, NotFoundError: see `copy_blob`.
    """
    unique = {descriptor.digest: descriptor for descriptor in descriptors}
    present = await present_blobs(store, unique.values())

    async def copy(descriptor: Descriptor) -> None:
        own_labels = (labels or {}).get(descriptor.digest)
        if descriptor.digest in present:
            await _keep(store, descriptor, on_bytes, own_labels)
        else:
            await _copy(store, provider, descriptor, on_bytes, own_labels)

    await map_each(unique.values(), copy, concurrency)


@dataclass(frozen=True, slots=True)
class Node:
    """A blob and the blobs that it references."""

    descriptor: Descriptor
    children: tuple[Descriptor, ...]


async def load_graph(
    provider: Provider,
    roots: Sequence[Descriptor],
    *,
    skip: Callable[[Descriptor], bool] | None = None,
    missing_ok: bool = False,
    concurrency: int = CONCURRENCY,
) -> list[Node]:
    """List blobs and everything that they reference, transitively: each once, children before parents.

    Manifests and indexes are read and verified; other blobs are not read.

    Args:
        provider: Has the manifests and indexes.
        roots: The blobs to start from.
        skip: Returns true for blobs to leave out.
        missing_ok: Treat a missing manifest as one without children.
        concurrency: The number of manifests to read concurrently.

    Raises:
        ExporterError: a manifest cannot be read (see `read_blob`) or is malformed (see `children`).
    """
    nodes: dict[_Key, Node] = {}

    async def load(descriptor: Descriptor) -> None:
        found: tuple[Descriptor, ...] = ()
        if is_parent(descriptor):
            try:
                found = children(descriptor, await read_blob(provider, descriptor))
            except NotFoundError:
                if not missing_ok:
                    raise
        nodes[_key(descriptor)] = Node(descriptor, _without(found, skip))

    level = _without(roots, skip)
    while level:
        fresh = {_key(item): item for item in level if _key(item) not in nodes}
        await map_each(fresh.values(), load, concurrency)
        level = tuple(child for key in fresh for child in nodes[key].children)
    return _children_first(_without(roots, skip), nodes)


async def copy_chain(
    store: ContentStore,
    provider: Provider,
    root: Descriptor,
    *,
    on_bytes: OnBytes | None = None,
    skip: Callable[[Descriptor], bool] | None = None,
    concurrency: int = CONCURRENCY,
    labels: Mapping[str, Labels] | None = None,
) -> None:
    """Copy an image or an index with everything that it references (BuildKit: ``contentutil.CopyChain``).

    Layers and configs are copied first, concurrently; then manifests and indexes one by one, children before
    parents, the root last. So a reader never finds a manifest whose blobs are missing. Manifests and indexes
    get labels that protect their children from garbage collection.

    Nondistributable layers are copied like others, because copying them to a local store is allowed. For a
    push to a registry, pass `must_not_be_distributed` as `skip`, as BuildKit does.

    Args:
        store: The destination.
        provider: The origin.
        root: The descriptor of the image or index.
        on_bytes: Receives the progress.
        skip: Returns true for blobs to leave out.
        concurrency: The number of concurrent copies.
        labels: Labels for layers and configs, by digest.

    Raises:
        ExporterError: a manifest cannot be read (see `read_blob`) or is malformed (see `children`).
            The first failure cancels all other copies.
    """
    nodes = await load_graph(provider, [root], skip=skip, concurrency=concurrency)
    leaves = [node.descriptor for node in nodes if not is_parent(node.descriptor)]
    await copy_blobs(store, provider, leaves, on_bytes, concurrency, labels)
    for node in nodes:
        if is_parent(node.descriptor):
            await copy_blob(store, provider, node.descriptor, on_bytes, gc_labels(node.children))


async def missing_blobs(provider: Provider, root: Descriptor) -> list[str]:
    """The digests of an image's or index's blobs that are missing or have the wrong size.

    Nondistributable layers are not reported.

    Raises:
        ExporterError: a manifest cannot be read (see `read_blob`) or is malformed (see `children`).
    """
    needed = await load_graph(provider, [root], skip=must_not_be_distributed, missing_ok=True)
    present = await present_blobs(provider, (node.descriptor for node in needed))
    return [node.descriptor.digest for node in needed if node.descriptor.digest not in present]


async def _only(data: bytes) -> AsyncIterator[bytes]:
    yield data


def _key(descriptor: Descriptor) -> _Key:
    # One manifest may reference another as a plain layer. Where it is referenced as a manifest, its children
    # count.
    return descriptor.digest, is_parent(descriptor)


def _without(
    descriptors: Iterable[Descriptor], skip: Callable[[Descriptor], bool] | None
) -> tuple[Descriptor, ...]:
    return tuple(item for item in descriptors if skip is None or not skip(item))


def _children_first(roots: Iterable[Descriptor], nodes: Mapping[_Key, Node]) -> list[Node]:
    ordered: dict[_Key, Node] = {}
    entered: set[_Key] = set()
    # Not recursive, because the sender controls the nesting depth.
    pending = [(_key(root), False) for root in roots][::-1]
    while pending:
        key, is_done = pending.pop()
        if is_done:
            ordered[key] = nodes[key]
        elif key not in entered:
            entered.add(key)
            pending.append((key, True))
            pending.extend((_key(child), False) for child in reversed(nodes[key].children))
    return list(ordered.values())
