"""Pushing an image: first the blobs, concurrently, then the manifests, and finally the root with its name.

Order, progress texts and errors are BuildKit's (``util/push``).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack

from exporter.content.concurrency import map_each
from exporter.content.copy import load_graph, read_blob
from exporter.content.manifest import is_parent, must_not_be_distributed
from exporter.content.protocol import Provider
from exporter.errors import InvalidArgumentError
from exporter.image import Descriptor, Reference
from exporter.progress.producer import VertexProgress
from exporter.remotes.registry.distribution_sources import (
    DistributionSources,
    mount_candidates,
    with_repository,
)
from exporter.remotes.registry.options import RegistryOptions
from exporter.remotes.registry.repository import Repository, open_repository
from exporter.remotes.registry.upload import upload_blob


async def push(
    provider: Provider,
    root: Descriptor,
    name: str,
    *,
    by_digest: bool = False,
    insecure: bool = False,
    sources: DistributionSources | None = None,
    options: RegistryOptions | None = None,
    progress: VertexProgress,
) -> DistributionSources:
    """Push `root` and everything that it references, except nondistributable layers.

    Idempotent: blobs that the registry already has are not sent again. A tag moves only after everything that
    it references has been uploaded.

    Args:
        provider: Has the blobs.
        root: The descriptor of an image's manifest or index.
        name: A reference; the default tag is ``latest``.
        by_digest: Push without a tag (``push-by-digest``).
        insecure: Accept any certificate, and plain HTTP if there is no TLS (``registry.insecure``).
        sources: Repositories known to have certain blobs, from which the registry may mount them.
        options: Options for access to the registry.
        progress: The vertex to report to.

    Returns:
        `sources` plus the repository that now has the blobs; for the next push of the same image.

    Raises:
        ImageError: the name is not a reference.
        InvalidArgumentError: it has a tag although the push is by digest, or the root is not a manifest.
        DataLossError: a blob does not match its descriptor.
        ExporterError: the registry rejects the push, or failed too often.
    """
    reference = Reference.parse(name)
    if by_digest and not reference.is_name_only:
        raise InvalidArgumentError(f"can't push tagged ref {reference} by digest", field="attrs[name]")
    if not is_parent(root):
        raise InvalidArgumentError(
            f"only manifests can be pushed, not {root.media_type or 'a blob without type'}"
        )
    target = reference if by_digest else reference.tag_name_only().with_digest(root.digest)
    options = options or RegistryOptions()
    known = dict(sources or {})
    async with AsyncExitStack() as stack:
        with progress.status("pushing layers") as status:
            opening = open_repository(
                reference, push=True, insecure=insecure, options=options, on_retry=_logger(progress)
            )
            repository = await stack.enter_async_context(opening)
            nodes = await load_graph(provider, [root], skip=must_not_be_distributed)
            blobs = [node.descriptor for node in nodes if not is_parent(node.descriptor)]
            status.update(0, sum(blob.size for blob in blobs))

            async def push_blob(blob: Descriptor) -> None:
                candidates = mount_candidates(reference, {**blob.annotations, **known.get(blob.digest, {})})
                await upload_blob(repository, blob, provider, sources=candidates, on_bytes=status.advance)

            await map_each(blobs, push_blob, options.concurrency)
        with progress.status(f"pushing manifest for {target}"):
            for node in nodes:
                if is_parent(node.descriptor):
                    is_root = node.descriptor.digest == root.digest
                    await _push_manifest(
                        repository, provider, node.descriptor, target.tag if is_root else None
                    )
    known.update((blob.digest, with_repository(reference, known.get(blob.digest, {}))) for blob in blobs)
    return known


async def _push_manifest(
    repository: Repository, provider: Provider, descriptor: Descriptor, tag: str | None
) -> None:
    reference = tag or descriptor.digest
    # Some registries have immutable tags, which cannot be set again even to the same manifest.
    if not await repository.has_manifest(descriptor, reference):
        await repository.put_manifest(descriptor, await read_blob(provider, descriptor), reference)


def _logger(progress: VertexProgress) -> Callable[[str], None]:
    return lambda line: progress.log(f"{line}\n")
