"""Every recorded build of an image, exported again from what the daemon had: it must be the same image."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import tarfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from exporter.content.copy import has_blob, read_blob
from exporter.content.images import ImageStore
from exporter.content.layout import OCILayout
from exporter.exporters.base import ExportResult
from exporter.exporters.blocking import run_export
from exporter.exporters.output import LocalOutput
from exporter.exporters.registry import Registry
from exporter.image import Descriptor, Reference, Time, digest_bytes
from exporter.image.keys import CONTAINERD_NAME
from exporter.source.saved.load import SavedSource
from tests.builds import read_json, scenario, scenario_names
from tests.peers import require_root
from tests.recordings import blob, exporter_of, exporter_statuses, inline_cache, stored_names
from tests.unit.exporters.harness import Workplace

CREATED = "org.opencontainers.image.created"

# What they have written is the affair of test_trees.
FILE_TYPES = {"local", "tar"}

# Layers are compressed anew, by another compressor than the daemon's: what is in them must be the same.
RECOMPRESSED = {"rewrite-timestamp", "rewrite-timestamp-force", "rewrite-timestamp-scratch"}

PUSH_STATUSES = ("[auth]", "pushing ")

# A daemon without an image store does not fetch the layers of a base image that nothing was built on.
EXTRA_ATTRS = {"lazy-image-nohistory": {"store": "false"}}


@dataclass(frozen=True)
class Replay:
    """A recorded build, exported by us."""

    name: str
    result: ExportResult
    statuses: list[str]
    output: Path
    images: ImageStore
    entries: tuple[Descriptor, ...]
    blobs: set[str]


@pytest.fixture
def replay_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    async def replay(name: str) -> Replay:
        saved = await SavedSource.open(scenario(name))
        exporter_type, attrs = _exporter(name)
        monkeypatch.setattr("exporter.exporters.oci.now", lambda: _creation_time(name))
        work = Workplace(tmp_path)
        output = tmp_path / "output"
        exporter = Registry().get(exporter_type)(attrs)
        has_output = exporter_type in {"oci", "docker", *FILE_TYPES}
        context = await work.context(
            build=replace(saved.build, inline_cache=inline_cache(name)),
            output=LocalOutput(str(output)) if has_output else None,
        )
        result = await run_export(exporter, saved.source, context)
        assert not work.unfinished()
        assert not work.leftovers()
        return Replay(name, result, work.status_ids(), output, context.images, *await _stored(tmp_path))

    return replay


async def _stored(root: Path) -> tuple[tuple[Descriptor, ...], set[str]]:
    store = await OCILayout.open(root / "store")
    return await store.index(), {blob.digest for blob in await store.blobs()}


def _exporter(name: str) -> tuple[str, dict[str, str]]:
    exporter_type, attrs = exporter_of(name)
    return exporter_type, {**attrs, **EXTRA_ATTRS.get(name, {})}


def _creation_time(name: str) -> Time:
    root = read_json(name, "result.json").get("root_descriptor") or {}
    return Time.parse(root.get("annotations", {}).get(CREATED, "2024-01-02T03:04:05Z"))


BUILDKIT = scenario_names(daemon="buildkit")
FILES = [name for name in BUILDKIT if _exporter(name)[0] in FILE_TYPES]
IMAGES = [name for name in BUILDKIT if name not in FILES]
MOBY = scenario_names(daemon="moby")


def _check_buildkit(replay: Replay) -> None:
    recorded = read_json(replay.name, "result.json")["exporter_response"]
    assert replay.result.response == recorded
    assert replay.result.descriptor is not None
    assert base64.b64decode(recorded["containerimage.descriptor"]) == replay.result.descriptor.marshal()
    if _exporter(replay.name)[0] == "image":
        _check_store(replay)
        return
    assert replay.statuses == exporter_statuses(replay.name)
    if replay.output.is_dir():
        _check_layout(replay)
    else:
        _check_archive(replay)


def _check_layout(replay: Replay) -> None:
    recorded = scenario(replay.name) / "oci"
    for path in ("index.json", "oci-layout"):
        assert (replay.output / path).read_bytes() == (recorded / path).read_bytes()
    blobs = {path.name for path in (replay.output / "blobs" / "sha256").iterdir()}
    assert blobs == {path.name for path in (recorded / "blobs" / "sha256").iterdir()}


def _check_archive(replay: Replay) -> None:
    recorded = read_json(replay.name, "tar_listing.json")
    with tarfile.open(replay.output) as archive:
        entries = [(e.name, oct(e.mode), e.size, e.type.decode(), e.mtime, e.uid, e.gid) for e in archive]
    assert entries == [
        (e["name"], e["mode"], e["size"], e["type"], e["mtime"], e["uid"], e["gid"])
        for e in recorded["entries"]
    ]
    data = replay.output.read_bytes()
    assert len(data) == recorded["bytes"]
    assert hashlib.sha256(data).hexdigest() == recorded["sha256"]


def _check_store(replay: Replay) -> None:
    recorded = exporter_statuses(replay.name)
    statuses = replay.statuses
    names = stored_names(replay.name)
    if names is None:
        # That daemon had no image store.
        statuses = [status for status in statuses if not status.startswith("naming to ")]
    else:
        assert {entry.annotations[CONTAINERD_NAME] for entry in replay.entries} == names
    # Pushing comes with finalize.
    assert statuses == [status for status in recorded if not status.startswith(PUSH_STATUSES)]
    attrs = _exporter(replay.name)[1]
    assert (replay.result.finalize is not None) == (attrs.get("push") == "true")
    if attrs.get("store") == "false":
        assert not replay.blobs
        return
    assert {entry.digest for entry in replay.entries} == {replay.result.response["containerimage.digest"]}
    assert replay.blobs == {
        f"sha256:{path.name}" for path in (scenario(replay.name) / "oci" / "blobs" / "sha256").iterdir()
    }


def _check_recompressed(replay: Replay) -> None:
    recorded = read_json(replay.name, "result.json")["exporter_response"]
    config_digest = recorded["containerimage.config.digest"]
    assert replay.result.response["containerimage.config.digest"] == config_digest
    with tarfile.open(replay.output) as archive:
        blobs = {
            member.name: archive.extractfile(member).read()  # type: ignore[union-attr]
            for member in archive
            if member.isfile()
        }
    manifest = json.loads(blobs[_path(replay.result.response["containerimage.digest"])])
    config = json.loads(blobs[_path(config_digest)])
    tars = [_decompress(blobs[_path(layer["digest"])], layer["mediaType"]) for layer in manifest["layers"]]
    assert [digest_bytes(tar) for tar in tars] == config["rootfs"]["diff_ids"]
    # All but the digests of manifest and layers is the daemon's.
    digest = recorded["containerimage.digest"]
    statuses = [
        status.replace(replay.result.response["containerimage.digest"], digest) for status in replay.statuses
    ]
    assert statuses == exporter_statuses(replay.name)
    expected = json.loads(blob(replay.name, digest))
    for layer, recorded_layer in zip(manifest["layers"], expected["layers"], strict=True):
        if layer["digest"] != recorded_layer["digest"]:
            layer |= {key: recorded_layer[key] for key in ("digest", "size")}
    assert manifest == expected


def _path(digest: str) -> str:
    return "blobs/" + digest.replace(":", "/")


def _decompress(data: bytes, media_type: str) -> bytes:
    return gzip.decompress(data) if media_type.endswith("gzip") else data


@pytest.mark.parametrize("name", [name for name in IMAGES if name not in RECOMPRESSED])
async def test_buildkit_image(name: str, replay_in: Any) -> None:
    _check_buildkit(await replay_in(name))


@pytest.mark.parametrize("name", FILES)
async def test_buildkit_files(name: str, replay_in: Any) -> None:
    if name == "local-devices":
        require_root("making devices")
    replay = await replay_in(name)
    assert replay.result == ExportResult(response=read_json(name, "result.json")["exporter_response"])
    # The daemon sends the directories of platforms at the same time.
    assert sorted(replay.statuses) == sorted(exporter_statuses(name))
    assert not replay.entries
    assert not replay.blobs


@pytest.mark.parametrize("name", sorted(RECOMPRESSED))
async def test_recompressed_image(name: str, replay_in: Any) -> None:
    _check_recompressed(await replay_in(name))


@pytest.mark.parametrize("name", MOBY)
async def test_moby_image_id(name: str, replay_in: Any) -> None:
    replay = await replay_in(name)
    config = (scenario(name) / "config.json").read_bytes()
    image_id = digest_bytes(config)
    names = read_json(name, "scenario.json")["exporter"]["attrs"].get("name", "")
    whole_names = [str(Reference.parse(part)) for part in names.split(",") if part]
    # dockerd 20.10 answers with the image ID alone; the other keys are those of current moby.
    assert replay.result.response == {
        "containerimage.digest": image_id,
        "containerimage.config.digest": image_id,
        **({"image.name": ",".join(whole_names)} if whole_names else {}),
    }
    stored = await replay.images.get(image_id)
    assert await read_blob(replay.images.content, stored.config) == config
    assert stored.tags == tuple(sorted(whole_names))
    for layer in stored.layers:
        assert await has_blob(replay.images.content, layer)
    if (scenario(name) / "status.json").exists():
        assert replay.statuses == exporter_statuses(name)
