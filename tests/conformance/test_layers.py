"""Layers of recorded builds: converted and rewritten by us, they must hold what the daemon's hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from exporter.errors import NotFoundError
from exporter.image import CompressionConfig, CompressionType, digest_bytes
from exporter.layer.convert import LayerConverter
from exporter.layer.files import LayerFiles
from exporter.layer.tree import Inode, Kind
from exporter.source.saved.load import SavedSource
from exporter.source.types import Remote
from tests.builds import read_json, scenario, scenario_names
from tests.unit.layer.estargz.estargz_reader import Estargz
from tests.unit.layer.tars import blob_of

KINDS = {
    "0": Kind.FILE,
    "1": Kind.FILE,
    "2": Kind.SYMLINK,
    "3": Kind.CHARACTER_DEVICE,
    "4": Kind.BLOCK_DEVICE,
    "5": Kind.DIRECTORY,
    "6": Kind.FIFO,
}


async def remotes(name: str) -> list[Remote]:
    """The layers of a recorded build, as the daemon held them."""
    source = (await SavedSource.open(scenario(name))).source
    refs = [source.ref, *(source.refs or {}).values()]
    return [await ref.remote() for ref in refs if ref is not None]


def documents(name: str, member: str) -> list[dict[str, Any]]:
    """The JSON blobs of the recorded image that have a member of this name."""
    found = []
    for path in (scenario(name) / "oci" / "blobs" / "sha256").iterdir():
        data = path.read_bytes()
        if data.startswith(b"{"):
            document = json.loads(data)
            if member in document:
                found.append(document)
    return found


async def is_complete(remote: Remote) -> bool:
    try:
        for layer in remote.descriptors:
            await remote.provider.info(layer.digest)
    except NotFoundError:
        return False
    return True


@pytest.mark.parametrize("name", scenario_names(daemon="buildkit"))
async def test_every_layer_can_have_every_compression(name: str, tmp_path: Path) -> None:
    """Only eStargz has another tar, and converting that back gives the old one."""
    async with LayerConverter(tmp_path) as converter:
        for remote in await remotes(name):
            if not await is_complete(remote):
                continue  # the daemon did not fetch a lazy layer, so nobody has it
            plain = await converter.convert(
                remote, CompressionConfig(CompressionType.UNCOMPRESSED, force=True)
            )
            for layer in plain.descriptors:
                assert layer.digest == layer.annotations["containerd.io/uncompressed"]
            if name != "estargz":
                assert plain.diff_ids == remote.diff_ids
            for type_ in CompressionType:
                converted = await converter.convert(remote, CompressionConfig(type_, force=True))
                for layer in converted.descriptors:
                    await blob_of(converted, layer)
                if type_ is not CompressionType.ESTARGZ:
                    assert converted.diff_ids == plain.diff_ids
                back = await converter.convert(
                    converted, CompressionConfig(CompressionType.UNCOMPRESSED, force=True)
                )
                assert back.diff_ids == plain.diff_ids


@pytest.mark.parametrize(
    ("name", "type_"),
    [
        ("zstd", CompressionType.ZSTD),
        ("zstd-level-19", CompressionType.ZSTD),
        ("docker-types-zstd", CompressionType.ZSTD),
        ("docker-zstd-epoch", CompressionType.ZSTD),
        ("uncompressed", CompressionType.UNCOMPRESSED),
        ("uncompressed-force-base", CompressionType.UNCOMPRESSED),
        ("docker-types-uncompressed", CompressionType.UNCOMPRESSED),
        ("gzip-level-0", CompressionType.GZIP),
        ("gzip-level-1", CompressionType.GZIP),
        ("gzip-force-zstd-base", CompressionType.GZIP),
        ("estargz", CompressionType.ESTARGZ),
        ("foreign-layer", CompressionType.GZIP),
    ],
)
async def test_layers_compressed_by_the_daemon_are_not_recompressed(
    name: str, type_: CompressionType, tmp_path: Path
) -> None:
    (remote,) = await remotes(name)
    async with LayerConverter(tmp_path) as converter:
        converted = await converter.convert(remote, CompressionConfig(type_, force=True))
    assert converted.descriptors == remote.descriptors


async def test_level_0_reproduces_the_daemons_blobs(tmp_path: Path) -> None:
    (remote,) = await remotes("gzip-level-0")
    async with LayerConverter(tmp_path) as converter:
        plain = await converter.convert(remote, CompressionConfig(CompressionType.UNCOMPRESSED, force=True))
        again = await converter.convert(plain, CompressionConfig(CompressionType.GZIP, force=True, level=0))
    assert [layer.digest for layer in again.descriptors] == [layer.digest for layer in remote.descriptors]


async def test_a_daemons_estargz_is_read(tmp_path: Path) -> None:
    (remote,) = await remotes("estargz")
    for layer in remote.descriptors:
        reader = Estargz.open(await blob_of(remote, layer))
        assert digest_bytes(reader.tar_with_toc) == layer.annotations["containerd.io/uncompressed"]
        assert reader.toc_digest == layer.annotations["containerd.io/snapshot/stargz/toc.digest"]


@pytest.mark.parametrize(
    ("name", "epoch"),
    [
        ("rewrite-timestamp", 1_500_000_000),
        ("rewrite-timestamp-force", 1_500_000_000),
        ("rewrite-timestamp-scratch", 1_000_000_000),
    ],
)
async def test_rewritten_layers_have_the_daemons_diff_ids(name: str, epoch: int, tmp_path: Path) -> None:
    (remote,) = await remotes(name)
    (config,) = documents(name, "rootfs")
    (manifest,) = documents(name, "layers")
    wanted = config["rootfs"]["diff_ids"]
    base = [new for new, old in zip(wanted, remote.diff_ids, strict=True) if new == old]
    async with LayerConverter(tmp_path) as converter:
        rewritten = await converter.rewrite_timestamps(remote, CompressionConfig(), epoch, base_diff_ids=base)
    assert list(rewritten.diff_ids) == wanted
    for ours, theirs in zip(rewritten.descriptors, manifest["layers"], strict=True):
        assert ours.media_type == theirs["mediaType"]
        annotations = theirs.get("annotations", {})
        assert {key: ours.annotations.get(key) for key in annotations} == annotations
        if ours.annotations["containerd.io/uncompressed"] in base:
            assert ours.digest == theirs["digest"]


# --- files ---


async def tree_of(remote: Remote, scratch: Path) -> dict[str, tuple[Inode, str]]:
    """The contents of layers: inodes and digests by path."""
    found = {}
    with await LayerFiles.unpack(remote, scratch=scratch) as files:
        for path, inode in files.tree.walk():
            data = b""
            if inode.kind is Kind.FILE:
                data = b"".join([piece async for piece in files.read(inode)])
                assert len(data) == inode.size
            found[path.decode()] = inode, digest_bytes(data).removeprefix("sha256:")
    return found


@pytest.mark.parametrize("name", ["tar", "tar-epoch"])
async def test_the_files_of_a_ref_are_those_of_the_tar_exporter(name: str, tmp_path: Path) -> None:
    """Except for extended attributes: a daemon keeps only ``security.capability`` in layers."""
    (remote,) = await remotes(name)
    tree = await tree_of(remote, tmp_path)
    entries = read_json(name, "tar_listing.json")["entries"]
    assert list(tree) == [entry["name"] for entry in entries]
    for entry in entries:
        inode, digest = tree[entry["name"]]
        assert inode.kind is KINDS[entry["type"]]
        assert (oct(inode.mode), inode.uid, inode.gid) == (entry["mode"], entry["uid"], entry["gid"])
        assert min(inode.mod_time.seconds, entry["mtime"]) == entry["mtime"]
        assert (inode.devmajor, inode.devminor) == (entry["devmajor"], entry["devminor"])
        if entry["type"] == "0":
            assert (inode.size, digest) == (entry["size"], entry["sha256"])
        if entry["type"] == "1":
            assert inode is tree[entry["linkname"]][0]
        if entry["type"] == "2":
            assert inode.target.decode() == entry["linkname"]


@pytest.mark.parametrize("name", ["local", "local-devices"])
async def test_the_files_of_a_ref_are_those_of_the_local_exporter(name: str, tmp_path: Path) -> None:
    (remote,) = await remotes(name)
    tree = await tree_of(remote, tmp_path)
    entries = [entry for entry in read_json(name, "tree_listing.json") if entry["path"] != "."]
    assert list(tree) == [entry["path"] for entry in entries]
    for entry in entries:
        inode, digest = tree[entry["path"]]
        assert inode.mode == int(entry["mode"], 8) & 0o7777
        assert inode.mod_time.seconds == entry["mtime_ns"] // 1_000_000_000  # layers have whole seconds
        if inode.kind is Kind.FILE:
            assert (inode.size, digest, inode.names) == (entry["size"], entry["sha256"], entry["nlink"])
        if inode.kind is Kind.SYMLINK:
            assert inode.target.decode() == entry["linkname"]
