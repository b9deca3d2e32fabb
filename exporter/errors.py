"""The error hierarchy of the package.

Every failure that a caller can provoke is an `ExporterError`; anything else that escapes is a bug of ours.
Codes are the canonical gRPC codes by name, kept as an enum here so that nothing below the server has to
import gRPC; `exporter.rpc.status` translates them, in both directions and in one place.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

__all__ = [
    "Code",
    "DataLossError",
    "DeadlineError",
    "ExporterError",
    "FailedPreconditionError",
    "Failure",
    "ImageError",
    "InvalidArgumentError",
    "LayerChainError",
    "NotFoundError",
    "PermissionDeniedError",
    "ResourceExhaustedError",
    "UnavailableError",
    "failure_of",
    "naming",
    "os_error_text",
]


class Code(enum.Enum):
    """Canonical status codes (names and numbers of `google.rpc.Code`)."""

    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class ExporterError(Exception):
    """Base class.

    Args:
        message: What was wrong and where, and what to do about it if that is known.
        field: Path of the request field at fault, in the proto's spelling (``source.refs[linux/amd64].id``,
            ``attrs[compression]``), if the request is at fault.
    """

    code: Code = Code.UNKNOWN

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field


class InvalidArgumentError(ExporterError):
    """The request is wrong by itself: an attribute, a digest, a config, a name."""

    code = Code.INVALID_ARGUMENT


class NotFoundError(ExporterError):
    """A ref, a blob, an exporter type or a finalize token does not exist (any more)."""

    code = Code.NOT_FOUND


class FailedPreconditionError(ExporterError):
    """Parts of the request are fine alone but disagree, such as a layer chain and its layers."""

    code = Code.FAILED_PRECONDITION


class PermissionDeniedError(ExporterError):
    """The operator has not allowed this, or a peer refused our credentials."""

    code = Code.PERMISSION_DENIED


class DataLossError(ExporterError):
    """Bytes do not have the digest or size that was promised for them."""

    code = Code.DATA_LOSS


class UnavailableError(ExporterError):
    """A peer is gone or out of reach; trying again may help."""

    code = Code.UNAVAILABLE


class ResourceExhaustedError(ExporterError):
    """A limit of the server or of a message was hit, or the disk is full."""

    code = Code.RESOURCE_EXHAUSTED


class DeadlineError(ExporterError):
    """The work did not end within the caller's deadline."""

    code = Code.DEADLINE_EXCEEDED


class ImageError(ExporterError, ValueError):
    """An image cannot be computed from the given input.

    Wherever the Go exporters answer with an error, this is raised, and its text begins with the prefix
    that they use (``failed to unmarshal history from config: ``, …), so that a user who searches for the
    message finds the same place.
    """

    code = Code.INVALID_ARGUMENT


class LayerChainError(ImageError):
    """The layer chain does not fit the image's layers.

    Raised where the Go code panics (slice or index out of range): a layer chain that is shorter than the
    list of layers. The text is the one of the Go runtime.
    """

    code = Code.FAILED_PRECONDITION


@dataclass(frozen=True, slots=True)
class Failure:
    """What is told to a caller about an exception."""

    code: Code
    message: str
    field: str | None = None


def failure_of(error: BaseException) -> Failure:
    """Say what `error` means to a caller.

    Errors of the operating system that a user can cure get the code that tells so. What is left is a bug
    here: ``INTERNAL``.
    """
    from asyncio import (
        CancelledError,  # takes a moment to import, which users of the image core need not spend
    )

    if isinstance(error, LayerChainError):  # Go's own text says too little
        message = f"the layer chain does not fit the image's layers: {error.message}"
        return Failure(error.code, message, error.field)
    if isinstance(error, ExporterError):
        return Failure(error.code, error.message, error.field)
    if isinstance(error, CancelledError):
        return Failure(Code.CANCELLED, "the export was cancelled")
    if isinstance(error, TimeoutError):
        return Failure(Code.DEADLINE_EXCEEDED, str(error) or "the work did not end in time")
    if isinstance(error, OSError):
        return Failure(_os_error_code(error), os_error_text(error))
    return Failure(Code.INTERNAL, f"{type(error).__name__}: {error}")


def os_error_text(error: OSError) -> str:
    """Say what the operating system would not do, and to which file: ``app.tar: Permission denied``.

    Python's own text begins with a number (``[Errno 13]``), and ends with a quoted path.
    """
    reason = error.strerror or str(error)
    names = [os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, str | bytes)]
    return f"{' -> '.join(names)}: {reason}" if names else reason


@contextmanager
def naming(path: str | os.PathLike[str], *, instead: bool = False) -> Iterator[None]:
    """Have errors of the operating system name a file, in place of none: a write knows no path.

    Args:
        path: The file, as its user knows it.
        instead: Whether it is named in place of another one, too, such as a temporary file for it.
    """
    try:
        yield
    except OSError as error:
        if instead or error.filename is None:
            error.filename, error.filename2 = os.fspath(path), None
        raise


def _os_error_code(error: OSError) -> Code:
    import errno

    if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EMFILE, errno.ENFILE, errno.ENOMEM}:
        return Code.RESOURCE_EXHAUSTED
    if isinstance(error, FileNotFoundError):
        return Code.NOT_FOUND
    if isinstance(error, PermissionError) or error.errno == errno.EROFS:
        return Code.PERMISSION_DENIED
    if isinstance(error, ConnectionError):
        return Code.UNAVAILABLE
    if isinstance(error, NotADirectoryError | IsADirectoryError | FileExistsError):
        return Code.FAILED_PRECONDITION
    return Code.INTERNAL
