"""Saving sources; the counterpart of `exporter.source.saved.load`."""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec

from exporter.content.copy import copy_blobs
from exporter.content.layout import OCILayout
from exporter.content.staging import sync_directory
from exporter.content.threads import run_in_thread
from exporter.errors import FailedPreconditionError
from exporter.image.keys import PLATFORMS
from exporter.rpc.temporary import lock_directory
from exporter.source.saved.format import (
    ATTESTATION_KINDS,
    SUBJECT_KINDS,
    AttestationRecord,
    AttestationsFile,
    BuildFile,
    ChainsFile,
    LayerRecord,
    RefRecord,
    Slot,
    SourceFile,
    SubjectRecord,
    to_text,
    write_document,
)
from exporter.source.types import Attestation, BuildInfo, Layer, Ref, Source

_KIND_NAMES = {kind: name for name, kind in ATTESTATION_KINDS.items()}
_SUBJECT_NAMES = {kind: name for name, kind in SUBJECT_KINDS.items()}


async def save_source(source: Source, build: BuildInfo, path: Path | str) -> None:
    """Save a build result with all its blobs, and verify them. Atomic.

    Args:
        source: The result.
        build: What is known about the build; its session is not saved.
        path: The directory, which must be empty or not exist.

    Raises:
        DataLossError: a blob does not match its descriptor.
        FailedPreconditionError: `path` exists and is not an empty directory.
        NotFoundError: a ref or a blob no longer exists.
    """
    path = Path(path)
    partial = path.parent / f".{path.name}.{secrets.token_hex(8)}.partial"
    lock = None
    try:
        lock = await run_in_thread(_begin, path, partial)
        await _write(source, build, partial)
        await run_in_thread(_end, partial, path)
    except BaseException:
        await run_in_thread(shutil.rmtree, partial, ignore_errors=True)
        raise
    finally:
        if lock is not None:
            os.close(lock)


def _begin(path: Path, partial: Path) -> int | None:
    """Create the directory for what is unfinished; returns what holds its lock."""
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise FailedPreconditionError(f"{path} already exists; save the source to a new directory")
    _remove_dead(path)
    partial.mkdir(parents=True)
    return lock_directory(partial)


def _remove_dead(path: Path) -> None:
    """Remove what killed processes have left of the same source."""
    name = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{16}}\.partial")
    if not path.parent.is_dir():
        return
    for entry in path.parent.iterdir():
        if name.fullmatch(entry.name) and (lock := lock_directory(entry)) is not None:
            shutil.rmtree(entry, ignore_errors=True)
            os.close(lock)


def _end(partial: Path, path: Path) -> None:
    try:
        partial.rename(path)
    except OSError as error:
        if error.errno in {errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR}:
            raise FailedPreconditionError(f"{path} was created by someone else in the meantime") from error
        raise
    sync_directory(path.parent)


async def _write(source: Source, build: BuildInfo, path: Path) -> None:
    layout = await OCILayout.open(path / "oci")
    saved: dict[str, RefRecord] = {}
    records = []
    for slot, key, ref in _places(source):
        record = RefRecord()
        if ref is not None:
            if ref.id not in saved:
                saved[ref.id] = await _save_ref(ref, layout)
            record = saved[ref.id]
        records.append(msgspec.structs.replace(record, slot=slot, key=key))
    is_empty = source.refs is not None and not source.refs
    attestations = [
        await _attestation_record(platform, item)
        for platform, items in source.attestations.items()
        for item in items
    ]
    await run_in_thread(write_document, path / "source.json", _source_file(source))
    await run_in_thread(write_document, path / "chains.json", ChainsFile(records, keyed=is_empty))
    if attestations:
        await run_in_thread(write_document, path / "attestations.json", AttestationsFile(attestations))
    build_file = BuildFile(build.ref, build.compatibility_version, dict(build.inline_cache), build.builder)
    await run_in_thread(write_document, path / "build.json", build_file)


def _places(source: Source) -> Iterator[tuple[Slot, str, Ref | None]]:
    if source.refs is None:
        yield "ref", "", source.ref
    for key, ref in (source.refs or {}).items():
        yield "refs", key, ref
    for platform, attestations in source.attestations.items():
        for attestation in attestations:
            if attestation.ref is not None:
                yield "attestation", platform, attestation.ref


async def _save_ref(ref: Ref, layout: OCILayout) -> RefRecord:
    remote = await ref.remote()
    layers = [_layer_record(layer) for layer in await ref.layer_chain()]
    await copy_blobs(layout, remote.provider, remote.descriptors)
    blobs = [descriptor.to_dict() for descriptor in remote.descriptors]
    if len(layers) != len(blobs):
        # This is an error of the daemon, which a bug report should show. Save it unchanged.
        return RefRecord(ref=ref.id, chain=layers, descriptors=blobs)
    for layer, blob in zip(layers, blobs, strict=True):
        layer.blob = blob
    return RefRecord(ref=ref.id, chain=layers)


def _layer_record(layer: Layer) -> LayerRecord:
    created_at = None if layer.created_at is None else layer.created_at.marshal()
    return LayerRecord(layer.id, layer.description, created_at)


async def _attestation_record(platform: str, attestation: Attestation) -> AttestationRecord:
    content = await attestation.read_content()
    return AttestationRecord(
        platform=platform,
        kind=_KIND_NAMES[attestation.kind],
        path=attestation.path,
        predicate_type=attestation.predicate_type,
        metadata={key: to_text(value) for key, value in attestation.metadata.items()},
        subjects=[
            SubjectRecord(_SUBJECT_NAMES[subject.kind], subject.name, list(subject.digests))
            for subject in attestation.subjects
        ],
        ref=None if attestation.ref is None else attestation.ref.id,
        content=None if content is None else [to_text(content)],
    )


def _source_file(source: Source) -> SourceFile:
    refs = [source.ref] if source.refs is None else source.refs.values()
    try:
        platforms = msgspec.json.decode(source.metadata.get(PLATFORMS, b"null"))
    except (msgspec.DecodeError, UnicodeDecodeError):
        platforms = None  # only for people to read; the bytes are in the metadata
    return SourceFile(dict(source.metadata), [ref.id for ref in refs if ref is not None], platforms)
