"""A client for one namespace of a containerd."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc.aio

from exporter.remotes.containerd.config import ContainerdConfig
from exporter.remotes.containerd.images import ImageRecords
from exporter.remotes.containerd.lease import Lease
from exporter.remotes.containerd.store import ContainerdStore
from exporter.remotes.containerd.unpack import Unpacker
from exporter.remotes.session.content import ContentClient
from exporter.rpc.target import unix_target

_NAMESPACE = "containerd-namespace"
_LEASE = "containerd-lease"

_OPTIONS = (
    # The limits of containerd's own clients.
    ("grpc.max_receive_message_length", 16 << 20),
    ("grpc.max_send_message_length", 16 << 20),
    # Reconnect attempts to a local socket are cheap. With gRPC's defaults, it may take minutes to reconnect
    # to a restarted containerd.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # Otherwise, a new channel shares the backoff of older ones to the same socket.
    ("grpc.use_local_subchannel_pool", 1),
)


class Containerd:
    """A containerd client; created by `connect`.

    Attributes:
        content: The namespace's blobs, for reading.
        images: The namespace's images.
    """

    def __init__(self, channel: grpc.aio.Channel, config: ContainerdConfig) -> None:
        self._channel = channel
        self._config = config
        self._metadata = ((_NAMESPACE, config.namespace),)
        self.content = ContentClient(channel, metadata=self._metadata)
        self.images = ImageRecords(channel, self._metadata)

    @classmethod
    @asynccontextmanager
    async def connect(cls, config: ContainerdConfig) -> AsyncIterator[Containerd]:
        """Create a client. It connects on first use, and reconnects after containerd was unavailable."""
        async with grpc.aio.insecure_channel(unix_target(config.socket), _OPTIONS) as channel:
            yield cls(channel, config)

    @asynccontextmanager
    async def leased(self) -> AsyncIterator[ContainerdStore]:
        """A store with a lease, which protects everything that is written or looked up until the block ends.

        After that, containerd's garbage collector may remove whatever is not part of a named image.
        """
        lease = Lease(self._channel, self._metadata, self._config.socket)
        metadata = (*self._metadata, (_LEASE, lease.id))
        try:
            yield ContainerdStore(
                ContentClient(self._channel, metadata=metadata),
                ImageRecords(self._channel, metadata),
                Unpacker(self._channel, metadata, self._config.snapshotter),
                lease,
            )
        finally:
            await lease.end()
