from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

import grpc
import grpc.aio
import pytest

from exporter.content.memory import MemoryStore
from exporter.errors import (
    Code,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    UnavailableError,
)
from exporter.image import CompressionConfig, Descriptor, digest_bytes
from exporter.image.keys import DIFF_ID
from exporter.pb.buildkit.exporter.v1 import exporter_pb2 as pb
from exporter.rpc.address import TCPAddress
from exporter.rpc.allowed import AddressPattern
from exporter.rpc.http2.connection import Connection
from exporter.rpc.http2.grpc import end_with_status
from exporter.rpc.http2.headers import Headers
from exporter.rpc.http2.sockets import Scheduler, serving
from exporter.rpc.http2.stream import Stream
from exporter.rpc.listen import accepting
from exporter.rpc.session.attach import attach
from exporter.rpc.session.manager import SessionManager
from exporter.server.refs import OwnedRef, RefResolver, SessionOwner
from exporter.source.inline import InlineRef
from exporter.source.types import Layer, LayerChain, Ref, Remote
from tests.sessions import session_server

BLOB = b"layer"
DIGEST = digest_bytes(BLOB)
LAYER = Descriptor("m", DIGEST, len(BLOB), annotations={DIFF_ID: DIGEST})


class Owner:
    """Knows some refs."""

    def __init__(self, *refs: Ref) -> None:
        self.refs = {ref.id: ref for ref in refs}
        self.asked = 0

    async def ref(self, ref_id: str) -> Ref | None:
        self.asked += 1
        return self.refs.get(ref_id)


class GrowingRef(InlineRef):
    """Returns a chain with one more layer on each call."""

    times = 0

    async def layer_chain(self) -> LayerChain:
        self.times += 1
        return (Layer("r"),) * self.times

    async def remote(self, compression: CompressionConfig | None = None) -> Remote:
        return await super().remote(compression)


def known(ref_id: str = "r") -> InlineRef:
    return InlineRef(ref_id, [Layer("r")], [LAYER], MemoryStore(BLOB))


def ignore(amount: int) -> None:
    pass


def resolver(
    *,
    session: SessionOwner | None = None,
    daemons: tuple[Owner, ...] = (),
    allowed: tuple[str, ...] = (),
    resources: AsyncExitStack | None = None,
) -> RefResolver:
    return RefResolver(
        store=MemoryStore(),
        session=session,
        daemons=daemons,
        allowed=[AddressPattern.parse(text, field="f") for text in allowed],
        resources=resources or AsyncExitStack(),
        on_read=ignore,
    )


async def test_owners_are_asked_in_order_until_one_applies_and_once() -> None:
    first, second, third = Owner(), Owner(known()), Owner(known())
    ref = OwnedRef("r", "source.ref", (first, second, third), ignore)
    assert (await ref.remote()).descriptors == (LAYER,)
    assert [layer.id for layer in await ref.layer_chain()] == ["r"]
    assert (first.asked, second.asked, third.asked) == (1, 1, 0)


async def test_a_configured_daemon_is_asked_last() -> None:
    daemon = Owner(known())
    ref = resolver(daemons=(daemon,)).ref(pb.Ref(id="r"), "source.ref")
    assert (await ref.remote()).descriptors == (LAYER,)


def test_late_content_needs_a_session() -> None:
    with pytest.raises(FailedPreconditionError) as caught:
        resolver().attestation("c", "source.attestations[p][0]")
    assert caught.value.field == "source.attestations[p][0].content_id"


async def test_a_session_that_has_no_content() -> None:
    async with session_server() as (sessions, channel), attach(channel, [], session_id="s"):
        load = resolver(session=SessionOwner(sessions, "s", 30)).attestation("c", "source.attestations[p][0]")
        with pytest.raises(FailedPreconditionError, match="does not serve") as caught:
            await load()
    assert caught.value.field == "source.attestations[p][0].content_id"


async def test_a_ref_without_an_owner_is_refused() -> None:
    ref = resolver(daemons=(Owner(),)).ref(pb.Ref(id="r"), "source.ref")
    for ask in (ref.remote, ref.layer_chain):
        with pytest.raises(FailedPreconditionError) as caught:
            await ask()
        assert caught.value.field == "source.ref"


