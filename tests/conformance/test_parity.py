"""docs/parity.md is up to date with scripts/parity."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.parity.document import parity_document
from tests.peers import require_root

DOCUMENT = Path(__file__).parents[2] / "docs" / "parity.md"


@pytest.mark.timeout(600)
def test_the_table_is_fresh() -> None:
    require_root("making devices")
    assert parity_document() == DOCUMENT.read_text(encoding="utf-8"), "run scripts/parity"
