"""Small build results that come with the package, recorded on a real buildkitd: something to export at once.

Each is a saved source (see `exporter.source.saved.format`). In addition to what an exporter reads, it has
``scenario.json``, which says how it was built, and ``result.json`` with BuildKit's own answer.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from exporter.errors import FailedPreconditionError, NotFoundError

_DIRECTORY = Path(__file__).parent

DEFAULT = "run-chain"


def sample_names() -> tuple[str, ...]:
    """The names of all samples, sorted."""
    return tuple(sorted(path.parent.name for path in _DIRECTORY.glob("*/source.json")))


def sample_summary(name: str) -> str:
    """One line about what a sample was built from.

    Raises:
        NotFoundError: there is no such sample.
    """
    summary: str = json.loads((_find(name) / "scenario.json").read_bytes())["summary"]
    return summary


def sample_directory(name: str = DEFAULT) -> Path:
    """Where a sample is installed: a saved source, to be read only.

    Raises:
        NotFoundError: there is no such sample.
    """
    return _find(name)


def write_sample(directory: Path, name: str = DEFAULT) -> None:
    """Copy a sample into a directory, which is created if it does not exist. Blocks.

    Raises:
        FailedPreconditionError: something is in the directory.
        NotFoundError: there is no such sample.
        OSError: the directory cannot be written.
    """
    sample = _find(name)
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise FailedPreconditionError(f"{directory} exists and is not an empty directory: choose another one")
    # Without the modes of an installation, which may be read-only.
    shutil.copytree(sample, directory, dirs_exist_ok=True, copy_function=shutil.copyfile)


def _find(name: str) -> Path:
    if name not in sample_names():
        raise NotFoundError(f"there is no sample {name!r}; the samples are: {', '.join(sample_names())}")
    return _DIRECTORY / name
