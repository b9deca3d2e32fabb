"""Pushing into a real docker-registry when something goes wrong."""

from __future__ import annotations

import asyncio

import pytest

from exporter.errors import (
    DataLossError,
    FailedPreconditionError,
    NotFoundError,
    ResourceExhaustedError,
    UnavailableError,
)
from exporter.image import Descriptor, Reference, digest_bytes
from exporter.image.media_types import OCI_LAYER
from exporter.remotes.registry import RegistryOptions, RetryPolicy, StaticCredentials
from exporter.remotes.registry.repository import open_repository
from tests.integration.registry.pushing import UPLOADS, Always, Except, Meeting, Peer, Zeros, noise
from tests.integration.registry_peer import Fault
from tests.unit.content.images import Hanging, Recorder, describe

BIG = 5 << 20


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v2/$"),
        ("HEAD", "/blobs/"),
        ("POST", UPLOADS),
        ("PATCH", UPLOADS),
        ("PUT", UPLOADS),
        ("HEAD", "/manifests/"),
        ("PUT", "/manifests/"),
    ],
)
@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
async def test_transient_failures_are_retried(peer: Peer, method: str, path: str, status: int) -> None:
    root = await peer.add_image(await peer.add(noise(1 << 20)))
    peer.proxy.faults.append(Fault(method, path, status=status, headers={"Retry-After": "17"}, times=2))
    await peer.push(root)
    assert await peer.digest_of("app", "v1") == root.digest
    if (method, status) != ("GET", status):
        assert peer.pauses == [17.0, 17.0]
        assert f"answered {status}" in peer.logs
        assert "retrying in 17.0s" in peer.logs


async def test_an_upload_resumes_after_a_lost_connection(peer: Peer) -> None:
    layer = await peer.add(noise(BIG))
    root = await peer.add_image(layer)
    provider = Recorder(peer.store)
    peer.proxy.faults.append(Fault("PATCH", UPLOADS, reset_after=3_000_001, keep=True))
    await peer.push(root, provider=provider)
    assert await peer.digest_of("app", "v1") == root.digest
    first, second = (
        seen for seen in peer.proxy.of("PATCH", "") if int(seen.headers["Content-Length"]) > 10**6
    )
    assert "Content-Range" not in first.headers
    assert second.headers["Content-Range"] == f"3000001-{BIG - 1}"
    assert first.received + second.received == BIG
    assert [status for status in peer.advances if status < 0], "the bar goes back"
    assert peer.logs.count("retrying") == 1


async def test_an_upload_survives_many_breaks(peer: Peer) -> None:
    root = await peer.add_image(await peer.add(noise(BIG)))
    peer.proxy.faults.append(Fault("PATCH", UPLOADS, reset_after=400_000, keep=True, times=12))
    await peer.push(root)
    assert await peer.digest_of("app", "v1") == root.digest
    assert peer.logs.count("retrying") == 12  # more than may fail in a row


@pytest.mark.parametrize("status", [400, 404, 405, 416])
async def test_an_upload_restarts_if_its_offset_is_unknown(peer: Peer, status: int) -> None:
    root = await peer.add_image(await peer.add(noise(BIG)))
    peer.proxy.faults.append(Fault("PATCH", UPLOADS, reset_after=2_000_000, keep=True))
    peer.proxy.faults.append(Fault("GET", UPLOADS, status=status))
    await peer.push(root)
    assert await peer.digest_of("app", "v1") == root.digest
    assert [seen.received for seen in peer.proxy.of("PATCH", "") if seen.received > 10**6] == [2_000_000, BIG]


