"""Resolving a request's refs: who knows their layers, and where their blobs are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Protocol

import grpc.aio

from exporter.content.memory import MemoryStore
from exporter.content.overlay import CountingProvider, FirstProvider
from exporter.content.protocol import Provider
from exporter.errors import FailedPreconditionError, PermissionDeniedError
from exporter.image import CompressionConfig, Descriptor
from exporter.pb.buildkit.exporter.v1 import exporter_pb2
from exporter.remotes.session.files import READ_FILES_METHOD
from exporter.remotes.session.refs import (
    GET_ATTESTATION_METHOD,
    GET_REMOTE_METHOD,
    SessionRef,
    get_attestation,
    refs_content,
)
from exporter.rpc.address import Address, parse_address
from exporter.rpc.allowed import AddressPattern, allowed_target
from exporter.rpc.limits import PEER_OPTIONS
from exporter.rpc.session.manager import Session, SessionManager
from exporter.server.request import inline_ref_of
from exporter.source.files import FilesRef, RefTree
from exporter.source.inline import check_chain
from exporter.source.types import LayerChain, Ref, Remote

CONTENT_READ_METHOD = "/containerd.services.content.v1.Content/Read"


class RefOwner(Protocol):
    """A peer that may know the layers of refs."""

    async def ref(self, ref_id: str) -> Ref | None:
        """Return the ref; None if this owner does not serve refs and the next one should be asked."""
        ...


class SessionOwner:
    """The client's session, which may attach after the request.

    Args:
        sessions: The attached sessions.
        session_id: The ID in the request.
        timeout: How long to wait for it, in seconds.
    """

    def __init__(self, sessions: SessionManager, session_id: str, timeout: float) -> None:
        self._sessions = sessions
        self._session_id = session_id
        self._timeout = timeout

    async def session(self) -> Session:
        """Wait for the session.

        Raises:
            UnavailableError: it has not attached in time.
        """
        return await self._sessions.wait(self._session_id, self._timeout)

    def attached(self) -> Session | None:
        """The session, if it has attached."""
        return self._sessions.get(self._session_id)

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[Session]:
        """Wait for the client, which can be asked while the block runs.

        Raises:
            UnavailableError: it has not attached in time.
        """
        yield await self.session()

    async def ref(self, ref_id: str) -> Ref | None:
        """See `RefOwner.ref`. The client is only asked if it has announced the service."""
        session = await self.session()
        offers_files = session.supports(READ_FILES_METHOD)
        if not offers_files and not session.supports(GET_REMOTE_METHOD):
            return None
        return SessionRef(ref_id, session.channel, offers_files=offers_files)

    async def content(self) -> Provider | None:
        """The client's blobs; None if it does not serve any."""
        session = await self.session()
        return refs_content(session.channel) if session.supports(CONTENT_READ_METHOD) else None

    async def attestation(self, content_id: str, path: str) -> bytes:
        """Get the content of the attestation at `path` in the request.

        Raises:
            FailedPreconditionError: the client does not serve any.
            NotFoundError: the client does not know it.
            UnavailableError: the client is gone, or has not attached in time.
        """
        session = await self.session()
        if not session.supports(GET_ATTESTATION_METHOD):
            raise FailedPreconditionError(
                f"the session does not serve {GET_ATTESTATION_METHOD}", field=f"{path}.content_id"
            )
        return await get_attestation(content_id, session.channel)


class EndpointOwner:
    """A server of ``RefService`` and ``Content`` at an address that the operator allows.

    It is dialled on demand. A name is looked up once, see `allowed_target`.

    Args:
        address: The address.
        allowed: The operator's patterns, one of which matches.
        field: The field of the request that has the address.
        resources: Closes the connection at the end of the export.
    """

    def __init__(
        self, address: Address, allowed: Sequence[AddressPattern], field: str, resources: AsyncExitStack
    ) -> None:
        self._address = address
        self._allowed = allowed
        self._field = field
        self._resources = resources
        self._dialling = asyncio.Lock()
        self._channel: grpc.aio.Channel | None = None

    async def ref(self, ref_id: str) -> Ref | None:
        """See `RefOwner.ref`."""
        return SessionRef(ref_id, await self._dial())

    async def content(self) -> Provider | None:
        """Its blobs."""
        return refs_content(await self._dial())

    async def _dial(self) -> grpc.aio.Channel:
        """Open the channel.

        Raises:
            PermissionDeniedError: the name resolves to an address that the operator does not allow.
            InvalidArgumentError: the name does not resolve.
        """
        async with self._dialling:
            if self._channel is None:
                target = await allowed_target(self._address, self._allowed, field=self._field)
                # gRPC derives the authority from the target, which has addresses instead of the name.
                authority = ("grpc.default_authority", self._address.target)
                options = (*PEER_OPTIONS, authority) if target != self._address.target else PEER_OPTIONS
                self._channel = grpc.aio.insecure_channel(target, options)
                self._resources.push_async_callback(self._channel.close)
            return self._channel


