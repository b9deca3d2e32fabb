"""containerd's images: names for descriptors."""

from __future__ import annotations

import grpc
import grpc.aio
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp

from exporter.image import Descriptor
from exporter.pb.containerd.services.images.v1 import images_pb2, images_pb2_grpc
from exporter.pb.containerd.types import descriptor_pb2
from exporter.remotes.session.content import CallMetadata
from exporter.rpc.status import from_rpc_error, rpc_errors


class ImageRecords:
    """The images of a namespace.

    Args:
        channel: The channel to containerd.
        metadata: Metadata for every call, with the namespace.
    """

    def __init__(self, channel: grpc.aio.Channel, metadata: CallMetadata) -> None:
        self._stub = images_pb2_grpc.ImagesStub(channel)
        self._metadata = metadata

    async def put(self, name: str, target: Descriptor, *, epoch: int | None = None) -> None:
        """Point a name to `target`. Other properties of an existing image stay unchanged.

        Concurrent calls for the same name all succeed; the last one wins.

        Args:
            name: The name, which is used verbatim.
            target: The descriptor of a manifest or index.
            epoch: Unix seconds to record instead of the current time.

        Raises:
            InvalidArgumentError: containerd rejects the image.
            UnavailableError: containerd is not reachable.
        """
        image = images_pb2.Image(name=name, target=_message(target))
        moment = None if epoch is None else Timestamp(seconds=epoch)
        mask = FieldMask(paths=["target"])
        while True:
            try:
                await self._stub.Update(
                    images_pb2.UpdateImageRequest(image=image, update_mask=mask, source_date_epoch=moment),
                    metadata=self._metadata,
                )
                return
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.NOT_FOUND:
                    raise from_rpc_error(error, f"image {name}") from error
            try:
                await self._stub.Create(
                    images_pb2.CreateImageRequest(image=image, source_date_epoch=moment),
                    metadata=self._metadata,
                )
                return
            except grpc.aio.AioRpcError as error:
                # Another client has created it in the meantime, and may even have removed it again: retry.
                if error.code() is not grpc.StatusCode.ALREADY_EXISTS:
                    raise from_rpc_error(error, f"image {name}") from error

    async def resolve(self, name: str) -> Descriptor:
        """Look up the target of a name.

        Raises:
            NotFoundError: there is no such image.
            UnavailableError: containerd is not reachable.
        """
        with rpc_errors(f"image {name}"):
            response = await self._stub.Get(images_pb2.GetImageRequest(name=name), metadata=self._metadata)
        target = response.image.target
        return Descriptor(target.media_type, target.digest, target.size, annotations=dict(target.annotations))


def _message(target: Descriptor) -> descriptor_pb2.Descriptor:
    return descriptor_pb2.Descriptor(
        media_type=target.media_type,
        digest=target.digest,
        size=target.size,
        annotations=target.annotations,
    )
