"""Reading what HTTP services answer."""

from __future__ import annotations

import pytest

from exporter.remotes.http.answers import json_object


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"5", b"null", b"{", b"\xff", b'{"a": 1} x', b"[" * 100_000, b'{"a":' * 100_000]
)
def test_json_that_is_not_an_object(data: bytes) -> None:
    assert json_object(data) is None


def test_an_object() -> None:
    assert json_object(b' {"a": [1]}') == {"a": [1]}
