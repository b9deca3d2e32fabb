"""Saved sources: build results in directories, for an export without a daemon or for a bug report."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from exporter.content.files import BlobDirectory, FileProvider
from exporter.content.memory import MemoryStore
from exporter.content.overlay import FirstProvider, MultiProvider
from exporter.content.threads import run_in_thread
from exporter.content.verify import split_digest
from exporter.errors import InvalidArgumentError, NotFoundError
from exporter.image import (
    CompressionConfig,
    Descriptor,
    ImageError,
    Time,
    check_compatibility_version,
    digest_bytes,
)
from exporter.image.keys import DIFF_ID, LAYER_CREATED_AT
from exporter.image.media_types import OCI_LAYER
from exporter.source.inline import InlineRef
from exporter.source.saved.format import (
    ATTESTATION_KINDS,
    SUBJECT_KINDS,
    AttestationRecord,
    AttestationsFile,
    BuildFile,
    ChainsFile,
    LayerRecord,
    RefRecord,
    ScenarioFile,
    SourceFile,
    read_document,
    to_bytes,
)
from exporter.source.types import (
    Attestation,
    BuildInfo,
    Layer,
    Remote,
    Source,
    Subject,
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SavedSource:
    """A build result from a directory; `exporter.source.saved.format` describes the files.

    Its digests are not trusted: blobs are verified when they are read. Reading a missing blob fails.

    Inline cache data comes only from ``build.json``. It describes the build's steps, so it cannot be computed
    from the refs. A recorded build only has it in the resulting image config (``moby.buildkit.cache.v0``). To
    compare configs, copy it from there into `BuildInfo`.

    Attributes:
        path: The directory.
        source: The result.
        build: What is known about the build.
    """

    path: Path
    source: Source
    build: BuildInfo

    @classmethod
    async def open(cls, path: Path | str) -> SavedSource:
        """Load a saved source.

        Raises:
            InvalidArgumentError: a file is malformed; the message says which one, and where in it.
            NotFoundError: the directory is not a saved source.
        """
        return await run_in_thread(_Loader(Path(path)).load)


_MAX_LISTED = 3
"""So many directories are named in an error."""


class _Loader:
    """Loads one directory. Blocks."""

    def __init__(self, path: Path) -> None:
        self._path = path
        blobs = BlobDirectory(path / "oci" / "blobs")

        async def place() -> BlobDirectory:
            return blobs

        where = f"the saved source {path}: it is incomplete; save the build result again"
        self._provider = MultiProvider(FirstProvider(place, where=where))
        self._refs: dict[str, InlineRef] = {}
        self._chains: dict[str, list[LayerRecord]] = {}

    def load(self) -> SavedSource:
        source = self._need("source.json", SourceFile)
        chains = self._need("chains.json", ChainsFile)
        more_blobs = BlobDirectory(self._path / "layers")
        for info in more_blobs.list():
            self._provider.add(info.digest, more_blobs)
        ref, refs = self._place_refs(chains)
        return SavedSource(
            path=self._path,
            source=Source(ref, refs, source.metadata or {}, self._load_attestations()),
            build=self._load_build(),
        )

    def _need(self, name: str, kind: type[T]) -> T:
        try:
            document = read_document(self._path / name, kind)
        except NotADirectoryError:
            raise NotFoundError(f"{self._path} is a file, but a saved source is a directory") from None
        if document is None:
            if not self._path.exists():
                raise NotFoundError(f"there is no saved source {self._path}: the directory does not exist")
            below = sorted(path.parent.name for path in self._path.glob(f"*/{name}"))
            hint = ""
            if below:
                hint = f". Saved sources below it: {', '.join(below[:_MAX_LISTED])}"
                hint += f" and {len(below) - _MAX_LISTED} more" if len(below) > _MAX_LISTED else ""
            raise NotFoundError(f"{self._path} is not a saved source: it has no file {name}{hint}")
        return document

    def _place_refs(self, chains: ChainsFile) -> tuple[InlineRef | None, dict[str, InlineRef | None] | None]:
        single: list[InlineRef | None] = []
        keyed: dict[str, InlineRef | None] = {}
        for index, record in enumerate(chains.refs):
            where = f"chains.json: refs[{index}]"
            ref = self._find_ref(record, where)
            if record.slot == "ref":
                single.append(ref)
            elif record.slot == "refs":
                if record.key in keyed:
                    self._fail(where, f"there is another ref with the key {record.key!r}")
                keyed[record.key] = ref
        is_keyed = chains.keyed or bool(keyed)
        if len(single) + is_keyed > 1:
            self._fail("chains.json", "a result has either a single ref or refs by key")
        return (single[0] if single else None), (keyed if is_keyed else None)

    def _find_ref(self, record: RefRecord, where: str) -> InlineRef | None:
        """The ref of a record. Several records may have the same ref."""
        if record.ref is None:
            if record.chain:
                self._fail(where, "there is a chain but no ref")
            return None
        if record.ref not in self._refs:
            self._refs[record.ref] = self._make_ref(record.ref, record, where)
            self._chains[record.ref] = record.chain
        if self._chains[record.ref] != record.chain:
            self._fail(where, f"ref {record.ref} has a different chain in an earlier record")
        return self._refs[record.ref]

    def _make_ref(self, ref_id: str, record: RefRecord, where: str) -> InlineRef:
        chain = [self._layer(layer, f"{where}.chain[{index}]") for index, layer in enumerate(record.chain)]
        if record.descriptors is not None:
            descriptors = [
                self._descriptor(value, f"{where}.descriptors[{index}]")
                for index, value in enumerate(record.descriptors)
            ]
            return InlineRef(ref_id, chain, descriptors, self._provider)
        found = [
            self._layer_descriptor(layer, f"{where}.chain[{index}]")
            for index, layer in enumerate(record.chain)
        ]
        saved = [descriptor for descriptor in found if descriptor is not None]
        if len(saved) == len(found):
            return InlineRef(ref_id, chain, saved, self._provider)
        if record.files is not None:
            tar = _tar_of(record.files)
            return InlineRef(ref_id, chain, [_tar_descriptor(digest_bytes(tar), len(tar))], MemoryStore(tar))
        return _ChainOnlyRef(ref_id, chain, [], self._provider)

    def _layer(self, record: LayerRecord, where: str) -> Layer:
        try:
            created_at = None if record.created_at is None else Time.parse(record.created_at)
        except ImageError as error:
            self._fail(f"{where}.created_at", str(error))
        return Layer(record.id, record.description, created_at)

    def _layer_descriptor(self, record: LayerRecord, where: str) -> Descriptor | None:
        if record.blob is None:
            return None if record.layer is None else self._tar_layer(record, record.layer, where)
        descriptor = self._descriptor(record.blob, f"{where}.blob")
        if record.diff_id is None:
            return descriptor
        self._check_digest(record.diff_id, f"{where}.diff_id")
        annotations = {DIFF_ID: record.diff_id, **descriptor.annotations}
        if annotations[DIFF_ID] != record.diff_id:
            self._fail(f"{where}.diff_id", f"the blob's annotation {DIFF_ID} has a different diff ID")
        return replace(descriptor, annotations=annotations)

    def _tar_layer(self, record: LayerRecord, name: str, where: str) -> Descriptor | None:
        if record.diff_id is None:
            self._fail(where, "a layer from docker save must have its diff_id")
        self._check_digest(record.diff_id, f"{where}.diff_id")
        root = (self._path / "save").resolve()
        try:
            file = (root / name).resolve()
            if not file.is_relative_to(root):
                self._fail(f"{where}.layer", f"{name} is not below save/")
            size = file.stat().st_size
        except FileNotFoundError:
            return None
        except ValueError as error:
            self._fail(f"{where}.layer", str(error))
        self._provider.add(record.diff_id, FileProvider({record.diff_id: file}))
        return _tar_descriptor(record.diff_id, size, record.created_at)

    def _descriptor(self, value: dict[str, Any], where: str) -> Descriptor:
        try:
            descriptor = Descriptor.from_dict(value)
        except ImageError as error:
            self._fail(where, str(error))
        self._check_digest(descriptor.digest, f"{where}.digest")
        return descriptor

    def _load_attestations(self) -> dict[str, tuple[Attestation, ...]]:
        document = read_document(self._path / "attestations.json", AttestationsFile)
        attestations: dict[str, tuple[Attestation, ...]] = {}
        for index, record in enumerate(document.attestations if document else ()):
            loaded = self._attestation(record, f"attestations.json: attestations[{index}]")
            attestations[record.platform] = (*attestations.get(record.platform, ()), loaded)
        return attestations

    def _attestation(self, record: AttestationRecord, where: str) -> Attestation:
        if record.ref is not None and record.ref not in self._refs:
            self._fail(f"{where}.ref", f"chains.json has no ref {record.ref}")
        return Attestation(
            kind=ATTESTATION_KINDS[record.kind],
            path=record.path,
            predicate_type=record.predicate_type,
            subjects=tuple(
                Subject(SUBJECT_KINDS[subject.kind], subject.name, tuple(subject.digests or ()))
                for subject in record.subjects or ()
            ),
            metadata={key: to_bytes(value) for key, value in (record.metadata or {}).items()},
            ref=None if record.ref is None else self._refs[record.ref],
            content=to_bytes(record.content[0]) if record.content else None,
        )

    def _load_build(self) -> BuildInfo:
        build = read_document(self._path / "build.json", BuildFile)
        if build is not None:
            version = self._compatibility_version(build.compatibility_version, "build.json")
            return BuildInfo(build.ref, "", version, build.inline_cache, build.builder)
        scenario = read_document(self._path / "scenario.json", ScenarioFile) or ScenarioFile()
        version = self._compatibility_version(scenario.compatibility_version or 0, "scenario.json")
        return BuildInfo(compatibility_version=version, builder=scenario.builder)

    def _compatibility_version(self, version: int, where: str) -> int:
        try:
            check_compatibility_version(version)
        except ImageError as error:
            self._fail(f"{where}: compatibility_version", str(error))
        return version

    def _check_digest(self, digest: str, where: str) -> None:
        try:
            split_digest(digest)
        except InvalidArgumentError as error:
            self._fail(where, error.message)

    def _fail(self, where: str, message: str) -> NoReturn:
        raise InvalidArgumentError(f"{self._path}/{where}: {message}")


class _ChainOnlyRef(InlineRef):
    """A ref that was saved without layers."""

    async def remote(self, compression: CompressionConfig | None = None) -> Remote:
        raise NotFoundError(f"ref {self.id} was saved without its layers")


def _tar_descriptor(diff_id: str, size: int, created_at: str | None = None) -> Descriptor:
    annotations = {DIFF_ID: diff_id} | ({LAYER_CREATED_AT: created_at} if created_at else {})
    return Descriptor(OCI_LAYER, diff_id, size, annotations=annotations)


def _tar_of(files: Mapping[str, bytes]) -> bytes:
    """A layer with the given files. Their owners, times and permissions are unknown."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path, data in files.items():
            entry = tarfile.TarInfo(path.lstrip("/"))
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return archive.getvalue()
