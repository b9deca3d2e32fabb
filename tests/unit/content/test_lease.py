from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from exporter.content import OCILayout, copy_chain, has_blob, write_blob
from exporter.content.images import ImageStore
from exporter.content.lazy import EmbeddedStore
from exporter.content.lease import Lease, lease_of
from exporter.content.root import open_root, prune_root
from exporter.image import Descriptor, digest_bytes
from exporter.image.keys import DIFF_ID
from tests.unit.content.images import image, names_in

BLOB = b"blob"
DIGEST = digest_bytes(BLOB)
DESCRIPTOR = Descriptor("m", DIGEST, len(BLOB))

_KILLED = """
import asyncio, os, sys
from exporter.content import OCILayout, write_blob
from exporter.content.lease import lease_of
async def main():
    async with lease_of(await OCILayout.open(sys.argv[1])) as lease:
        await write_blob(lease, b"blob")
        os._exit(9)
asyncio.run(main())
"""


class FailedError(Exception):
    pass


async def digests(layout: OCILayout) -> set[str]:
    return {blob.digest for blob in await layout.blobs()}


async def failing(layout: OCILayout, *blobs: bytes) -> None:
    """An export that fails after it has written some blobs."""
    with pytest.raises(FailedError):
        async with lease_of(layout) as lease:
            for blob in blobs:
                await write_blob(lease, blob)
            raise FailedError


def tidy(layout: OCILayout) -> bool:
    return names_in(layout.path) == ["blobs", "index.json", "oci-layout"]


async def test_blobs_of_a_failed_export_are_removed(tmp_path: Path) -> None:
    layout = await OCILayout.open(tmp_path)
    await write_blob(layout, b"somebody else's")
    before = await digests(layout)
    await failing(layout, BLOB, b"more", b"somebody else's")
    assert await digests(layout) == before
    assert tidy(layout)


async def test_blobs_of_a_cancelled_export_are_removed(tmp_path: Path) -> None:
    layout = await OCILayout.open(tmp_path)
    written = asyncio.Event()

    async def export() -> None:
        async with lease_of(layout) as lease:
            await write_blob(lease, BLOB)
            written.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(export())
    await written.wait()
    task.cancel()
    await asyncio.wait([task])
    assert await digests(layout) == set()
    assert tidy(layout)


async def test_blobs_of_a_successful_export_stay(tmp_path: Path) -> None:
    layout = await OCILayout.open(tmp_path)
    provider, root = image()
    async with lease_of(layout) as lease:
        await copy_chain(lease, provider, root)
        await lease.publish(root, ["example.com/a:b"])
    before = await digests(layout)
    # Later exports that fail change nothing, though they use the same blobs.
    with pytest.raises(FailedError):
        async with lease_of(layout) as lease:
            await copy_chain(lease, provider, root)
            raise FailedError
    assert await digests(layout) == before
    assert tidy(layout)


async def test_an_export_that_fails_after_its_image_was_named_loses_nothing(tmp_path: Path) -> None:
    layout = await OCILayout.open(tmp_path)
    provider, root = image()
    with pytest.raises(FailedError):
        async with lease_of(layout) as lease:
            await copy_chain(lease, provider, root)
            await lease.publish(root, ["example.com/a:b"])
            raise FailedError
    await layout.publish(root)  # complete
    assert tidy(layout)


@pytest.mark.parametrize("how", ["info", "write"])
async def test_shared_blobs_stay_until_the_other_export_fails_too(tmp_path: Path, how: str) -> None:
    layout = await OCILayout.open(tmp_path)
    with pytest.raises(FailedError):
        async with lease_of(layout) as first:
            await write_blob(first, BLOB)
            with pytest.raises(FailedError):
                async with lease_of(await OCILayout.open(tmp_path)) as second:
                    await (second.info(DIGEST) if how == "info" else write_blob(second, BLOB))
                    with pytest.raises(FailedError):
                        async with lease_of(layout) as third:
                            await write_blob(third, BLOB)
                            raise FailedError
                    assert await digests(layout) == {DIGEST}
                    raise FailedError
            assert await digests(layout) == {DIGEST}
            raise FailedError
    assert await digests(layout) == set()
    assert tidy(layout)


async def test_blobs_of_a_failed_export_are_removed_with_their_last_user(tmp_path: Path) -> None:
    layout = await OCILayout.open(tmp_path)
    async with lease_of(layout) as user:
        with pytest.raises(FailedError):
            async with lease_of(layout) as writer:
                await write_blob(writer, BLOB)
                await user.info(DIGEST)
                raise FailedError
        assert await has_blob(layout, DESCRIPTOR)
    assert await digests(layout) == set(), "it has ended without an image of it"
    assert tidy(layout)


async def test_the_next_export_removes_blobs_of_a_killed_one(tmp_path: Path) -> None:
    layout = await OCILayout.open(tmp_path)
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", _KILLED, str(tmp_path))
    assert await process.wait() == 9
    assert await digests(layout) == {DIGEST}
    async with lease_of(await OCILayout.open(tmp_path)) as lease:
        await write_blob(lease, b"other")
    assert await digests(layout) == {digest_bytes(b"other")}
    assert tidy(layout)


async def test_many_writers_of_the_same_blobs_some_of_which_fail(tmp_path: Path) -> None:
    provider, root = image()

    async def export(number: int) -> None:
        async with lease_of(await OCILayout.open(tmp_path)) as lease:
            await copy_chain(lease, provider, root)
            if number % 3:
                raise FailedError
            await lease.publish(root, [f"example.com/a:{number}"])

    results = await asyncio.gather(*(export(number) for number in range(30)), return_exceptions=True)
    assert [type(result) for result in results] == [FailedError if n % 3 else type(None) for n in range(30)]
    layout = await OCILayout.open(tmp_path)
    await layout.publish(root)
    assert tidy(layout)


async def test_images_by_id_need_their_blobs(tmp_path: Path) -> None:
    config = b'{"rootfs":{"type":"layers","diff_ids":["%s"]}}' % DIGEST.encode()
    layer = Descriptor("m", DIGEST, len(BLOB), annotations={DIFF_ID: DIGEST})

    async def export(lease: Lease, *, fails: bool) -> None:
        async with lease:
            await write_blob(lease, BLOB)
            await ImageStore(tmp_path / "docker", lease).create(config, [layer])
            if fails:
                raise FailedError

    with pytest.raises(FailedError):
        await export(EmbeddedStore(tmp_path).lease(), fails=True)
    layout, _ = await open_root(tmp_path)
    assert await digests(layout) == {DIGEST, digest_bytes(config)}
    with pytest.raises(FailedError):
        async with EmbeddedStore(tmp_path).lease() as lease:
            await write_blob(lease, b"other")
            raise FailedError
    assert await digests(layout) == {DIGEST, digest_bytes(config)}


async def test_pruning_keeps_blobs_of_running_exports(tmp_path: Path) -> None:
    async with EmbeddedStore(tmp_path).lease() as lease:
        await write_blob(lease, BLOB)
        assert await prune_root(tmp_path, before=float("inf")) == []
        assert await has_blob(lease, DESCRIPTOR)
    assert [blob.digest for blob in await prune_root(tmp_path, before=float("inf"))] == [DIGEST]


async def test_a_lease_that_only_reads_creates_nothing(tmp_path: Path) -> None:
    async with EmbeddedStore(tmp_path / "root").lease() as lease:
        assert not await has_blob(lease, DESCRIPTOR)
    assert not (tmp_path / "root").exists()
