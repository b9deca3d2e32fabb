"""The texts of a registry's errors."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.remotes.registry.failure import error_text


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b'{"errors": [{"code": "DENIED", "message": "no access", "detail": {}}]}', "DENIED: no access"),
        (b'{"errors": [{"code": "A"}, {"message": "b"}, {}, 5, {"code": null}]}', "A; b"),
        (b'{"errors": []}', ""),
        (b'{"details": "wrong password"}', "wrong password"),
        (b'{"error": "invalid_grant", "error_description": "token was revoked"}', "token was revoked"),
        (b'{"error": {"no": "text"}}', ""),
        (b"upstream  timed\r\nout\n", "upstream timed out"),
        (b"a\x1b[2Jb", "a[2Jb"),
        (b"<html><body>502</body></html>", ""),
        (b"\xff", "\N{REPLACEMENT CHARACTER}"),
        (b"", ""),
    ],
)
def test_texts(body: bytes, text: str) -> None:
    assert error_text(body) == text


@given(st.binary(max_size=2000))
def test_a_text_is_one_short_line(body: bytes) -> None:
    text = error_text(body)
    assert len(text) <= 500
    assert text.isprintable()
