"""A containerd, seen from one of its namespaces."""

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
    # What containerd's own clients take.
    ("grpc.max_receive_message_length", 16 << 20),
    ("grpc.max_send_message_length", 16 << 20),
    # A socket of this machine costs nothing to try. By default a containerd that was restarted
    # might be found again minutes later.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # Else a new connection shares the waiting of older ones to the same socket.
    ("grpc.use_local_subchannel_pool", 1),
)


class Containerd:
    """A containerd; made by `connect`.

    Attributes:
        content: The namespace's blobs, for reading.
        images: Its images.
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
        """Make a connection, which is opened when it is first used, and again when containerd was away."""
        async with grpc.aio.insecure_channel(unix_target(config.socket), _OPTIONS) as channel:
            yield cls(channel, config)

    @asynccontextmanager
    async def leased(self) -> AsyncIterator[ContainerdStore]:
        """Have a store that keeps all that is written to it, or looked up in it, until the block ends.

        Whatever has no name by then is left to containerd's garbage collector.
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
