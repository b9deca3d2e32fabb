"""One recorded build, exported again and compared with what the daemon made of it."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from exporter.cli.metadata_file import marshal_metadata
from exporter.image import digest_bytes
from exporter.layer.entry_tar import tar_pieces
from tests.builds import read_json, scenario
from tests.parity.images import Image, blobs_of, read_image
from tests.parity.replay import Replay, replay, run
from tests.recordings import (
    DAEMON_STATUSES,
    blob,
    exporter_of,
    exporter_progress,
    inline_cache,
    stored_names,
)
from tests.trees import listing, recorded_entries, recorded_listing, unlike_the_recorded

EQUAL, DIFFERENT, NONE = "=", "≠", "–"
SAME_CONTENT = "diff IDs"
PASSES, FAILS = "passes", "FAILS"

RECORDED_REGISTRY = "127.0.0.1:5055"
_CREATED = "org.opencontainers.image.created"


@dataclass
class Row:
    """How one build compares; a mark for each column, and keys of notes."""

    name: str
    output: str
    index: str = NONE
    manifest: str = NONE
    config: str = NONE
    attestation: str = NONE
    content: str = NONE
    response: str = NONE
    progress: str = NONE
    verify: str = NONE
    notes: list[str] = field(default_factory=list)

    @property
    def marks(self) -> list[str]:
        """Those of the columns."""
        return [
            *(self.index, self.manifest, self.config, self.attestation, self.content),
            *(self.response, self.progress, self.verify),
        ]


def compare(name: str, registry: str, directory: Path) -> Row:
    """Export a recorded build again, and compare.

    Args:
        name: Of the build.
        registry: Where images can be pushed to.
        directory: An empty one.
    """
    row = _Comparison(name, registry).row(scenario(name), directory)
    if cache := inline_cache(name):
        # Given the data, all must be equal.
        with_cache = directory / "with-cache"
        shutil.copytree(scenario(name), with_cache / "source")
        document = {"inline_cache": {key: base64.b64encode(data).decode() for key, data in cache.items()}}
        (with_cache / "source" / "build.json").write_text(json.dumps(document))
        again = _Comparison(name, registry).row(with_cache / "source", with_cache)
        assert not {DIFFERENT, FAILS} & set(again.marks), f"{name}: {again.marks}"
        row.notes.append("cache")
    return row


class _Comparison:
    def __init__(self, name: str, registry: str) -> None:
        self._name = name
        self._registry = registry
        self._type, self._attrs = exporter_of(name)
        self._result = read_json(name, "result.json")
        self._row = Row(name, describe(self._type, self._attrs))

    def row(self, source: Path, directory: Path) -> Row:
        notes = self._row.notes
        attrs = {key: self._here(value) for key, value in self._attrs.items()}
        if self._type == "image" and self._result["missing_blobs"]:
            notes.append("missing")
            attrs["store"] = "false"
        notes += [note for note, holds in self._circumstances().items() if holds]
        done = replay(source, self._type, attrs, directory)
        assert done.status == 0, f"{self._name}: {done.error}"
        self._compare(done)
        return self._row

    def _circumstances(self) -> dict[str, bool]:
        return {
            "moby": self._type == "moby",
            "push": self._attrs.get("push") == "true",
            "files": self._type in {"local", "tar"},
        }

    def _here(self, text: str) -> str:
        return text.replace(RECORDED_REGISTRY, self._registry)

    # Comparing

    def _compare(self, done: Replay) -> None:
        row = self._row
        renamed: dict[str, str] = {}
        if self._type == "local":
            row.content = mark(self._tree(done.output), self._recorded_tree())
            row.content = row.content if not unlike_the_recorded(self._name, done.output) else DIFFERENT
        elif self._type == "tar":
            expected = b"".join(tar_pieces(recorded_entries(self._name, xattrs=False)))
            row.content = mark(done.output.read_bytes(), expected)
        elif self._type == "moby":
            renamed = self._compare_config(done)
        else:
            renamed = self._compare_image(done)
        row.response = self._compare_responses(done, renamed)
        if (scenario(self._name) / "status.json").exists():
            row.progress = mark(self._progress(done, renamed), self._recorded_progress())

    def _compare_config(self, done: Replay) -> dict[str, str]:
        ours, theirs = done.response["containerimage.digest"], self._recorded_root()
        self._row.config = mark(ours, theirs)
        self._row.verify = self._verify(done.root)
        diff_ids = read_json(self._name, "config.json")["rootfs"]["diff_ids"] or []
        blobs = {f"sha256:{path.name}" for path in (done.root / "oci" / "blobs" / "sha256").iterdir()}
        self._row.content = mark([diff_id for diff_id in diff_ids if diff_id in blobs], diff_ids)
        return {ours: theirs}

    def _compare_image(self, done: Replay) -> dict[str, str]:
        row = self._row
        theirs = read_image(self._recorded_root(), lambda digest: blob(self._name, digest))
        ours = self._image(done, theirs)
        for part in ("index", "manifest", "config", "attestation"):
            setattr(row, part, mark(getattr(ours, part), getattr(theirs, part)))
        row.content = mark(ours.layers, theirs.layers)
        if row.content == DIFFERENT and ours.diff_ids == theirs.diff_ids:
            row.content = SAME_CONTENT
            row.notes.append("compressor")
        return ours.names_of(theirs)

    def _image(self, done: Replay, theirs: Image) -> Image:
        """Our image, after it has been verified."""
        root = done.response["containerimage.digest"]
        if self._type != "image":
            self._row.verify = self._verify(done.output)
            return read_image(root, blobs_of(done.output))
        if self._attrs.get("push") == "true":
            names = self._here(self._attrs["name"]).split(",")
            suffix = f"@{root}" if self._attrs.get("push-by-digest") == "true" else ""
            self._row.verify = self._verify(done.root, *(f"{name}{suffix}" for name in names))
        elif "missing" in self._row.notes or self._attrs.get("store") == "false":
            # Nothing was written, but a digest covers everything that it references.
            assert root == self._recorded_root()
            return theirs
        else:
            self._row.verify = self._verify(done.root)
        return read_image(root, blobs_of(done.root / "oci"))

    def _verify(self, *places: str | Path) -> str:
        return PASSES if all(run("verify", str(place)).status == 0 for place in places) else FAILS

    def _compare_responses(self, done: Replay, renamed: dict[str, str]) -> str:
        ours = self._there(done.response, renamed)
        theirs = self._recorded_response()
        if self._type == "moby":
            # That daemon gave one key; today's gives more.
            ours = {key: value for key, value in ours.items() if key in theirs}
        if self._is_clock(theirs.get("containerimage.descriptor")):
            ours, theirs = (_without_creation(response) for response in (ours, theirs))
        return mark(ours, theirs) if theirs or ours else NONE

    def _progress(self, done: Replay, renamed: dict[str, str]) -> dict[str, list[str]]:
        found: dict[str, list[str]] = self._there(done.progress, renamed)
        if self._type == "image" and stored_names(self._name) is None:
            named = _without(found, lambda status: status.startswith("naming to "))
            if named != found:
                self._row.notes.append("unnamed")
            found = named
        return self._in_order(found)

    def _recorded_progress(self) -> dict[str, list[str]]:
        found = exporter_progress(self._name)
        own = _without(found, DAEMON_STATUSES.__contains__)
        own.pop("exporting cache", None)
        if own != found:
            self._row.notes.append("cache-progress")
        return self._in_order(own)

    def _in_order(self, progress: dict[str, list[str]]) -> dict[str, list[str]]:
        # Platforms are copied at the same time.
        return {key: sorted(value) for key, value in progress.items()} if self._type == "local" else progress

    def _there(self, value: Any, renamed: dict[str, str]) -> Any:
        """Our message, with the names in the recording."""
        text = json.dumps(value).replace(self._registry, RECORDED_REGISTRY)
        for own, recorded in renamed.items():
            text = text.replace(own, recorded)
        return json.loads(text)

    # The recording

    def _recorded_root(self) -> str:
        if self._type == "moby":
            return digest_bytes((scenario(self._name) / "config.json").read_bytes())
        return str(self._result["exporter_response"]["containerimage.digest"])

    def _recorded_response(self) -> dict[str, Any]:
        response = self._result.get("exporter_response")
        if response is None and self._type == "moby":
            return {"containerimage.digest": self._result["image_id"]}
        decoded: dict[str, Any] = json.loads(marshal_metadata(response or {}))
        return decoded

    def _is_clock(self, descriptor: Any) -> bool:
        """Whether the creation time in a descriptor is when the daemon made it."""
        created = (descriptor or {}).get("annotations", {}).get(_CREATED)
        return created is not None and self._is_during(created)

    def _is_during(self, time: str) -> bool:
        return bool(self._result["started"][:19] <= time[:19] <= self._result["finished"][:19])

    def _recorded_tree(self) -> dict[str, Any]:
        return _without_times(recorded_listing(self._name), self._statements())

    def _tree(self, root: Path) -> dict[str, Any]:
        return _without_times(listing(root), self._statements())

    def _statements(self) -> set[str]:
        """Files that bear the time of the export."""
        entries = read_json(self._name, "tree_listing.json")
        return {entry["path"] for entry in entries if entry["path"].endswith("provenance.json")}


def mark(ours: object, theirs: object) -> str:
    """The mark for two things, where both may be missing."""
    if not ours and not theirs:
        return NONE
    return EQUAL if ours == theirs else DIFFERENT


def describe(exporter_type: str, attrs: dict[str, str], *, most: int = 3) -> str:
    """The type and some of the attributes, short."""
    words = [_shortened(f"{key}={value}") for key, value in attrs.items()]
    more = [f"… {len(words) - most} more"] if len(words) > most else []
    return " ".join([exporter_type, *words[:most], *more])


def _shortened(text: str, longest: int = 48) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _without(progress: dict[str, list[str]], unwanted: Callable[[str], bool]) -> dict[str, list[str]]:
    return {
        vertex: [status for status in statuses if not unwanted(status)]
        for vertex, statuses in progress.items()
    }


def _without_times(tree: dict[str, Any], paths: Iterable[str]) -> dict[str, Any]:
    return {
        path: {key: value for key, value in entry.items() if key != "mtime" or path not in paths}
        for path, entry in tree.items()
    }


def _without_creation(response: dict[str, Any]) -> dict[str, Any]:
    descriptor = dict(response["containerimage.descriptor"])
    annotations = {key: value for key, value in descriptor["annotations"].items() if key != _CREATED}
    return {**response, "containerimage.descriptor": {**descriptor, "annotations": annotations}}
