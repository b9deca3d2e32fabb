"""Layer chains of images that Docker engines build, found among their cache records."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import pytest

from exporter.client import CacheRecord
from exporter.client.dockerd_image import find_chain
from exporter.errors import FailedPreconditionError
from exporter.image import Time
from tests.builds import read_json, scenario_names


def recorded(name: str) -> dict[str, CacheRecord]:
    return {
        record["id"]: CacheRecord(
            id=record["id"],
            parents=tuple(record["parents"]) or ((record["parent"],) if record.get("parent") else ()),
            description=record["description"],
            created_at=Time.parse(record["createdAt"]),
            is_in_use=record["inUse"],
            is_mutable=record["mutable"],
        )
        for record in read_json(name, "disk_usage.json")["records"]
    }


def with_layers(name: str) -> Any:
    return read_json(name, "chains.json")["refs"][0]["ref"]


@pytest.mark.parametrize("name", [name for name in scenario_names(daemon="moby") if with_layers(name)])
def test_recorded_builds(name: str) -> None:
    [ref] = read_json(name, "chains.json")["refs"]
    config = base64.b64decode(read_json(name, "source.json")["metadata"]["containerimage.config"])
    chain, is_certain = find_chain(recorded(name), config, len(ref["chain"]))
    assert [(layer.id, layer.description, str(layer.created_at)) for layer in chain] == [
        (layer["id"], layer["description"], str(Time.parse(layer["created_at"]))) for layer in ref["chain"]
    ]
    assert is_certain


def record(name: str, *parents: str, description: str = "fileop target", seconds: int = 0) -> CacheRecord:
    created = Time.from_unix(1_700_000_000 + seconds)
    return CacheRecord(name, parents, description, created, is_in_use=True)


def config(*steps: str) -> bytes:
    entries = ", ".join(f'{{"created_by": "{step}"}}' for step in steps)
    return f'{{"history": [{entries}], "rootfs": {{"type": "layers"}}}}'.encode()


def ids(records: Sequence[CacheRecord], document: bytes, layers: int) -> tuple[list[str], bool]:
    chain, is_certain = find_chain({each.id: each for each in records}, document, layers)
    return [layer.id for layer in chain], is_certain


def test_the_stage_whose_steps_match_the_history_is_chosen() -> None:
    run = "mount / from exec /bin/sh -c "
    records = [
        record("base"),
        record("one", "base", description=f"{run}one", seconds=1),
        record("two", "base", description=f"{run}two", seconds=2),
    ]
    steps = ("COPY a /a # buildkit", "RUN /bin/sh -c one # buildkit")
    assert ids(records, config(*steps), 2) == (["base", "one"], True)
    steps = ("COPY a /a # buildkit", "RUN |1 A=b /bin/sh -c two # buildkit")
    assert ids(records, config(*steps), 2) == (["base", "two"], True)


def test_the_youngest_record_is_an_uncertain_fallback() -> None:
    records = [record("young", seconds=5), record("old", seconds=1)]
    assert ids(records, config("COPY a /a # buildkit"), 1) == (["young"], False)


def test_records_that_are_not_results_are_ignored() -> None:
    records = [
        record("result"),
        record("context", description="local source for context", seconds=9),
        CacheRecord("unused", (), "fileop target", Time.from_unix(1_800_000_000)),
        CacheRecord("open", (), "fileop target", is_in_use=True, is_mutable=True),
    ]
    assert ids(records, config("COPY a /a # buildkit"), 1) == (["result"], True)
    with pytest.raises(FailedPreconditionError, match="none of the engine's 2 cache records"):
        ids(records, config(), 2)
