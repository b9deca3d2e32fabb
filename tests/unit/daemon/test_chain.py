from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.daemon.chain import RebuiltChain, UsageRecord, rebuild_chain, usage_records
from exporter.errors import FailedPreconditionError, NotFoundError
from exporter.image import Time
from exporter.pb.moby.buildkit.v1 import control_pb2
from tests.builds import read_json, scenario_names
from tests.recordings import cache_records

TIMES = [Time.from_unix(1_700_000_000 + second) for second in range(10)]


def records(**parents: str) -> dict[str, UsageRecord]:
    """Records by ID; of each its parents, and behind a colon its description."""
    found = {}
    for position, (record_id, text) in enumerate(parents.items()):
        names, _, description = text.partition(":")
        found[record_id] = UsageRecord(record_id, tuple(names.split()), description, TIMES[position])
    return found


def ids(chain: RebuiltChain) -> str:
    return " ".join(layer.id for layer in chain.layers)


@pytest.mark.parametrize("name", scenario_names())
def test_recorded_builds(name: str) -> None:
    found = cache_records(name)
    for ref in read_json(name, "chains.json")["refs"]:
        if not ref["ref"]:
            continue
        true_chain = [layer["id"] for layer in ref["chain"]]
        for layers in (len(true_chain), None):
            rebuilt = rebuild_chain(ref["ref"], found, layers=layers)
            assert [layer.id for layer in rebuilt.layers] == true_chain
        assert rebuild_chain(ref["ref"], found, layers=len(true_chain)).is_certain


@pytest.mark.parametrize(
    ("parents", "layers", "expected"),
    [
        ({"a": "", "b": "a", "c": "b"}, 3, "a b c"),
        ({"a": "", "b": "", "m": "a b:merge (a, b)"}, 2, "a b"),
        ({"a": "", "b": "", "m": "a b:[2/2] LINK COPY x /x", "c": "m"}, 3, "a b c"),
        ({"a": "", "b": "a", "c": "", "m": "b c a:", "d": "m"}, 5, "a b c a d"),
        ({"a": "", "b": "a", "d": "a b:diff (a) -> (b)"}, 1, "b"),
        ({"a": "", "b": "", "d": "a b:diff (a) -> (b)"}, 1, "d"),
        ({"a": "", "b": "", "d": "a b:named by its user"}, 1, "d"),
        ({"a": "", "b": "a", "d": "a b:named by its user", "m": "d b:"}, 3, "b a b"),
        ({"a": "", "b": "a", "d": "b:diff (a) -> scratch"}, 1, "d"),
        ({"a": "", "b": "a", "d": "b:named by its user"}, 1, "d"),
    ],
)
def test_the_number_of_layers_decides(parents: dict[str, str], layers: int, expected: str) -> None:
    rebuilt = rebuild_chain(list(parents)[-1], records(**parents), layers=layers)
    assert ids(rebuilt) == expected
    assert rebuilt.is_certain


def test_times_decide_between_equal_chains() -> None:
    """Two records, of which one is a merge and the other a difference, but which?"""
    found = records(a="", b="", c="", m="a b:x", n="b c:y", z="m n c:")
    doubtful = rebuild_chain("z", found, layers=4)
    assert not doubtful.is_certain
    created = {"a": TIMES[0], "b": TIMES[1], "c": TIMES[2], "m": TIMES[3], "n": TIMES[4]}
    for expected in ("a b n c", "m b c c"):
        rebuilt = rebuild_chain("z", found, layers=4, created=[created[i] for i in expected.split()])
        assert ids(rebuilt) == expected
        assert rebuilt.is_certain
    partly = rebuild_chain("z", found, layers=4, created=[None, created["b"], created["n"]])
    assert ids(partly) == "a b n c"


def test_impossible_chains() -> None:
    with pytest.raises(FailedPreconditionError, match="make 1 or 2 layers of ref b, but the image has 3"):
        rebuild_chain("b", records(a="", b="a"), layers=3)
    with pytest.raises(NotFoundError, match="no record a "):
        rebuild_chain("b", records(b="a"), layers=2)


@given(st.data())
def test_long_ambiguous_chains_are_resolved_quickly(data: st.DataObject) -> None:
    """Each record can be read in several ways; what is kept of them is bounded."""
    found = {"0": UsageRecord("0")}
    for index in range(1, 40):
        known = st.sampled_from(sorted(found))
        parents = data.draw(st.one_of(st.just((str(index - 1),)), st.tuples(known, known)))
        found[str(index)] = UsageRecord(str(index), parents)
    chain = rebuild_chain("39", found)
    assert all(layer.id in found for layer in chain.layers)
    assert rebuild_chain("39", found, layers=len(chain.layers)).layers


def test_records_of_daemons_old_and_new() -> None:
    response = control_pb2.DiskUsageResponse()
    new = response.record.add(ID="new", Parents=["a", "b"], Description="d")
    new.CreatedAt.FromNanoseconds(1_700_000_000_123_456_789)
    response.record.add(ID="old", Parent="a")
    response.record.add(ID="base")
    assert usage_records(response) == {
        "new": UsageRecord("new", ("a", "b"), "d", Time.from_unix(1_700_000_000, 123_456_789)),
        "old": UsageRecord("old", ("a",)),
        "base": UsageRecord("base"),
    }
