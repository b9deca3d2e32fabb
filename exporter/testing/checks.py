"""Assertions for any exporter: its images are valid, and its exports are reproducible."""

from __future__ import annotations

import io
import re
import tarfile

from exporter.content.memory import MemoryStore
from exporter.content.threads import run_in_thread
from exporter.exporters.base import Exporter
from exporter.source.saved.load import SavedSource
from exporter.source.types import Source
from exporter.testing.bench import Run, Workbench
from exporter.verify import Checklist, ImageVerifier, Report

_BLOB = re.compile(r"blobs/([a-z0-9]+)/([a-f0-9]+)")


async def assert_image_valid(run: Run) -> None:
    """Check that all images of an export are complete, intact and consistent, as ``verify`` does.

    It checks the layouts and OCI archives for the client. If they contain no image, it checks the image
    in the store.

    Raises:
        AssertionError: there is no image, or an image has problems, which the message lists.
    """
    checklist = Checklist()
    count = 0
    for number, layout in enumerate(run.output.layouts):
        verifier = ImageVerifier(layout.store, checklist)
        for image in layout.images:
            await verifier.image(image.root, ", ".join(image.names) or f"layout {number}")
            count += 1
    for file in run.output.files:
        count += await _check_archive(file, checklist)
    if count == 0 and run.descriptor is not None and run.store is not None:
        await ImageVerifier(run.store, checklist).image(run.descriptor, "the image in the store")
        count = 1
    # Not assert statements, because pytest would add values to their messages.
    if count == 0:
        raise AssertionError("the export has not made an image")
    report = await checklist.finish()
    if not report.is_ok:
        raise AssertionError(_problems(report))


async def assert_reproducible(exporter: Exporter, source: Source | SavedSource) -> None:
    """Export twice, each time into an empty workbench, and check that the results are identical.

    Timestamps are the most common difference. If the exporter supports an epoch, set it.

    Raises:
        AssertionError: the results differ; the message lists the differences.
    """
    results: list[dict[str, object]] = []
    for _ in range(2):
        async with Workbench.open() as bench:
            results.append(await _content(await bench.export(exporter, source), bench))
    first, second = results
    different = [name for name in first | second if first.get(name) != second.get(name)]
    if different:
        raise AssertionError(f"a second export differs in: {', '.join(different)}")


async def _content(run: Run, bench: Workbench) -> dict[str, object]:
    """Everything that an export has made, by a readable name."""
    content: dict[str, object] = {
        "the response": run.response,
        "the descriptor": run.descriptor,
        **{f"file {number}": file for number, file in enumerate(run.output.files)},
        **{f"{path} in the directory": file for path, file in run.output.directory_files.items()},
    }
    for number, layout in enumerate(run.output.layouts):
        content[f"the names in layout {number}"] = layout.images
        content[f"the blobs of layout {number}"] = {blob.digest for blob in layout.store.blobs()}
    blobs = sorted(blob.digest for blob in await bench.store.blobs())
    content["the blobs in the store"] = blobs
    return content


async def _check_archive(data: bytes, checklist: Checklist) -> int:
    """Check an OCI archive, and return the number of images; 0 for other files."""
    try:
        files = await run_in_thread(_read_tar, data)
    except tarfile.TarError:
        return 0
    if "oci-layout" not in files:
        return 0
    blobs = {f"{match[1]}:{match[2]}": files[name] for name in files if (match := _BLOB.fullmatch(name))}
    store = MemoryStore.of(blobs)
    await ImageVerifier(store, checklist).layout(files["oci-layout"], files.get("index.json"), store.blobs())
    return 1


def _read_tar(data: bytes) -> dict[str, bytes]:
    files = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for member in tar:
            content = tar.extractfile(member)
            if content is not None:
                files[member.name] = content.read()
    return files


def _problems(report: Report) -> str:
    lines = [
        f"{result.subject.image} {result.subject.path} {finding.where}: {finding.what}"
        for result in report.results
        for finding in result.findings
        if finding.is_problem
    ]
    return "\n".join(["the image is not valid:", *lines])
