"""The recorded builds: what real daemons were given and what they made of it; see tests/data/builds."""

from __future__ import annotations

import atexit
import functools
import json
import shutil
import tarfile
import tempfile
from pathlib import Path
from typing import Any

_ARCHIVE = Path(__file__).parent / "data" / "builds" / "builds.tar.xz"


def scenario_names(*, daemon: str = "") -> tuple[str, ...]:
    """Names of the recorded builds, sorted: of `buildkit`, of `moby` (dockerd), or of both."""
    directories = {"buildkit": "builds", "moby": "builds-moby"}
    wanted = [directories[daemon]] if daemon else directories.values()
    return tuple(sorted(path.name for name in wanted for path in (_unpacked() / name).iterdir()))


def scenario(name: str) -> Path:
    """The directory of a recorded build; a saved source, among others. Not to be written to."""
    for directory in ("builds", "builds-moby"):
        path = _unpacked() / directory / name
        if path.is_dir():
            return path
    raise LookupError(f"no build of the name {name} was recorded")


def read_json(name: str, file: str) -> Any:
    """One of the JSON files of a recorded build."""
    return json.loads((scenario(name) / file).read_bytes())


def error_cases() -> list[dict[str, Any]]:
    """BuildKit's answers to wrong or conflicting options."""
    cases: list[dict[str, Any]] = json.loads((_unpacked() / "errors.json").read_bytes())["cases"]
    return cases


def baselines() -> Any:
    """How long the real daemon took."""
    return json.loads((_unpacked() / "baselines.json").read_bytes())


@functools.cache
def _unpacked() -> Path:
    root = Path(tempfile.mkdtemp(prefix="recorded-builds-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    with tarfile.open(_ARCHIVE) as archive:
        for member in archive:
            path = root / member.name
            path.parent.mkdir(parents=True, exist_ok=True)
            content = archive.extractfile(member)
            assert content is not None, "the archive has nothing but files"
            path.write_bytes(content.read())
    return root
