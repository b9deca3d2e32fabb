"""Verifying archives of ``docker save``, in which ``manifest.json`` lists the files of configs and layers."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

from exporter.content.threads import run_in_thread
from exporter.errors import NotFoundError
from exporter.image import Descriptor, ImageError, Reference
from exporter.verify import checks
from exporter.verify.blobs import BlobFacts, facts_of
from exporter.verify.checklist import Blob, Checklist
from exporter.verify.images import ImageVerifier, IsWanted
from exporter.verify.report import Finding, Subject

_SHA256 = "sha256:" + "0" * 64
# Named by image ID in older archives, else as in an OCI layout. In older archives, layers are in directories
# whose names are not the digest of anything in them.
_DIGEST_IN_NAME = re.compile(r"(?:blobs/sha256/([0-9a-f]{64})|([0-9a-f]{64})\.json)")


class ArchiveFiles(Protocol):
    """The files of an archive."""

    def read_file(self, name: str) -> bytes:
        """Read a small file. Blocks.

        Raises:
            NotFoundError: there is no such file.
        """
        ...

    def size(self, name: str) -> int | None:
        """The size of a file in bytes; None if there is no such file."""
        ...

    def stream(self, name: str) -> AsyncIterator[bytes]:
        """Read a file.

        Raises:
            NotFoundError: there is no such file (raised by the first step of the iteration).
        """
        ...


async def verify_docker_images(
    verifier: ImageVerifier,
    checklist: Checklist,
    files: ArchiveFiles,
    entries: Sequence[Mapping[str, Any]],
    is_wanted: IsWanted | None = None,
) -> None:
    """Verify the images of a ``manifest.json``.

    Args:
        verifier: Verifies configs and layers.
        checklist: Receives the results.
        files: The archive.
        entries: The entries of its ``manifest.json``.
        is_wanted: Selects the images to verify; None for all.
    """
    for position, entry in enumerate(entries):
        names = entry["RepoTags"] or []
        label = ", ".join(names) or f"manifest.json [{position}]"
        digest = _digest_in(entry["Config"])
        if is_wanted is not None and not is_wanted(names, digest):
            continue
        checklist.add(Subject("image", label), "names", _name_findings(names))
        subject = Subject("config", label, entry["Config"], digest)
        try:
            config = await run_in_thread(files.read_file, entry["Config"])
        except NotFoundError:
            missing = checks.digest_findings(Descriptor("", digest, 0), BlobFacts(is_missing=True))
            checklist.add(subject, "file", missing)
            continue
        facts = await run_in_thread(facts_of, config, digest or _SHA256)
        if digest and not checklist.add(
            subject, "digest", checks.digest_findings(Descriptor("", digest, len(config)), facts)
        ):
            continue
        layers = [_layer(files, label, name) for name in entry["Layers"] or []]
        verifier.config_and_layers(subject, config, layers)


def _layer(files: ArchiveFiles, label: str, name: str) -> tuple[Subject, Blob]:
    digest = _digest_in(name)
    blob = Blob(digest or name, digest or _SHA256, files.size(name) or 0, partial(files.stream, name))
    return Subject("layer", label, name, digest), blob


def _digest_in(name: str) -> str:
    """The digest in the name of a file; empty if there is none."""
    match = _DIGEST_IN_NAME.fullmatch(name)
    return f"sha256:{match[1] or match[2]}" if match else ""


def _name_findings(names: Sequence[str]) -> list[Finding]:
    findings = []
    for name in names:
        try:
            Reference.parse(name)
        except ImageError as error:
            findings.append(Finding(f"{name!r}: {error}", "docker load rejects it", "RepoTags"))
    return findings
