"""The embedded store before its first use."""

from __future__ import annotations

from pathlib import Path

import pytest

from exporter.content.copy import read_blob, write_blob
from exporter.content.lazy import EmbeddedStore
from exporter.content.root import image_store, open_root
from exporter.errors import FailedPreconditionError, NotFoundError
from exporter.image import Descriptor, digest_bytes

BLOB = Descriptor("text/plain", digest_bytes(b"blob"), 4)
CONFIG = b'{"rootfs":{"type":"layers","diff_ids":[]}}'


def names(path: Path) -> list[str]:
    return [entry.name for entry in path.iterdir()]


async def test_reading_creates_nothing(tmp_path: Path) -> None:
    store = EmbeddedStore(tmp_path)
    with pytest.raises(NotFoundError):
        await store.info(BLOB.digest)
    with pytest.raises(NotFoundError):
        await read_blob(store, BLOB)
    images = image_store(tmp_path, store)
    assert await images.list() == ()
    assert await images.tags() == {}
    assert names(tmp_path) == []


async def test_writing_creates_the_store(tmp_path: Path) -> None:
    store = EmbeddedStore(tmp_path)
    await write_blob(store, b"blob", BLOB)
    image = await image_store(tmp_path, store).create(CONFIG, [])
    again, images = await open_root(tmp_path)
    assert await read_blob(again, BLOB) == b"blob"
    assert await read_blob(EmbeddedStore(tmp_path), BLOB) == b"blob"
    assert [item.id for item in await images.list()] == [image]


async def test_the_default_store_is_opened_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    store = EmbeddedStore()
    assert await store.open() is await store.open()
    assert names(tmp_path) == ["buildkit-exporter"]


async def test_a_directory_that_cannot_be_created_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "file"))
    store = EmbeddedStore()
    with pytest.raises(NotFoundError):
        await store.info(BLOB.digest)
    message = (
        f"the image store in {tmp_path}/file/buildkit-exporter cannot be used: Not a directory; "
        "choose another one with --root"
    )
    with pytest.raises(FailedPreconditionError, match=f"^{message}$"):
        await store.open()
    with pytest.raises(FailedPreconditionError, match=f"^{message}$"):
        await write_blob(store, b"blob", BLOB)
    with pytest.raises(FailedPreconditionError, match=f"^{message}$"):
        await image_store(tmp_path, store).create(CONFIG, [])
