"""Reading how many bytes of an upload a registry has."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.remotes.registry.upload import parse_range


@pytest.mark.parametrize("text", ["", "0-0", "5-9", "bytes=5-9", "0-", "0-x", "0--5", "-5", "0-5-7", "0-٣"])
def test_without_a_valid_range_the_offset_is_kept(text: str) -> None:
    assert parse_range(text, 7) == 7


@given(st.integers(1, 10**17), st.sampled_from(["", "bytes="]), st.sampled_from(["", " "]))
def test_the_last_byte_counts(last: int, unit: str, space: str) -> None:
    assert parse_range(f"{space}{unit}0-{last}{space}", 0) == last + 1


@given(st.text(max_size=30))
def test_any_text_can_be_read(text: str) -> None:
    assert parse_range(text, 0) >= 0