@pytest.mark.parametrize("reset_after", [0, 1, 70_000, BIG])
async def test_an_upload_that_the_registry_forgets_is_restarted(peer: Peer, reset_after: int) -> None:
    root = await peer.add_image(await peer.add(noise(BIG)))
    peer.proxy.faults.append(Fault("PATCH", UPLOADS, reset_after=reset_after))
    await peer.push(root)
    assert await peer.digest_of("app", "v1") == root.digest


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", UPLOADS), ("PATCH", UPLOADS), ("PUT", UPLOADS), ("PUT", "/manifests/"), ("HEAD", "/v2/")],
)
async def test_lost_responses_are_recovered_from(peer: Peer, method: str, path: str) -> None:
    layer = await peer.add(noise(1 << 20))
    root = await peer.add_image(layer)
    peer.proxy.faults.append(Fault(method, path, lose_answer=True))
    await peer.push(root)
    assert await peer.digest_of("app", "v1") == root.digest
    status, _, body = await peer.get(f"app/blobs/{layer.digest}")
    assert (status, digest_bytes(body)) == (200, layer.digest)


async def test_uploads_in_chunks(peer: Peer) -> None:
    peer.options = peer.make_options(chunk_size=2 << 20)
    layer = await peer.add(noise(BIG))
    root = await peer.add_image(layer)
    peer.proxy.faults.append(Fault("PATCH", UPLOADS, status=503, at_least=1 << 20))
    await peer.push(root)
    assert await peer.digest_of("app", "v1") == root.digest
    ranges = {seen.headers.get("Content-Range", "") for seen in peer.proxy.of("PATCH", "")} - {""}
    assert sorted(ranges) == ["0-2097151", "2097152-4194303", "4194304-5242879"]


async def test_chunks_shrink_if_the_registry_refuses_large_requests(peer: Peer) -> None:
    root = await peer.add_image(await peer.add(noise(BIG)))
    refused = Fault("PATCH", UPLOADS, status=413, at_least=1 << 20)
    peer.proxy.faults.append(refused)
    await peer.push(root)
    assert await peer.digest_of("app", "v1") == root.digest
    refused.times = 100
    other = await peer.add_image(await peer.add(noise(BIG, 1)))
    with pytest.raises(ResourceExhaustedError, match="413.*accepts no larger requests"):
        await peer.push(other, "app:v2")
    assert await peer.tags("app") == ["v1"]


@pytest.mark.parametrize(("method", "path"), [("PATCH", UPLOADS), ("PUT", "/manifests/v1")])
async def test_a_failed_push_sets_no_tag_and_can_be_repeated(peer: Peer, method: str, path: str) -> None:
    old = await peer.add_image(author="old")
    await peer.push(old)
    root = await peer.add_image(await peer.add(noise(BIG)), author="new")
    fault = Fault(method, path, status=503, body=b'{"errors": [{"code": "UNAVAILABLE"}]}', times=1000)
    peer.proxy.faults.append(fault)
    with pytest.raises(UnavailableError, match=r"answered 503 Service Unavailable: UNAVAILABLE"):
        await peer.push(root)
    assert await peer.digest_of("app", "v1") == old.digest
    fault.times = 0
    await peer.push(root)
    assert await peer.digest_of("app", "v1") == root.digest


async def test_retry_after_is_respected(peer: Peer) -> None:
    root = await peer.add_image()
    peer.proxy.faults.append(Fault("POST", UPLOADS, status=429, headers={"Retry-After": "86400"}))
    with pytest.raises(UnavailableError, match="asks to wait 86400 s before a retry"):
        await peer.push(root)
    assert peer.pauses == []


async def test_a_refusal_is_reported_without_retries(peer: Peer) -> None:
    root = await peer.add_image()
    body = b'{"errors": [{"code": "DENIED", "message": "quota\\nexceeded"}]}'
    peer.proxy.faults.append(Fault("POST", UPLOADS, status=400, body=body, times=1000))
    message = r"beginning the upload of sha256:\w+ to .*/app: .*DENIED: quota exceeded"
    with pytest.raises(FailedPreconditionError, match=message):
        await peer.push(root)
    assert peer.pauses == []


async def test_a_blob_that_is_missing(peer: Peer) -> None:
    root = await peer.add_image(describe(b"not in the store"))
    with pytest.raises(NotFoundError, match="not found"):
        await peer.push(root)
    assert await peer.tags("app") == []


