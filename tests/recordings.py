"""What the recorded builds say, as those ask who compare with it."""

from __future__ import annotations

import base64
import json
from typing import Any

from exporter.daemon.chain import UsageRecord
from exporter.image import Time
from tests.builds import read_json, scenario

INLINE_CACHE = "moby.buildkit.cache.v0"
"""The key of an image config that embeds cache data."""

DAEMON_STATUSES = {"preparing layers for inline cache", "preparing build cache for export"}
"""Reported on the exporter's vertex, but by the daemon, while it makes the cache data that it hands over."""


def exporter_of(name: str) -> tuple[str, dict[str, str]]:
    """The type, and the attributes that the daemon used: the epoch of the request is among them."""
    recorded = read_json(name, "scenario.json")
    resolved = recorded.get("exporter_as_resolved") or [recorded["exporter"]]
    return recorded["exporter"]["type"], dict(resolved[0]["attrs"] or {})


def inline_cache(name: str) -> dict[str, bytes]:
    """The cache data that the daemon handed to its exporter.

    The recordings have it in the image's config only.
    """
    if not read_json(name, "scenario.json")["cache_exports"]:
        return {}
    if (scenario(name) / "config.json").exists():
        config = read_json(name, "config.json")
    else:
        digest = read_json(name, "result.json")["exporter_response"]["containerimage.config.digest"]
        config = json.loads(blob(name, digest))
    return {"": base64.b64decode(config[INLINE_CACHE])} if INLINE_CACHE in config else {}


def blob(name: str, digest: str) -> bytes:
    """A blob of the image that the daemon made."""
    return (scenario(name) / "oci" / "blobs" / digest.replace(":", "/")).read_bytes()


def exporter_progress(name: str) -> dict[str, list[str]]:
    """The vertices of exporters by name, and what was reported on them, in the order in which it began."""
    names: dict[str, str] = {}
    found: dict[str, dict[str, None]] = {}
    for update in read_json(name, "status.json"):
        for vertex in update.get("vertexes", ()):
            names[vertex["digest"]] = vertex["name"]
            if vertex["name"].startswith("exporting "):
                found.setdefault(vertex["name"], {})
        for status in update.get("statuses", ()):
            if names.get(status["vertex"]) in found:
                found[names[status["vertex"]]][status["id"]] = None
    return {vertex: list(statuses) for vertex, statuses in found.items()}


def exporter_statuses(name: str) -> list[str]:
    """What the exporter itself reported."""
    every = [status for statuses in exporter_progress(name).values() for status in statuses]
    return [status for status in every if status not in DAEMON_STATUSES]


def stored_names(name: str) -> set[str] | None:
    """What containerd's image store had for the image; None if that daemon had no such store."""
    if not (scenario(name) / "image_store.json").exists():
        return None
    digest = read_json(name, "result.json")["exporter_response"]["containerimage.digest"]
    images: list[dict[str, Any]] = read_json(name, "image_store.json")["images"]
    return {image["name"] for image in images if image["digest"] == digest}


def error_source(case: dict[str, Any]) -> str:
    """A recorded build whose result is of the same kind as that of one of the cases of ``errors.json``."""
    if case["llb"] is not None:
        return f"llb-{case['llb']}"
    if "," in case["frontend_attrs"].get("platform", ""):
        return "multi-platform"
    if any(key.startswith("attest:") for key in case["frontend_attrs"]):
        return "provenance-min"
    return "scratch-copy"


def cache_records(name: str) -> dict[str, UsageRecord]:
    """The daemon's cache records while it exported, by ID. Docker's daemon told of one parent only."""
    found = {}
    for record in read_json(name, "disk_usage.json")["records"]:
        parents = tuple(record.get("parents") or filter(None, [record.get("parent")]))
        created_at = Time.parse(record["createdAt"])
        found[record["id"]] = UsageRecord(record["id"], parents, record["description"], created_at)
    return found
