"""Unpacking images into snapshots, as containerd's clients do (its packages ``rootfs`` and ``client``)."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

import grpc
import grpc.aio
from google.protobuf.field_mask_pb2 import FieldMask

from exporter.content.copy import load_graph, read_blob
from exporter.content.protocol import Provider
from exporter.errors import DataLossError, FailedPreconditionError, InvalidArgumentError, NotFoundError
from exporter.image import Descriptor, ImageError, Platform, PlatformMatcher, digest_bytes, host_platform
from exporter.image.config.go_types import IMAGE
from exporter.image.go import json as gojson
from exporter.image.media_types import MANIFEST_TYPES
from exporter.pb.containerd.services.content.v1 import content_pb2, content_pb2_grpc
from exporter.pb.containerd.services.diff.v1 import diff_pb2, diff_pb2_grpc
from exporter.pb.containerd.services.snapshots.v1 import snapshots_pb2, snapshots_pb2_grpc
from exporter.pb.containerd.types import descriptor_pb2
from exporter.remotes.containerd import undo
from exporter.remotes.containerd.lease import Lease
from exporter.remotes.session.content import CallMetadata
from exporter.rpc.status import from_rpc_error, rpc_errors


@dataclass(frozen=True, slots=True)
class _Image:
    """An image to unpack: its config, and its layers with their diff IDs, base first."""

    config: Descriptor
    layers: Sequence[Descriptor]
    diff_ids: Sequence[str]


class Unpacker:
    """Creates a snapshot of each layer that has none.

    Args:
        channel: The channel to containerd.
        metadata: Metadata for every call, with the namespace, and the lease that protects the snapshots.
        snapshotter: The name of the snapshotter.
    """

    def __init__(self, channel: grpc.aio.Channel, metadata: CallMetadata, snapshotter: str) -> None:
        self._snapshots = snapshots_pb2_grpc.SnapshotsStub(channel)
        self._diff = diff_pb2_grpc.DiffStub(channel)
        self._content = content_pb2_grpc.ContentStub(channel)
        self._metadata = metadata
        self._snapshotter = snapshotter

    async def unpack(self, provider: Provider, root: Descriptor, lease: Lease) -> None:
        """Unpack an image, or the best image of an index for this machine; see `UnpackingStore.unpack`."""
        image = await _find_image(provider, root)
        chain = chain_ids(image.diff_ids)
        # Add them to the lease before looking them up, so that none can be collected after it has been found.
        for name in chain:
            await lease.hold(f"snapshots/{self._snapshotter}", name)
        for layer, diff_id, name, parent in zip(
            image.layers, image.diff_ids, chain, ["", *chain], strict=False
        ):
            if not await self._exists(name):
                await self._apply(layer, diff_id, name, parent)
        if chain:
            await self._keep(image.config.digest, chain[-1])

    async def _exists(self, name: str) -> bool:
        request = snapshots_pb2.StatSnapshotRequest(snapshotter=self._snapshotter, key=name)
        try:
            await self._snapshots.Stat(request, metadata=self._metadata)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                return False
            raise from_rpc_error(error, f"snapshot {name}") from error
        return True

    async def _apply(self, layer: Descriptor, diff_id: str, name: str, parent: str) -> None:
        """Unpack a layer on top of its parent, unless another client is faster."""
        key = f"extract-{uuid.uuid4()} {name}"  # includes the name to make leftover snapshots recognisable
        is_committed = False
        try:
            with rpc_errors(f"layer {layer.digest}"):
                prepared = await self._snapshots.Prepare(
                    snapshots_pb2.PrepareSnapshotRequest(
                        snapshotter=self._snapshotter, key=key, parent=parent
                    ),
                    metadata=self._metadata,
                )
                diff = descriptor_pb2.Descriptor(
                    media_type=layer.media_type,
                    digest=layer.digest,
                    size=layer.size,
                    annotations=layer.annotations,
                )
                applied = await self._diff.Apply(
                    diff_pb2.ApplyRequest(diff=diff, mounts=prepared.mounts), metadata=self._metadata
                )
            if applied.applied.digest != diff_id:
                raise DataLossError(
                    f"layer {layer.digest} has the diff ID {applied.applied.digest}, but the image config "
                    f"says {diff_id}"
                )
            is_committed = await self._commit(name, key)
        finally:
            if not is_committed:
                await self._remove(key)

    async def _commit(self, name: str, key: str) -> bool:
        """Give a snapshot its name; return false if the name exists, which implies the same content."""
        request = snapshots_pb2.CommitSnapshotRequest(snapshotter=self._snapshotter, name=name, key=key)
        try:
            await self._snapshots.Commit(request, metadata=self._metadata)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.ALREADY_EXISTS:
                return False
            raise from_rpc_error(error, f"snapshot {name}") from error
        return True

    async def _remove(self, key: str) -> None:
        with undo.undoing(f"snapshot {key}"):
            request = snapshots_pb2.RemoveSnapshotRequest(snapshotter=self._snapshotter, key=key)
            await self._snapshots.Remove(request, metadata=self._metadata, timeout=undo.SECONDS)

    async def _keep(self, config_digest: str, name: str) -> None:
        """Reference the top snapshot, and so all below it, from the image's config, to keep them."""
        label = f"containerd.io/gc.ref.snapshot.{self._snapshotter}"
        info = content_pb2.Info(digest=config_digest, labels={label: name})
        mask = FieldMask(paths=[f"labels.{label}"])
        with rpc_errors(f"labels of config {config_digest}"):
            await self._content.Update(
                content_pb2.UpdateRequest(info=info, update_mask=mask), metadata=self._metadata
            )


def chain_ids(diff_ids: Sequence[str]) -> list[str]:
    """The names of the layers' snapshots. Each name identifies a layer with all layers below it.

    Source: the OCI image specification, ``config.md``, section "Layer ChainID".
    """
    chain: list[str] = []
    for diff_id in diff_ids:
        chain.append(digest_bytes(f"{chain[-1]} {diff_id}".encode()) if chain else diff_id)
    return chain


async def _find_image(provider: Provider, root: Descriptor) -> _Image:
    """The best image for this machine.

    Raises:
        NotFoundError: this machine can run none of the images.
        FailedPreconditionError: the image's number of diff IDs differs from its number of layers.
    """
    matcher = PlatformMatcher.only(host_platform())
    found: list[tuple[Platform, _Image]] = []
    for node in await load_graph(provider, [root]):
        manifest = node.descriptor
        if manifest.media_type not in MANIFEST_TYPES:
            continue
        if manifest.platform is not None and not matcher.match(manifest.platform):
            continue  # for another platform, or attestations, whose config may have any format
        config, *layers = node.children
        platform, diff_ids = await _read_config(provider, config)
        found.append((manifest.platform or platform, _Image(config, layers, diff_ids)))
    suitable = [(platform, image) for platform, image in found if matcher.match(platform)]
    if not suitable:
        raise NotFoundError(f"{root.digest} has no image that this machine can run")
    _, image = min(suitable, key=lambda item: matcher.rank(item[0]))
    if len(image.diff_ids) != len(image.layers):
        raise FailedPreconditionError(
            f"config {image.config.digest} has {len(image.diff_ids)} diff IDs for {len(image.layers)} layers"
        )
    return image


async def _read_config(provider: Provider, config: Descriptor) -> tuple[Platform, list[str]]:
    try:
        image = gojson.decode(await read_blob(provider, config), IMAGE, "Image")
    except ImageError as error:
        raise InvalidArgumentError(f"config {config.digest}: {error}") from error
    return Platform.from_dict(image), image["rootfs"]["diff_ids"] or []
