"""Reading images and changing them."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from exporter.content.memory import MemoryStore
from exporter.errors import (
    DataLossError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
)
from exporter.image import CompressionConfig, CompressionType, Descriptor, Platform, Time, digest_bytes
from exporter.image.keys import DIFF_ID
from exporter.image.media_types import OCI_CONFIG, OCI_LAYER, OCI_LAYER_GZIP, OCI_MANIFEST
from exporter.images import Image, ImageLayer, Workshop, write_layer
from exporter.images.reading import read_image
from exporter.layer.entry import FileEntry
from exporter.layer.tree import Kind
from tests.unit.images.trees import tree_of
from tests.unit.layer.tars import compress, directory, entry, hardlink, symlink, tar

CONFIG = {
    "unknown": {"b": 1.50, "a": [1, 2]},
    "os": "linux",
    "architecture": "amd64",
    "config": {"Zeta": 1, "Env": ["PATH=/bin", "A=b=c"], "Labels": {"x": "y"}, "Cmd": ["sh"]},
    "created": "2024-05-06T07:08:09Z",
}


async def image_of(
    scratch: Path,
    *layers: bytes,
    config: dict[str, Any] | None = None,
    history: Sequence[object] | None = None,
) -> Image:
    document = dict(CONFIG if config is None else config)
    document["rootfs"] = {"type": "layers", "diff_ids": [digest_bytes(layer) for layer in layers]}
    if history is None:
        history = [{"created_by": f"step {number}"} for number in range(len(layers))]
    document["history"] = list(history)
    data = json.dumps(document, indent=1).encode()
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": {"mediaType": OCI_CONFIG, "digest": digest_bytes(data), "size": len(data)},
            "layers": [
                {"mediaType": OCI_LAYER, "digest": digest_bytes(layer), "size": len(layer)}
                for layer in layers
            ],
            "artifactType": "something",
        }
    ).encode()
    root = Descriptor(OCI_MANIFEST, digest_bytes(manifest), len(manifest))
    read = await read_image(MemoryStore(data, manifest, *layers), root, Workshop(scratch))
    assert isinstance(read, Image)
    return read


# --- reading ---


async def test_properties_of_an_image(tmp_path: Path) -> None:
    image = await image_of(tmp_path, tar(entry("f", b"1")))
    assert image.env == {"PATH": "/bin", "A": "b=c"}
    assert (image.labels, image.cmd, image.entrypoint) == ({"x": "y"}, ("sh",), ())
    assert (image.user, image.working_dir) == ("", "")
    assert image.created == Time.parse("2024-05-06T07:08:09Z")
    assert image.platform == Platform(os="linux", architecture="amd64")
    assert [step.created_by for step in image.history] == ["step 0"]
    assert image.digest == image.descriptor.digest == digest_bytes(image.manifest)
    assert image.config_digest == digest_bytes(image.config)


async def test_a_config_with_too_few_diff_ids_is_refused(tmp_path: Path) -> None:
    layer = tar(entry("f"))
    image = await image_of(tmp_path, layer)
    lying = image.with_fields({"rootfs": {"type": "layers", "diff_ids": []}})
    with pytest.raises(FailedPreconditionError, match="has 1 layers, but its config lists 0"):
        await read_image(lying.provider, lying.descriptor, Workshop(tmp_path))


@pytest.mark.parametrize("uncompressed", [False, True])
async def test_layers_are_streams(tmp_path: Path, uncompressed: bool) -> None:
    data = tar(entry("f", b"x" * 5_000_000))
    blob = compress(data, CompressionType.GZIP)
    descriptor = Descriptor(
        OCI_LAYER_GZIP, digest_bytes(blob), len(blob), annotations={DIFF_ID: digest_bytes(data)}
    )
    layer = ImageLayer(descriptor, MemoryStore(blob))
    async with layer.open(uncompressed=uncompressed) as stream:
        pieces = [piece async for piece in stream]
    assert b"".join(pieces) == (data if uncompressed else blob)
    assert max(map(len, pieces)) <= 1 << 20
    async with layer.open(uncompressed=uncompressed) as stream:
        assert await anext(stream)  # the rest is not read


async def test_streams_of_layers_are_verified(tmp_path: Path) -> None:
    data = tar(entry("f", b"x" * 5000))
    good = Descriptor(OCI_LAYER, digest_bytes(data), len(data), annotations={DIFF_ID: digest_bytes(data)})
    damaged = ImageLayer(good, MemoryStore.of({good.digest: data[:-1] + b"!"}))
    for uncompressed in (False, True):
        with pytest.raises(DataLossError, match="corrupt"):
            async with damaged.open(uncompressed=uncompressed) as stream:
                [piece async for piece in stream]
    other = Descriptor(OCI_LAYER, good.digest, good.size, annotations={DIFF_ID: digest_bytes(b"")})
    with pytest.raises(DataLossError, match="digest of its tar"):
        async with ImageLayer(other, MemoryStore(data)).open(uncompressed=True) as stream:
            [piece async for piece in stream]


async def test_files(tmp_path: Path) -> None:
    image = await image_of(
        tmp_path,
        tar(directory("etc"), entry("etc/a", b"old"), entry("etc/gone", b"1"), symlink("link", "/etc")),
        tar(directory("etc"), entry("etc/.wh.gone"), entry("etc/a", b"new"), entry("etc/x.d/y.conf", b"2")),
    )
    async with image.files() as files:
        assert [file.path for file in files] == [b"etc", b"etc/a", b"etc/x.d", b"etc/x.d/y.conf", b"link"]
        assert await files.read("/link/a") == b"new"
        assert b"".join([data async for data in files.open("etc/a")]) == b"new"
        assert files.stat("link").kind is Kind.DIRECTORY
        assert files.stat("link", follow=False).link == b"/etc"
        assert files.exists("etc/a")
        assert not files.exists("etc/gone")
        for pattern, found in {
            "etc/*": [b"etc/a", b"etc/x.d"],
            "/etc/?": [b"etc/a"],
            "**/*.conf": [b"etc/x.d/y.conf"],
            "etc/**": [b"etc", b"etc/a", b"etc/x.d", b"etc/x.d/y.conf"],
            "*.conf": [],
        }.items():
            assert [file.path for file in files.find(pattern)] == found, pattern
        with pytest.raises(NotFoundError):
            await files.read("etc/gone")
        with pytest.raises(InvalidArgumentError, match="not a regular file"):
            await files.read("etc")
        with pytest.raises(InvalidArgumentError, match="the limit is 2"):
            await files.read("etc/a", limit=2)


# --- config and manifest ---


async def test_changes_of_the_config_affect_nothing_else(tmp_path: Path) -> None:
    image = await image_of(tmp_path, tar(entry("f")))
    before = (image.config, image.manifest)
    changed = (
        image.with_labels({"x": None, "b": "2", "a": "<1>"})
        .with_env({"A": "new", "B": "2"})
        .with_user("7:7")
        .with_config({"Cmd": None})
        .with_fields({"author": "me"})
    )
    assert (image.config, image.manifest) == before
    assert changed.labels == {"a": "<1>", "b": "2"}
    assert changed.env == {"PATH": "/bin", "A": "new", "B": "2"}
    assert (changed.user, changed.cmd) == ("7:7", ())
    # Keys in their order, numbers in their spelling, and Go's escapes.
    assert changed.config.startswith(b'{"unknown":{"b":1.5,"a":[1,2]},"os":"linux","architecture":"amd64",')
    assert b'"config":{"Zeta":1,"Env":["PATH=/bin","A=new","B=2"],"Labels":{' in changed.config
    assert b"\\u003c1\\u003e" in changed.config
    manifest = json.loads(changed.manifest)
    assert manifest["config"]["digest"] == changed.config_digest
    assert manifest["config"]["size"] == len(changed.config)
    assert manifest["artifactType"] == "something"
    assert changed.diff_ids == image.diff_ids


async def test_times(tmp_path: Path) -> None:
    history = [{"created": "2020-01-01T00:00:00Z"}, {"created": "2024-01-01T00:00:00Z", "x": 1}]
    image = await image_of(tmp_path, tar(entry("f")), tar(entry("g")), history=history)
    moment = Time.parse("2022-01-01T00:00:00Z")
    changed = image.with_created(moment)
    assert changed.created == moment
    assert json.loads(changed.config)["history"] == [history[0], {"created": "2022-01-01T00:00:00Z", "x": 1}]
    assert "history" not in json.loads(image.without_history().config)


async def test_platform_and_annotations(tmp_path: Path) -> None:
    image = await image_of(tmp_path, tar(entry("f")))
    arm = image.with_platform(Platform.parse("linux/arm/v7")).with_annotations({"b": "1", "a": "2"})
    assert (arm.platform.architecture, arm.platform.variant) == ("arm", "v7")
    assert json.loads(arm.config)["variant"] == "v7"
    assert arm.annotations == {"a": "2", "b": "1"}
    assert arm.with_annotations({"a": None, "b": None}).annotations == {}
    assert arm.descriptor.platform == arm.platform
    docker = arm.with_media_types(oci=False)
    assert "docker" in docker.media_type
    assert all("docker" in layer["mediaType"] for layer in json.loads(docker.manifest)["layers"])


# --- layers ---


@pytest.mark.parametrize("compression", list(CompressionType))
async def test_layers_are_written_with_both_digests(tmp_path: Path, compression: CompressionType) -> None:
    entries = [FileEntry.of("a", b"1" * 3_000_000, mtime=1_500_000_000), FileEntry.of("b", b"2")]
    layer = await write_layer(entries, tmp_path, CompressionConfig(compression))
    async with layer.open() as stream:
        blob = b"".join([piece async for piece in stream])
    assert (digest_bytes(blob), len(blob)) == (layer.digest, layer.size)
    async with layer.open(uncompressed=True) as stream:
        data = b"".join([piece async for piece in stream])
    assert digest_bytes(data) == layer.diff_id
    if compression is CompressionType.UNCOMPRESSED:
        assert blob == data
    again = await write_layer(entries, tmp_path, CompressionConfig(compression))
    assert again.descriptor == layer.descriptor


async def test_a_layer_of_files_a_directory_or_a_tar(tmp_path: Path) -> None:
    image = await image_of(tmp_path, tar(entry("f", b"1")))
    content = tmp_path / "content"
    (content / "d").mkdir(parents=True)
    (content / "d" / "a").write_bytes(b"2")
    (content / "d" / "b").hardlink_to(content / "d" / "a")
    (content / "d" / "c").symlink_to("a")

    async def pieces() -> Any:
        yield tar(entry("d/a", b"3"))

    for layer, paths in (
        (content, {b"f", b"d", b"d/a", b"d/b", b"d/c"}),
        ([FileEntry.of("g", b"4")], {b"f", b"g"}),
        (pieces(), {b"f", b"d", b"d/a"}),
    ):
        added = await image.append_layer(layer, created_by="me")
        files = await tree_of(added)
        assert files.keys() == paths
        assert {(file.uid, file.gid) for file in files.values()} == {(0, 0)}
        assert [step.created_by for step in added.history] == ["step 0", "me"]
        assert added.history[-1].created == image.created
        assert json.loads(added.config)["rootfs"]["diff_ids"] == list(added.diff_ids)
        assert not added.same_files


async def test_squash_writes_whiteouts_only_for_removed_names(tmp_path: Path) -> None:
    lower = tar(
        *(directory("a"), entry("a/gone", b"1"), entry("a/stays", b"2"), directory("dir"), entry("dir/x")),
        *(directory("opaque"), entry("opaque/old"), entry("file", b"3"), entry("same", b"4")),
        *(directory("lost"), directory("lost/deep"), entry("lost/deep/x")),
    )
    middle = tar(
        *(entry("a/.wh.gone"), entry(".wh.dir"), entry("dir", b"now a file"), entry(".wh.lost")),
        *(directory("opaque"), entry("opaque/.wh..wh..opq"), entry("opaque/new"), entry("temporary")),
    )
    upper = tar(entry(".wh.temporary"), directory("file"), entry("file/x", b"5"))
    image = await image_of(tmp_path, lower, middle, upper)
    squashed = await image.squash(above=1)
    assert await tree_of(squashed) == await tree_of(image)
    own = await image_of(tmp_path, await tar_of(squashed.layers[1]))
    raw = [name for name, _ in listed(await tar_of(squashed.layers[1]))]
    assert raw == [
        *(".wh.lost", "a", "a/.wh.gone", "dir", "file", "file/x"),
        *("opaque", "opaque/.wh.old", "opaque/new"),
    ]
    assert (await tree_of(own)).keys() == {b"a", b"dir", b"file", b"file/x", b"opaque", b"opaque/new"}
    again = await image.squash(above=1)
    assert again.digest == squashed.digest


async def test_squash_keeps_hard_links_within_the_layer(tmp_path: Path) -> None:
    """A new name of a lower file: some engines unpack a layer alone, so it needs the content."""
    image = await image_of(
        tmp_path,
        tar(entry("a", b"1"), entry("other", b"2"), hardlink("twin", "other")),
        tar(hardlink("b", "a")),
        tar(entry(".wh.twin")),
    )
    squashed = await image.squash(above=1)
    assert await tree_of(squashed) == await tree_of(image)
    assert listed(await tar_of(squashed.layers[1])) == [(".wh.twin", ""), ("a", ""), ("b", "a")]


async def test_squash_by_digest_and_its_history(tmp_path: Path) -> None:
    history = [
        {"created_by": "base"},
        {"created_by": "ENV", "empty_layer": True},
        {"created_by": "one", "created": "2024-01-01T00:00:00Z"},
        {"created_by": "USER", "empty_layer": True, "x": "y"},
        {"created_by": "two", "created": "2024-01-02T00:00:00Z"},
        {"created_by": "CMD", "empty_layer": True},
    ]
    layers = [tar(entry(name, name.encode())) for name in "abc"]
    image = await image_of(tmp_path, *layers, history=history)
    for above in (1, image.layers[0].digest, image.layers[0].diff_id):
        squashed = await image.squash(above=above, created_by="both")
        assert json.loads(squashed.config)["history"] == [
            *(history[0], history[1], history[3]),
            {"created": "2024-01-02T00:00:00Z", "created_by": "both", "comment": "buildkit-exporter"},
            history[5],
        ]
    assert await image.squash(above=2) is image
    with pytest.raises(NotFoundError):
        await image.squash(above=digest_bytes(b""))
    with pytest.raises(InvalidArgumentError, match="has 3 layers: there is none above layer 4"):
        await image.squash(above=4)
    wrong = image.with_fields({"history": history[:2]})
    with pytest.raises(FailedPreconditionError, match="entries for 1 layers, but the image has 3"):
        await wrong.squash()
    assert "history" not in json.loads((await wrong.without_history().squash()).config)


async def test_inline_cache_data_is_removed_with_its_layers(tmp_path: Path) -> None:
    config = {**CONFIG, "moby.buildkit.cache.v0": "e30="}
    image = await image_of(tmp_path, tar(entry("a")), tar(entry("b")), config=config)
    assert b"moby.buildkit.cache.v0" in image.with_user("1").config
    assert b"moby.buildkit.cache.v0" not in (await image.squash()).config


async def test_rebase(tmp_path: Path) -> None:
    old, new, own = (tar(entry(name, name.encode())) for name in ("old", "new", "own"))
    image = await image_of(
        tmp_path,
        old,
        own,
        history=[{"created_by": "old"}, {"created_by": "CMD", "empty_layer": True}, {"created_by": "own"}],
    )
    old_base = await image_of(tmp_path, old, history=[{"created_by": "old"}])
    new_base = await image_of(tmp_path, new, new, history=[{"created_by": "new"}, {"created_by": "newer"}])
    rebased = image.rebase(old_base, new_base)
    assert (await tree_of(rebased)).keys() == {b"new", b"own"}
    assert [step.created_by for step in rebased.history] == ["new", "newer", "CMD", "own"]
    assert rebased.cmd == image.cmd
    with pytest.raises(FailedPreconditionError, match="does not begin with"):
        image.rebase(new_base, old_base)


async def tar_of(layer: ImageLayer) -> bytes:
    async with layer.open(uncompressed=True) as stream:
        return b"".join([piece async for piece in stream])


def listed(data: bytes) -> list[tuple[str, str]]:

    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return [(member.name, member.linkname) for member in archive]
