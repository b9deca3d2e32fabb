"""The error hierarchy of the package.

Every failure that a caller can provoke is an `ExporterError`; any other exception that escapes is a bug in
this package. `Code` repeats the canonical gRPC codes, so that nothing below the server has to import gRPC.
`exporter.rpc.status` is the one place that translates between the two.
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
    """Base class of all errors that a caller can provoke.

    Args:
        message: What is wrong and where and, if known, what to do about it.
        field: Path of the request field at fault, in the proto's spelling (``source.refs[linux/amd64].id``,
            ``attrs[compression]``); None if the request is not at fault.
    """

    code: Code = Code.UNKNOWN

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field


class InvalidArgumentError(ExporterError):
    """Something in the request is invalid: an attribute, a digest, a config, a name."""

    code = Code.INVALID_ARGUMENT


class NotFoundError(ExporterError):
    """A ref, a blob, an exporter type or a finalize token does not exist, or no longer exists."""

    code = Code.NOT_FOUND


class FailedPreconditionError(ExporterError):
    """Parts of the request contradict each other, such as a layer chain and its layers."""

    code = Code.FAILED_PRECONDITION


class PermissionDeniedError(ExporterError):
    """The operator does not allow this, or a peer rejected our credentials."""

    code = Code.PERMISSION_DENIED


class DataLossError(ExporterError):
    """Content does not match its digest or its size."""

    code = Code.DATA_LOSS


class UnavailableError(ExporterError):
    """A peer is gone or unreachable. Retrying may help."""

    code = Code.UNAVAILABLE


class ResourceExhaustedError(ExporterError):
    """A limit of the server or on a message's size was hit, or the disk is full."""

    code = Code.RESOURCE_EXHAUSTED


class DeadlineError(ExporterError):
    """The work did not finish within the caller's deadline."""

    code = Code.DEADLINE_EXCEEDED


class ImageError(ExporterError, ValueError):
    """An image cannot be computed from the given input.

    Raised wherever the Go exporters return an error. The text begins with the prefix that they use
    (``failed to unmarshal history from config: ``, …), so that a search for it finds the same problem.
    """

    code = Code.INVALID_ARGUMENT


class LayerChainError(ImageError):
    """The layer chain does not fit the image's layers.

    Raised where the Go code panics (slice or index out of range) because the layer chain is shorter than the
    list of layers. The text is the Go runtime's.
    """

    code = Code.FAILED_PRECONDITION


@dataclass(frozen=True, slots=True)
class Failure:
    """What a caller learns about an exception."""

    code: Code
    message: str
    field: str | None = None


def failure_of(error: BaseException) -> Failure:
    """Describe `error` to a caller.

    Operating system errors that a user can fix get a matching code. Anything unknown is a bug here:
    ``INTERNAL``.
    """
    # Users of the pure image core should not pay for importing asyncio.
    from asyncio import CancelledError

    if isinstance(error, LayerChainError):  # the Go runtime's text alone does not help a user
        message = f"the layer chain does not fit the image's layers: {error.message}"
        return Failure(error.code, message, error.field)
    if isinstance(error, ExporterError):
        return Failure(error.code, error.message, error.field)
    if isinstance(error, CancelledError):
        return Failure(Code.CANCELLED, "the export was cancelled")
    if isinstance(error, TimeoutError):
        return Failure(Code.DEADLINE_EXCEEDED, str(error) or "the work did not finish in time")
    if isinstance(error, OSError):
        return Failure(_os_error_code(error), os_error_text(error))
    return Failure(Code.INTERNAL, f"{type(error).__name__}: {error}")


def os_error_text(error: OSError) -> str:
    """The operating system's reason after the file that it is about: ``app.tar: Permission denied``.

    Python's own text begins with a number (``[Errno 13]``) and ends with a quoted path.
    """
    reason = error.strerror or str(error)
    names = [os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, str | bytes)]
    return f"{' -> '.join(names)}: {reason}" if names else reason


@contextmanager
def naming(path: str | os.PathLike[str], *, instead: bool = False) -> Iterator[None]:
    """Add a file name to operating system errors that have none, such as those of a write.

    Args:
        path: The file, as the user knows it.
        instead: Whether `path` also replaces a name that the error has, such as that of a temporary file.
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
