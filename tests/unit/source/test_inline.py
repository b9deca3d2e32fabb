from __future__ import annotations

from dataclasses import replace

import pytest

from exporter.content import MemoryStore
from exporter.errors import FailedPreconditionError, InvalidArgumentError
from exporter.image import CompressionConfig, Descriptor, Time
from exporter.image.keys import DIFF_ID
from exporter.source import InlineRef, Layer, Remote, check_chain
from tests.unit.content.images import describe

CHAIN = (Layer("one", "RUN make", Time.parse("2024-05-06T12:34:56.123456789Z")), Layer("two"))
DESCRIPTORS = tuple(
    replace(describe(blob), annotations={DIFF_ID: describe(blob).digest}) for blob in (b"1", b"2")
)


async def test_a_ref_returns_its_chain_and_layers() -> None:
    provider = MemoryStore()
    ref = InlineRef("two", list(CHAIN), list(DESCRIPTORS), provider)
    assert ref.id == "two"
    assert await ref.layer_chain() == CHAIN
    assert await ref.remote() == Remote(DESCRIPTORS, provider)
    assert await ref.remote(CompressionConfig()) == Remote(DESCRIPTORS, provider)


def test_a_valid_chain_is_accepted() -> None:
    check_chain(CHAIN, DESCRIPTORS)
    check_chain((), ())


@pytest.mark.parametrize(
    ("chain", "descriptors"), [(CHAIN[:1], DESCRIPTORS), (CHAIN, DESCRIPTORS[:1]), ((), DESCRIPTORS)]
)
def test_chain_and_layers_must_be_equally_many(
    chain: tuple[Layer, ...], descriptors: tuple[Descriptor, ...]
) -> None:
    wanted = f"{len(chain)} layers, but there are {len(descriptors)} descriptors"
    with pytest.raises(FailedPreconditionError, match=wanted) as caught:
        check_chain(chain, descriptors, field="source.ref.inline")
    assert caught.value.field == "source.ref.inline.chain"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"media_type": ""}, "media_type"),
        ({"digest": "sha256:abc"}, "digest"),
        ({"digest": ""}, "digest"),
        ({"size": -1}, "size"),
        ({"annotations": {}}, "annotations"),
        ({"annotations": {DIFF_ID: "x"}}, f"annotations[{DIFF_ID}]"),
    ],
)
def test_the_field_at_fault_is_named(changes: dict[str, object], field: str) -> None:
    wrong = replace(DESCRIPTORS[1], **changes)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError) as caught:
        check_chain(CHAIN, (DESCRIPTORS[0], wrong))
    assert caught.value.field == f"descriptors[1].{field}"


def test_a_layer_needs_an_id() -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        check_chain((CHAIN[0], Layer("")), DESCRIPTORS, field="source.refs[linux/amd64].inline")
    assert caught.value.field == "source.refs[linux/amd64].inline.chain[1].id"