class OwnedRef:
    """A ref that is resolved and checked on demand.

    Args:
        ref_id: Its ID.
        path: The path of its field in the request.
        owners: The owners to ask, in this order.
        on_read: Called with the number of bytes read from its layers.
    """

    def __init__(
        self, ref_id: str, path: str, owners: Sequence[RefOwner], on_read: Callable[[int], None]
    ) -> None:
        self._id = ref_id
        self._path = path
        self._owners = owners
        self._on_read = on_read
        self._found: Ref | None = None
        self._finding = asyncio.Lock()
        self._descriptors: tuple[Descriptor, ...] | None = None

    @property
    def id(self) -> str:
        """See `Ref.id`."""
        return self._id

    async def remote(self, compression: CompressionConfig | None = None) -> Remote:
        """See `Ref.remote`.

        Raises:
            FailedPreconditionError: no owner serves refs.
        """
        remote = await (await self._find()).remote(compression)
        self._descriptors = remote.descriptors
        return Remote(remote.descriptors, CountingProvider(remote.provider, self._on_read))

    @asynccontextmanager
    async def files(self, scratch: Path) -> AsyncIterator[RefTree | None]:
        """See `FilesRef.files`.

        Raises:
            FailedPreconditionError: no owner serves refs.
        """
        found = await self._find()
        if not isinstance(found, FilesRef):
            yield None
            return
        async with found.files(scratch) as tree:
            yield tree

    async def layer_chain(self) -> LayerChain:
        """See `Ref.layer_chain`.

        Raises:
            FailedPreconditionError: no owner serves refs, or the chain does not match the layers that
                `remote` returned.
        """
        chain = await (await self._find()).layer_chain()
        if self._descriptors is not None:
            check_chain(chain, self._descriptors, field=self._path)
        return chain

    async def _find(self) -> Ref:
        async with self._finding:
            for owner in self._owners if self._found is None else ():
                self._found = await owner.ref(self._id)
                if self._found is not None:
                    break
        if self._found is None:
            raise FailedPreconditionError(
                f"nobody can be asked for the layers of ref {self._id}: give them inline, attach a session "
                "that serves RefService, or name an endpoint",
                field=self._path,
            )
        return self._found


@asynccontextmanager
async def _files_of(ref_id: str, owners: Sequence[RefOwner], scratch: Path) -> AsyncIterator[RefTree | None]:
    """The files of an inline ref, if one of its owners sends them."""
    found = [await owner.ref(ref_id) for owner in owners]
    senders: list[FilesRef] = [ref for ref in found if isinstance(ref, FilesRef)]
    if not senders:
        yield None
        return
    async with senders[0].files(scratch) as tree:
        yield tree


class RefResolver:
    """Creates the refs of one request.

    Args:
        store: The embedded store, which is preferred for blobs that it has.
        shared: The fallback for blobs that no other provider has.
        session: The client, if the request names a session.
        daemons: Owners to ask after all those that the request names.
        allowed: Patterns of addresses that requests may name.
        resources: Closes connections at the end of the export.
        on_read: Called with the number of bytes read from layers.
    """

    def __init__(
        self,
        *,
        store: Provider,
        shared: Provider | None = None,
        session: SessionOwner | None,
        daemons: Sequence[RefOwner],
        allowed: Sequence[AddressPattern],
        resources: AsyncExitStack,
        on_read: Callable[[int], None],
    ) -> None:
        self._store = store
        self._shared = shared
        self._session = session
        self._daemons = daemons
        self._allowed = allowed
        self._resources = resources
        self._on_read = on_read
        self._endpoints: dict[str, EndpointOwner] = {}

    def ref(self, message: exporter_pb2.Ref, path: str) -> Ref:
        """Create the ref for a message in the field `path`.

        Raises:
            InvalidArgumentError, FailedPreconditionError: the message is malformed.
            PermissionDeniedError: it names an endpoint that is not allowed.
        """
        owners = [
            owner for owner in (self._session, self._endpoint(message.endpoint, path)) if owner is not None
        ]
        if not message.HasField("inline"):
            return OwnedRef(message.id, path, (*owners, *self._daemons), self._on_read)
        embedded = MemoryStore.of({d.digest: d.data for d in message.inline.descriptors if d.data})

        async def in_request() -> Provider:
            return embedded

        async def in_store() -> Provider:
            return self._store

        async def shared() -> Provider | None:
            return self._shared

        places = (in_request, in_store, *(owner.content for owner in owners), shared)
        provider = FirstProvider(*places, where="the request, the store or any peer")
        counted = CountingProvider(provider, self._on_read)
        return inline_ref_of(message, path, counted, partial(_files_of, message.id, owners))

    def attestation(self, content_id: str, path: str) -> Callable[[], Awaitable[bytes]]:
        """What gets the content of the attestation in the field `path`.

        Raises:
            FailedPreconditionError: the request does not name a session.
        """
        if self._session is None:
            raise FailedPreconditionError(
                "the content of the attestation has to be requested, but the request does not name a session",
                field=f"{path}.content_id",
            )
        return partial(self._session.attestation, content_id, path)

    def _endpoint(self, text: str, path: str) -> EndpointOwner | None:
        if not text:
            return None
        address = parse_address(text, field=f"{path}.endpoint")
        if not any(pattern.matches(address) for pattern in self._allowed):
            raise PermissionDeniedError(
                f"the operator of this exporter does not allow it to dial {address} (--allow-endpoint)",
                field=f"{path}.endpoint",
            )
        if address.target not in self._endpoints:
            self._endpoints[address.target] = EndpointOwner(
                address, self._allowed, f"{path}.endpoint", self._resources
            )
        return self._endpoints[address.target]
