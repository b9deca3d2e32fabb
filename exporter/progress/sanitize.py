"""Making untrusted text safe for a terminal: names and output must not move the cursor or reverse text."""

from __future__ import annotations

import re

_ESCAPES = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-_])")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def clean(text: str) -> str:
    """Replace control characters, including line breaks, with spaces."""
    return _CONTROLS.sub(" ", text)


def clean_output(line: bytes) -> str:
    """The text that a terminal would finally show for a line of output, without colours."""
    plain = _ESCAPES.sub(b"", line).decode("utf-8", "replace").rstrip("\r")
    return clean(plain.rsplit("\r", 1)[-1])
