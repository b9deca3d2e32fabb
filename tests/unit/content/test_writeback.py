"""Large files are complete however their write-back was started."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from exporter.content import writeback
from exporter.content.staging import Staging


@pytest.mark.parametrize("is_supported", [True, False])
def test_large_file_is_published_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_supported: bool
) -> None:
    if not is_supported:
        monkeypatch.setattr(writeback, "_call", lambda: None)
    digest = hashlib.sha256()
    staged = Staging(tmp_path / "staging").create()
    for number in range(20):
        piece = bytes([number]) * (1 << 20)
        digest.update(piece)
        staged.write(piece)
    staged.publish(tmp_path / "file")
    assert hashlib.sha256((tmp_path / "file").read_bytes()).hexdigest() == digest.hexdigest()


def test_file_that_cannot_be_written_back_is_not_an_error() -> None:
    reader, writer = os.pipe()
    try:
        writeback.start_writing(writer, 0, 1)
    finally:
        os.close(reader)
        os.close(writer)
