from __future__ import annotations

import asyncio
import os
import re
import sys
import tempfile
from pathlib import Path

import pytest

from exporter.engine.scratch import ScratchSpace
from exporter.errors import FailedPreconditionError


async def test_a_directory_is_removed_with_its_contents(tmp_path: Path) -> None:
    async with ScratchSpace.open(tmp_path) as space:
        with pytest.raises(RuntimeError):
            async with space.directory() as directory:
                (directory / "deep" / "er").mkdir(parents=True)
                (directory / "deep" / "er" / "file").write_bytes(b"x")
                (directory / "link").symlink_to("/nowhere")
                os.mkfifo(directory / "pipe")
                for path in (directory / "deep" / "er", directory / "deep", directory):
                    path.chmod(0o500)
                raise RuntimeError
        assert not directory.exists()
        (server,) = _servers(tmp_path)
        assert not list(server.iterdir())
    assert not _servers(tmp_path)


async def test_without_a_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    async with ScratchSpace.open(None) as space, space.directory() as directory:
        assert directory.is_relative_to(tmp_path)
    assert [*tmp_path.iterdir()] == []  # noqa: ASYNC240
    monkeypatch.setattr(tempfile, "tempdir", "/missing")
    with pytest.raises(FailedPreconditionError) as raised:
        async with ScratchSpace.open(None):
            raise AssertionError
    assert re.fullmatch(
        r"there is no directory for scratch files: /missing/buildkit-exporter-\w+: "
        "No such file or directory; "
        "set TMPDIR to a writable directory, or choose one with --root",
        raised.value.message,
    )


async def test_exports_do_not_share_directories_and_others_cannot_look(tmp_path: Path) -> None:
    async with ScratchSpace.open(tmp_path) as space, space.directory() as one, space.directory() as two:
        assert one != two
        assert one.stat().st_mode & 0o777 == 0o700
        assert (tmp_path / "scratch").stat().st_mode & 0o777 == 0o700


async def test_directories_of_a_killed_server_are_removed_and_those_of_a_running_one_stay(
    tmp_path: Path,
) -> None:
    code = (
        "import asyncio, os, sys, pathlib\n"
        "from exporter.engine.scratch import ScratchSpace\n"
        "async def main():\n"
        "    async with ScratchSpace.open(pathlib.Path(sys.argv[1])) as space, space.directory() as d:\n"
        "        (d / 'file').write_bytes(b'x')\n"
        "        os._exit(9)\n"
        "asyncio.run(main())\n"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, str(tmp_path))
    assert await process.wait() == 9
    (dead,) = _servers(tmp_path)
    async with ScratchSpace.open(tmp_path) as first, first.directory() as directory:
        assert not dead.exists()
        async with ScratchSpace.open(tmp_path):
            assert directory.exists()
            assert len(_servers(tmp_path)) == 2
    assert not _servers(tmp_path)


def _servers(root: Path) -> list[Path]:
    return [path for path in (root / "scratch").iterdir() if path.is_dir()]
