from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from exporter.content.staging import Staging, replace_file
from exporter.errors import FailedPreconditionError
from tests.unit.content.images import names_in

_WRITER = """
import sys
from pathlib import Path
from exporter.content.staging import Staging
file = Staging(Path(sys.argv[1])).create()
file.write(b"half of it")
print("written", flush=True)
sys.stdin.read()
"""


def test_a_file_appears_at_its_place_when_it_is_published(tmp_path: Path) -> None:
    staging = Staging(tmp_path / "staging")
    file = staging.create()
    file.write(b"con")
    file.write(b"tents")
    assert not (tmp_path / "file").exists()
    file.publish(tmp_path / "file")
    file.discard()
    assert (tmp_path / "file").read_bytes() == b"contents"
    assert names_in(tmp_path) == ["file"]


def test_a_discarded_file_leaves_nothing(tmp_path: Path) -> None:
    file = Staging(tmp_path / "staging").create()
    file.write(b"contents")
    file.discard()
    file.discard()
    assert names_in(tmp_path) == []


def test_permissions_respect_the_umask(tmp_path: Path) -> None:
    file = Staging(tmp_path / "staging").create(mode=0o444)
    file.write(b"contents")
    file.publish(tmp_path / "file")
    umask = os.umask(0)
    os.umask(umask)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o444 & ~umask


def test_a_failed_replacement_leaves_the_old_contents(tmp_path: Path) -> None:
    (tmp_path / "place").mkdir()
    with pytest.raises(IsADirectoryError):
        replace_file(Staging(tmp_path / "staging"), tmp_path / "place", b"contents")
    assert names_in(tmp_path) == ["place"]


def test_a_dangling_link_is_not_a_directory(tmp_path: Path) -> None:
    (tmp_path / "staging").symlink_to(tmp_path / "nowhere")
    with pytest.raises(FailedPreconditionError, match="cannot create files in"):
        Staging(tmp_path / "staging").create()


def test_files_of_a_killed_writer_are_removed_and_those_of_others_stay(tmp_path: Path) -> None:
    staging = Staging(tmp_path / "staging")
    own = staging.create()
    command = [sys.executable, "-c", _WRITER, str(tmp_path / "staging")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        (tmp_path / "staging" / "foreign").write_bytes(b"")
        staging.remove_stale()
        assert len(names_in(tmp_path / "staging")) == 3
        writer.send_signal(signal.SIGKILL)
        writer.wait()
    staging.remove_stale()
    assert len(names_in(tmp_path / "staging")) == 2
    own.discard()
    assert names_in(tmp_path / "staging") == ["foreign"]


def test_many_writers_and_cleaners_do_not_disturb_one_another(tmp_path: Path) -> None:
    staging = Staging(tmp_path / "staging")

    def work(number: int) -> None:
        for turn in range(25):
            replace_file(staging, tmp_path / f"{number}-{turn}", b"%d" % number)
            staging.remove_stale()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert len(names_in(tmp_path)) == 8 * 25


def test_discarding_what_somebody_has_removed(tmp_path: Path) -> None:
    file = Staging(tmp_path / "staging").create()
    for path in (tmp_path / "staging").iterdir():
        path.unlink()
    file.discard()