@pytest.mark.parametrize("alter", ["changed", "shorter", "longer", "empty"])
async def test_a_blob_with_a_wrong_digest_is_not_pushed(peer: Peer, alter: str) -> None:
    data = noise(2 << 20)
    layer = await peer.add(data)
    root = await peer.add_image(layer)
    wrong = {"changed": data[:-1] + b"?", "shorter": data[:-1], "longer": data + b"?", "empty": b""}[alter]
    with pytest.raises(DataLossError, match=layer.digest):
        await peer.push(root, provider=Except(peer.store, layer.digest, Always(wrong)))
    assert await peer.tags("app") == []
    status, _, _ = await peer.get(f"app/blobs/{layer.digest}")
    assert status == 404
    await peer.push(root)
    assert await peer.digest_of("app", "v1") == root.digest


async def test_a_manifest_with_a_wrong_digest_is_not_pushed(peer: Peer) -> None:
    root = await peer.add_image()
    with pytest.raises(DataLossError, match=root.digest):
        await peer.push(root, provider=Except(peer.store, root.digest, Always(b"{}")))
    assert peer.proxy.of("POST", "") == []


async def test_cancelling_leaves_nothing_behind(peer: Peer) -> None:
    layer = Descriptor(OCI_LAYER, digest_bytes(b"never"), 1 << 20)
    root = await peer.add_image(layer)
    hanging = Hanging(layer.size)

    before = asyncio.all_tasks()
    pushing = asyncio.create_task(peer.push(root, provider=Except(peer.store, layer.digest, hanging)))
    await hanging.reading.wait()
    pushing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pushing
    assert hanging.closed == 1
    await peer.proxy.idle()
    own = [task for task in asyncio.all_tasks() - before if "exporter" in repr(task.get_stack())]
    assert own == []
    assert await peer.tags("app") == []


async def test_reading_does_not_run_ahead_of_the_upload(peer: Peer) -> None:
    zeros = Zeros(96 << 20)
    root = await peer.add_image(zeros.descriptor)

    peer.proxy.hold.clear()
    pushing = asyncio.create_task(
        peer.push(root, provider=Except(peer.store, zeros.descriptor.digest, zeros))
    )
    unchanged, last = 0, -1
    while unchanged < 20:
        await asyncio.sleep(0.02)
        unchanged = unchanged + 1 if zeros.given == last and last > 0 else 0
        last = zeros.given
    assert zeros.given < 24 << 20, "beside a few pieces, only what the sockets hold"
    peer.proxy.hold.set()
    await pushing
    assert await peer.digest_of("app", "v1") == root.digest


async def test_a_registry_that_stalls(peer: Peer) -> None:
    peer.options = peer.make_options(stall_seconds=0.3)
    zeros = Zeros(64 << 20)
    root = await peer.add_image(zeros.descriptor)

    peer.proxy.hold.clear()
    with pytest.raises(UnavailableError, match="accepts no more bytes|it took too long"):
        await peer.push(root, provider=Except(peer.store, zeros.descriptor.digest, zeros))
    assert len(peer.pauses) >= 4


async def test_concurrency_limits_the_blobs_in_flight(peer: Peer) -> None:
    peer.options = peer.make_options(concurrency=2)
    layers = [await peer.add(noise(100_000, n)) for n in range(6)]
    root = await peer.add_image(*layers)
    provider = Recorder(Meeting(peer.store, {layer.digest for layer in layers}, readers=2))
    await peer.push(root, provider=provider)
    assert provider.most_open == 2


async def test_an_unreachable_registry_is_reported() -> None:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    options = RegistryOptions(credentials=StaticCredentials(), retry=RetryPolicy(attempts=3, sleep=sleep))
    with pytest.raises(
        UnavailableError, match=r"connecting to 127.0.0.1:1: no response from http://127.0.0.1:1: "
    ):
        async with open_repository(Reference.parse("127.0.0.1:1/app"), options=options):
            pass
    assert len(pauses) == 2
