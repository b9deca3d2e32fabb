"""Text of others on a terminal: names and output must not move the cursor, or turn the text around."""

from __future__ import annotations

import re

_ESCAPES = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-_])")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def clean(text: str) -> str:
    """Put blanks in place of control characters, line breaks included."""
    return _CONTROLS.sub(" ", text)


def clean_output(line: bytes) -> str:
    """Show a line of output as a terminal would end up showing it, without colours."""
    plain = _ESCAPES.sub(b"", line).decode("utf-8", "replace").rstrip("\r")
    return clean(plain.rsplit("\r", 1)[-1])