async def test_a_chain_is_checked_against_the_layers() -> None:
    growing = GrowingRef("r", [], [LAYER], MemoryStore(BLOB))
    ref = OwnedRef("r", "source.refs[p]", (Owner(growing),), ignore)
    await ref.remote()
    assert len(await ref.layer_chain()) == 1
    with pytest.raises(FailedPreconditionError) as caught:
        await ref.layer_chain()
    assert caught.value.field == "source.refs[p].chain"


async def test_a_session_that_never_attaches_ends_the_search() -> None:
    session = SessionOwner(SessionManager(), "s", 0.01)
    daemon = Owner(known())
    ref = resolver(session=session, daemons=(daemon,)).ref(pb.Ref(id="r"), "source.ref")
    with pytest.raises(UnavailableError):
        await ref.remote()
    assert not daemon.asked


def test_endpoints_are_dialled_only_if_allowed() -> None:
    message = pb.Ref(id="r", endpoint="unix:///run/refs.sock")
    with pytest.raises(PermissionDeniedError) as caught:
        resolver().ref(message, "source.ref")
    assert caught.value.field == "source.ref.endpoint"
    with pytest.raises(PermissionDeniedError):
        resolver(allowed=("unix:///run/other.sock", "tcp://*:*")).ref(message, "source.ref")
    with pytest.raises(InvalidArgumentError):
        resolver(allowed=("tcp://*:*",)).ref(pb.Ref(id="r", endpoint="nonsense"), "source.ref")


async def test_an_inline_ref_with_a_forbidden_endpoint_is_refused_too() -> None:
    message = pb.Ref(id="r", endpoint="tcp://10.0.0.1:1", inline=pb.InlineRef())
    with pytest.raises(PermissionDeniedError):
        resolver().ref(message, "source.ref")


async def layer_chain(request: pb.GetLayerChainRequest, context: object) -> pb.GetLayerChainResponse:
    return pb.GetLayerChainResponse(layers=[pb.Layer(id=request.ref_id)])


def serve_refs(server: grpc.aio.Server) -> None:
    """Serve refs whose only layer has their ID."""
    handler = grpc.unary_unary_rpc_method_handler(
        layer_chain, pb.GetLayerChainRequest.FromString, pb.GetLayerChainResponse.SerializeToString
    )
    handlers: dict[str, Any] = {"GetLayerChain": handler, "GetRemote": handler}
    service = pb.DESCRIPTOR.services_by_name["RefService"].full_name
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    server.add_registered_method_handlers(service, handlers)


@pytest.mark.parametrize("serves", [True, False])
async def test_a_session_is_asked_if_it_serves_refs(serves: bool) -> None:
    daemon = Owner(known())
    services = [serve_refs] if serves else []
    async with session_server() as (sessions, channel), attach(channel, services, session_id="s"):
        owner = SessionOwner(sessions, "s", 30)
        ref = resolver(session=owner, daemons=(daemon,)).ref(pb.Ref(id="r"), "source.ref")
        assert [layer.id for layer in await ref.layer_chain()] == ["r"]
        assert daemon.asked == (0 if serves else 1)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
async def test_an_endpoint_is_dialled_once_under_its_name(host: str) -> None:
    connections = 0
    authorities = []

    def accept(connection: Connection) -> None:
        nonlocal connections
        connections += 1
        connection.on_stream = answer

    def answer(stream: Stream, headers: Headers, end: bool) -> None:
        authorities.append(dict(headers)[b":authority"].decode())
        end_with_status(stream, Code.NOT_FOUND, "no such ref")

    make = serving(Scheduler(), accept)
    address = TCPAddress("127.0.0.1", 0)
    async with accepting(make, address, None, insecure=False) as bound, AsyncExitStack() as resources:
        assert isinstance(bound, TCPAddress)
        endpoint, expected = f"tcp://{host}:{bound.port}", f"{host}:{bound.port}"
        refs = resolver(allowed=(endpoint,), resources=resources)
        for ref_id in "ab":
            ref = refs.ref(pb.Ref(id=ref_id, endpoint=endpoint), "source.ref")
            with pytest.raises(NotFoundError):
                await ref.layer_chain()
    assert authorities == [expected, expected]
    assert connections == 1


def test_a_ref_knows_its_id() -> None:
    assert resolver().ref(pb.Ref(id="r"), "source.ref").id == "r"
