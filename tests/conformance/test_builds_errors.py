"""Wrong and conflicting options get BuildKit's own refusals."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from exporter.errors import ExporterError
from exporter.exporters.output import LocalOutput
from exporter.exporters.registry import Registry
from exporter.image import ImageError, check_compatibility_version
from exporter.source.saved.load import SavedSource
from exporter.source.types import BuildInfo, Source
from tests.builds import error_cases, scenario
from tests.recordings import error_source
from tests.unit.exporters.harness import Workplace

SOLVER_PREFIX = "failed to solve: "

# What is not for an exporter to refuse, or not in these words.
OTHERS = {
    "refs without a platforms mapping": "the daemon refuses it before it asks an exporter",
    "push to a registry that is not there": "the text is that of the network",
    "local exporter, same path in two platforms without split": "there the order of platforms is random",
}


def _case_id(case: dict[str, Any]) -> str:
    return str(case["what"]).replace(" ", "-")


CASES = [case for case in error_cases() if case["what"] not in OTHERS]


async def _source(case: dict[str, Any]) -> Source:
    """A recorded result of the same kind as the case's."""
    source = (await SavedSource.open(scenario(error_source(case)))).source
    dropped = case["metadata_dropped"] or ()
    metadata = {key: value for key, value in source.metadata.items() if key not in dropped}
    added = {key: value.encode() for key, value in (case["metadata_added"] or {}).items()}
    return replace(source, metadata=metadata | added)


async def _export(case: dict[str, Any], directory: Path) -> None:
    version = case["compatibility_version"] or 0
    check_compatibility_version(version)
    exporter = Registry().get(case["exporter"]["type"])(case["exporter"]["attrs"])
    source = await _source(case)
    output = None if case["exporter"]["type"] == "image" else LocalOutput(str(directory / "output.tar"))
    build = BuildInfo(compatibility_version=version)
    await Workplace(directory).export(exporter, source, build=build, output=output)


def _files(directory: Path) -> list[str]:
    """The result of an export: its output, or blobs."""
    return [path.name for path in directory.rglob("*") if path.is_file() and path.parent.name != "store"]


@pytest.mark.parametrize("case", CASES, ids=_case_id)
async def test_same_error_as_the_daemon(case: dict[str, Any], tmp_path: Path) -> None:
    if case["error"] is None:
        await _export(case, tmp_path)
        return
    with pytest.raises((ExporterError, ImageError)) as raised:
        await _export(case, tmp_path)
    # We may add what to do about it.
    assert str(raised.value).startswith(case["error"].removeprefix(SOLVER_PREFIX))
    assert not _files(tmp_path)
