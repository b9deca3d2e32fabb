"""The files of a saved source.

- ``source.json``: the result's metadata; for people to read, also the refs' IDs and the platforms
- ``chains.json``: the refs, each with its place in the result and its chain
- ``attestations.json``: the attestations, if there are any
- ``build.json``: what an exporter may know about the build; optional
- ``oci/``: the blobs, as an OCI layout; ``layers/`` may hold more of them, by algorithm and digits
- ``save/``: an unpacked ``docker save``, instead of ``oci/``, if a Docker daemon was recorded

Bytes are in base64. Unknown fields are ignored.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from exporter.content.files import read_file
from exporter.content.staging import Staging, replace_file
from exporter.errors import FailedPreconditionError, InvalidArgumentError
from exporter.source.types import AttestationKind, SubjectKind

T = TypeVar("T")
Kind = Literal["InToto", "Bundle"]
SubjectName = Literal["Self", "Raw"]
Slot = Literal["ref", "refs", "attestation"]

ATTESTATION_KINDS: dict[Kind, AttestationKind] = {
    "InToto": AttestationKind.IN_TOTO,
    "Bundle": AttestationKind.BUNDLE,
}
SUBJECT_KINDS: dict[SubjectName, SubjectKind] = {"Self": SubjectKind.SELF, "Raw": SubjectKind.RAW}

_FILE_LIMIT = 256 << 20
_AT_BYTE = re.compile(r"(.*) \(byte ([0-9]+)\)")
_BUILDKIT_VERSION = re.compile(r"(?:^|\bversion string )(v\d\S*)")


class SourceFile(msgspec.Struct):
    """``source.json``."""

    metadata: dict[str, bytes] | None = None
    refs: list[str] | None = None
    platforms: Any = None


class LayerRecord(msgspec.Struct, omit_defaults=True):
    """A layer of a chain.

    Attributes:
        id: The cache record's ID.
        description: As the image writer saw it: for a lazily pulled layer, that is after the pull.
        created_at: RFC 3339; None if the daemon has none.
        blob: The OCI descriptor.
        diff_id: The diff ID. Optional if it is in the blob's annotations.
        layer: Instead of a blob: a tar below ``save/`` whose digest is the diff ID.
    """

    id: str
    description: str = ""
    created_at: str | None = None
    blob: dict[str, Any] | None = None
    diff_id: str | None = None
    layer: str | None = None


class RefRecord(msgspec.Struct, omit_defaults=True):
    """A ref, or a place in the result that has no ref.

    Attributes:
        slot: The place: the single ref, one of the refs by platform ID, or an attestation's ref.
        key: The platform ID.
        ref: The ID; None if there is no ref here, that is, no layers.
        chain: The layers, base first.
        descriptors: The layers' descriptors, if their number differs from the length of the chain.
        files: Instead of blobs: all files of the ref by path.
    """

    slot: Slot = "ref"
    key: str = ""
    ref: str | None = None
    chain: list[LayerRecord] = []
    descriptors: list[dict[str, Any]] | None = None
    files: dict[str, bytes] | None = None


class ChainsFile(msgspec.Struct, omit_defaults=True):
    """``chains.json``.

    Attributes:
        refs: All refs of the result.
        keyed: Whether the result is keyed by platform. Implied if there are refs with keys.
    """

    refs: list[RefRecord]
    keyed: bool = False


class Base64(msgspec.Struct):
    """Bytes instead of text, because they are not UTF-8."""

    base64: bytes


class SubjectRecord(msgspec.Struct, omit_defaults=True):
    """A subject of an attestation."""

    kind: SubjectName
    name: str = ""
    digests: list[str] | None = None


class AttestationRecord(msgspec.Struct, omit_defaults=True):
    """An attestation.

    Attributes:
        platform: The ID of the platform that it describes.
        kind: A statement, or a directory of statements.
        path: The file in `ref`; for a bundle, the directory.
        predicate_type: The predicate's type.
        metadata: BuildKit's metadata, mostly text.
        subjects: The subjects that the frontend named.
        ref: The ID of one of the refs in ``chains.json``.
        content: The predicate (the first element) if it is not in a file.
    """

    platform: str
    kind: Kind
    path: str = ""
    predicate_type: str = ""
    metadata: dict[str, str | Base64] | None = None
    subjects: list[SubjectRecord] | None = None
    ref: str | None = None
    content: list[str | Base64] | None = None


class AttestationsFile(msgspec.Struct):
    """``attestations.json``."""

    attestations: list[AttestationRecord]


class BuildFile(msgspec.Struct, omit_defaults=True):
    """``build.json``; see `BuildInfo`. It omits the session, which no longer exists."""

    ref: str = ""
    compatibility_version: int = 0
    inline_cache: dict[str, bytes] = {}
    builder: str = ""


class RecordedBuilder(msgspec.Struct):
    """The daemon that was recorded.

    Attributes:
        version: Free text with the daemon's version, or with ``… the version string VERSION``.
    """

    version: str = ""


class ScenarioFile(msgspec.Struct):
    """``scenario.json``, a description of the build; used if there is no ``build.json``."""

    compatibility_version: int | None = None
    buildkit: RecordedBuilder | None = None

    @property
    def builder(self) -> str:
        """The daemon's name in the documents that it creates; ``""`` if its version is unknown."""
        found = _BUILDKIT_VERSION.search(self.buildkit.version) if self.buildkit is not None else None
        return f"buildkit-{found[1]}" if found else ""


def read_document(path: Path, kind: type[T]) -> T | None:
    """Read one of the files; None if it does not exist. Blocks.

    Raises:
        InvalidArgumentError: it is malformed; the message says which file, and where in it.
    """
    try:
        data = read_file(path, _FILE_LIMIT)
    except FileNotFoundError:
        return None
    except FailedPreconditionError as error:
        raise InvalidArgumentError(f"{path}: {error}") from error
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidArgumentError(f"{path}: {_explain(str(error), data)}") from error
    except RecursionError as error:
        raise InvalidArgumentError(f"{path}: nested too deeply") from error


def _explain(problem: str, data: bytes) -> str:
    """Replace the byte offset in an error message with line and column, as editors count them."""
    if problem == "Input data was truncated":
        return f"{_place(data, len(data))}: the file ends too early"
    found = _AT_BYTE.fullmatch(problem)
    return problem if found is None else f"{_place(data, int(found[2]))}: {found[1]}"


def _place(data: bytes, position: int) -> str:
    line_start = data.rfind(b"\n", 0, position) + 1
    column = len(data[line_start:position].decode("utf-8", "replace")) + 1
    line = data.count(b"\n", 0, position) + 1
    return f"line {line}, column {column}"


def write_document(path: Path, document: msgspec.Struct) -> None:
    """Write one of the files, for people to read. Blocks."""
    data = msgspec.json.format(msgspec.json.encode(document), indent=1)
    replace_file(Staging(path.parent / ".staging"), path, data)


def to_text(data: bytes) -> str | Base64:
    """Bytes as text if they are UTF-8, else as base64."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return Base64(data)


def to_bytes(text: str | Base64) -> bytes:
    """The inverse of `to_text`."""
    return text.base64 if isinstance(text, Base64) else text.encode()
