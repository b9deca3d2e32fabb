"""Leases, which protect resources from containerd's garbage collector."""

from __future__ import annotations

import asyncio
import time
import uuid

import grpc
import grpc.aio

from exporter.errors import ExporterError, UnavailableError
from exporter.image import Time
from exporter.pb.containerd.services.leases.v1 import leases_pb2, leases_pb2_grpc
from exporter.remotes.containerd import undo
from exporter.remotes.session.content import CallMetadata
from exporter.rpc.address import UnixAddress
from exporter.rpc.diagnosis import Endpoint, why_unreachable
from exporter.rpc.status import from_rpc_error, rpc_errors

CONTENT = "content"
"""The type of blobs as resources; their ID is the digest."""

EXPIRES_SECONDS = 24 * 3600
"""The lifetime of a lease whose owner has died, as in containerd's own clients. It is also the maximum,
because a lease cannot be extended."""

_EXPIRE_LABEL = "containerd.io/gc.expire"


class Lease:
    """A temporary lease, created on demand.

    Calls with its ID in the metadata ``containerd-lease`` add the resources that they create to it.

    Args:
        channel: The channel to containerd.
        metadata: Metadata for every call, with the namespace.
        address: The address of containerd, for messages.

    Attributes:
        id: The ID. It is chosen in advance, so that the lease can be deleted even if creating it failed
        midway.
    """

    def __init__(self, channel: grpc.aio.Channel, metadata: CallMetadata, address: str) -> None:
        self.id = f"buildkit-exporter-{uuid.uuid4()}"
        self._stub = leases_pb2_grpc.LeasesStub(channel)
        self._metadata = metadata
        self._address = address
        self._making = asyncio.Lock()
        self._is_begun = False
        self._is_made = False
        self._failure: UnavailableError | None = None

    async def begin(self) -> None:
        """Create the lease, if necessary.

        Raises:
            UnavailableError: containerd is not reachable.
        """
        async with self._making:
            if self._is_made:
                return
            if self._failure is not None:
                raise self._failure
            self._is_begun = True
            expires = Time.from_unix(int(time.time()) + EXPIRES_SECONDS)
            request = leases_pb2.CreateRequest(id=self.id, labels={_EXPIRE_LABEL: str(expires)})
            try:
                await self._stub.Create(request, metadata=self._metadata)
            except grpc.aio.AioRpcError as error:
                raise await self._explained(error) from error
            self._is_made = True

    async def _explained(self, error: grpc.aio.AioRpcError) -> ExporterError:
        """Explain why the first call failed: containerd may not be running, or the peer is something else."""
        where = f"containerd at {self._address}"
        reason = await why_unreachable(Endpoint(UnixAddress(self._address)))
        if reason is None and error.code() is grpc.StatusCode.UNIMPLEMENTED:
            reason = "what listens there is not a containerd; specify a different address with --containerd"
        if reason is None:
            return from_rpc_error(error, where)
        # There is no lease to delete, and further calls should fail immediately.
        self._is_begun = False
        self._failure = UnavailableError(f"{where}: {reason}")
        return self._failure

    async def hold(self, kind: str, resource_id: str) -> None:
        """Add a resource to the lease. It need not exist yet.

        Args:
            kind: `CONTENT`, or ``snapshots/SNAPSHOTTER``.
            resource_id: A digest, or a snapshot's name.

        Raises:
            UnavailableError: containerd is not reachable.
        """
        await self.begin()
        resource = leases_pb2.Resource(id=resource_id, type=kind)
        with rpc_errors(f"lease of {resource_id}"):
            await self._stub.AddResource(
                leases_pb2.AddResourceRequest(id=self.id, resource=resource), metadata=self._metadata
            )

    async def end(self) -> None:
        """Delete the lease. Best effort: if containerd is not reachable, the lease expires."""
        if not self._is_begun:
            return
        with undo.undoing(f"lease {self.id}"):
            request = leases_pb2.DeleteRequest(id=self.id)
            await self._stub.Delete(request, metadata=self._metadata, timeout=undo.SECONDS)
