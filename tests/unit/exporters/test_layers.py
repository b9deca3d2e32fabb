from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from exporter.content.copy import read_blob
from exporter.exporters.inline_cache import find_inline_cache
from exporter.exporters.oci import OCIExporter
from exporter.image import CompressionConfig, CompressionType, ImageError, digest_bytes
from exporter.image.keys import DIFF_ID
from exporter.image.media_types import OCI_LAYER_GZIP
from exporter.layer.gotar import Header, TarTime, TarWriter
from exporter.layer.streams import Pieces
from exporter.source.types import BuildInfo, Remote, Source
from tests.unit.exporters.harness import FakeLayer, Workplace, make_ref

CONFIG = b'{"os":"linux","architecture":"amd64"}'


def make_tar(name: bytes, time: int) -> bytes:
    pieces = Pieces()
    writer = TarWriter(pieces)
    writer.write_header(Header(name=name, size=3, mode=0o644, mod_time=TarTime(time)))
    writer.write(b"abc")
    writer.close()
    return pieces.take()


BASE, OWN = make_tar(b"base", 5000), make_tar(b"own", 5000)


def gzip_layer(tar: bytes) -> FakeLayer:
    return FakeLayer(gzip.compress(tar, mtime=0), OCI_LAYER_GZIP, annotations={DIFF_ID: digest_bytes(tar)})


@pytest.fixture
def work(tmp_path: Path) -> Workplace:
    return Workplace(tmp_path)


async def exported(
    work: Workplace, attrs: dict[str, str], metadata: dict[str, bytes] | None = None
) -> tuple[list[dict[str, Any]], list[str]]:
    """The layers in the manifest, and the diff IDs in the config."""
    ref = make_ref([gzip_layer(BASE), gzip_layer(OWN)])
    source = Source(ref=ref, metadata={"containerimage.config": CONFIG, **(metadata or {})})
    context = await work.context()
    result = await OCIExporter(attrs).export(source, context)
    assert result.descriptor is not None
    manifest = json.loads(await read_blob(context.store, result.descriptor))
    config_digest = manifest["config"]["digest"]
    config = json.loads(b"".join([data async for data in context.store.read(config_digest)]))
    return manifest["layers"], config["rootfs"]["diff_ids"]


@pytest.mark.parametrize(
    "attrs", [{}, {"compression": "zstd"}, {"compression": "gzip", "force-compression": ""}]
)
async def test_layers_are_passed_through(work: Workplace, attrs: dict[str, str]) -> None:
    layers, _ = await exported(work, attrs)
    assert [layer["digest"] for layer in layers] == [
        digest_bytes(gzip.compress(t, mtime=0)) for t in (BASE, OWN)
    ]


async def test_forced_compression(work: Workplace) -> None:
    layers, diff_ids = await exported(work, {"compression": "uncompressed", "force-compression": "true"})
    assert [layer["digest"] for layer in layers] == diff_ids == [digest_bytes(t) for t in (BASE, OWN)]
    assert {layer["mediaType"] for layer in layers} == {"application/vnd.oci.image.layer.v1.tar"}


async def test_the_ref_receives_the_requested_compression(work: Workplace) -> None:
    asked: list[CompressionConfig | None] = []

    class Asking:
        id = "ref"

        async def remote(self, compression: CompressionConfig | None = None) -> Remote:
            asked.append(compression)
            return await make_ref([]).remote()

        async def layer_chain(self) -> tuple[()]:
            return ()

    source = Source(ref=Asking(), metadata={"containerimage.config": CONFIG})
    await work.export(OCIExporter({"compression": "zstd", "compression-level": "3"}), source)
    assert asked == [CompressionConfig(CompressionType.ZSTD, level=3)]


async def test_timestamps_of_own_layers_are_rewritten(work: Workplace) -> None:
    base = json.dumps({"rootfs": {"type": "layers", "diff_ids": [digest_bytes(BASE)]}}).encode()
    layers, diff_ids = await exported(
        work,
        {"rewrite-timestamp": "true", "source-date-epoch": "1000"},
        {"containerimage.base.config": base},
    )
    assert diff_ids == [digest_bytes(BASE), digest_bytes(make_tar(b"own", 1000))]
    assert layers[0]["digest"] == digest_bytes(gzip.compress(BASE, mtime=0))
    assert "rewriting layers with source-date-epoch 1000 (1970-01-01 00:16:40 +0000 UTC)" in work.status_ids()


async def test_without_an_epoch_there_is_nothing_to_rewrite(
    work: Workplace, caplog: pytest.LogCaptureFixture
) -> None:
    """BuildKit only logs this, and does not report it to clients."""
    layers, _ = await exported(work, {"rewrite-timestamp": "true"})
    assert [layer["digest"] for layer in layers] == [
        digest_bytes(gzip.compress(t, mtime=0)) for t in (BASE, OWN)
    ]
    assert [warning for update in work.updates for warning in update.warnings] == []
    assert "rewrite-timestamp is specified, but no source-date-epoch was found" in caplog.messages


async def test_an_invalid_base_config(work: Workplace) -> None:
    with pytest.raises(
        ImageError, match=r"^failed to unmarshal base image config: unexpected end of JSON input"
    ):
        await exported(
            work,
            {"rewrite-timestamp": "true", "source-date-epoch": "1000"},
            {"containerimage.base.config": b"["},
        )


@pytest.mark.parametrize(
    ("cache", "key", "expected"),
    [
        ({}, "linux/amd64", None),
        ({"": b"x"}, "linux/amd64", b"x"),
        ({"": b""}, "", b""),
        ({"linux/amd64": b"a", "linux/arm64": b"b"}, "linux/arm64", b"b"),
        ({"linux/amd64": b"a", "linux/arm64": b"b"}, "linux/s390x", None),
        ({"linux/amd64": b"a"}, "other", b"a"),
    ],
)
def test_inline_cache(cache: dict[str, bytes], key: str, expected: bytes | None) -> None:
    assert find_inline_cache(BuildInfo(inline_cache=cache), key) == expected
