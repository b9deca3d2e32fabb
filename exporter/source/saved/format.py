"""The files of a saved source.

- ``source.json``: the result's metadata; the refs' IDs and the platforms, for people to read
- ``chains.json``: the refs: where each sits in the result, and its chain
- ``attestations.json``: the attestations, if there are any
- ``build.json``: what an exporter may know of the build; optional
- ``oci/``: the blobs, as an OCI layout; ``layers/`` may hold more of them, by algorithm and digits
- ``save/``: instead of that, for a record of a Docker daemon: an unpacked ``docker save``

Bytes are base64. Unknown fields are ignored: records may say more than is needed here.
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
        id: Of the cache record.
        description: As the image writer read it: for a lazily pulled layer that is after the pull.
        created_at: RFC 3339; None if the daemon has none.
        blob: The descriptor, as OCI writes it.
        diff_id: Goes without saying if the blob's annotations have it.
        layer: Instead of a blob: a tar below ``save/``, whose digest is the diff ID.
    """

    id: str
    description: str = ""
    created_at: str | None = None
    blob: dict[str, Any] | None = None
    diff_id: str | None = None
    layer: str | None = None


class RefRecord(msgspec.Struct, omit_defaults=True):
    """A ref, or a place in the result that has none.

    Attributes:
        slot: Where it is: the single ref, one of the refs by platform ID, or an attestation's.
        key: The platform ID.
        ref: The ID; None if there is no ref here, that is, no layers.
        chain: Base first.
        descriptors: All layers' descriptors, if the chain cannot have them since both are not equally many.
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
        keyed: Whether the result is keyed by platform. Goes without saying if it has refs with keys.
    """

    refs: list[RefRecord]
    keyed: bool = False


class Base64(msgspec.Struct):
    """Bytes where one would expect a text, since they are none."""

    base64: bytes


class SubjectRecord(msgspec.Struct, omit_defaults=True):
    """A subject of an attestation."""

    kind: SubjectName
    name: str = ""
    digests: list[str] | None = None


class AttestationRecord(msgspec.Struct, omit_defaults=True):
    """An attestation.

    Attributes:
        platform: ID of the platform that it is about.
        kind: Statement, or directory of statements.
        path: The file in `ref`; for a bundle the directory.
        predicate_type: Of the predicate.
        metadata: BuildKit's, mostly text.
        subjects: Those that the frontend named.
        ref: ID of one of the refs in ``chains.json``.
        content: The predicate (the first element) if it is in no file.
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
    """``build.json``, see `BuildInfo`; the session is not in it, since it is over."""

    ref: str = ""
    compatibility_version: int = 0
    inline_cache: dict[str, bytes] = {}
    builder: str = ""


class RecordedBuilder(msgspec.Struct):
    """The daemon that was recorded.

    Attributes:
        version: For people; says the daemon's version, or ``… the version string VERSION``.
    """

    version: str = ""


class ScenarioFile(msgspec.Struct):
    """``scenario.json``, which says how a build was made; stands in for a missing ``build.json``."""

    compatibility_version: int | None = None
    buildkit: RecordedBuilder | None = None

    @property
    def builder(self) -> str:
        """How the daemon names itself in the documents that it signs; ``""`` if its version is not told."""
        found = _BUILDKIT_VERSION.search(self.buildkit.version) if self.buildkit is not None else None
        return f"buildkit-{found[1]}" if found else ""


def read_document(path: Path, kind: type[T]) -> T | None:
    """Read one of the files; None if there is none. Blocks.

    Raises:
        InvalidArgumentError: it is not what it should be; says the file and the place in it.
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
    """Say where in a file the problem is by line and column, as editors count, and not by bytes."""
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
    """Bytes that are mostly text, as they are written."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return Base64(data)


def to_bytes(text: str | Base64) -> bytes:
    """Inverse of `to_text`."""
    return text.base64 if isinstance(text, Base64) else text.encode()
