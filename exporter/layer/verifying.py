"""Verifying a layer blob while it is read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from exporter.content.verify import Verifier
from exporter.errors import DataLossError, InvalidArgumentError
from exporter.image import Descriptor
from exporter.layer.streams import Readable, drain


@contextmanager
def verified(source: Readable, descriptor: Descriptor) -> Iterator[Readable]:
    """Read a blob, and verify it against its descriptor when the block ends.

    The layer's digest is added to the text of errors that the block raises. If the blob does not match its
    descriptor, that explains any other error, so it is raised instead.

    Raises:
        DataLossError: the blob does not match the descriptor.
    """
    blob = _VerifyingReader(source, descriptor)
    try:
        yield blob
    except (DataLossError, InvalidArgumentError) as error:
        blob.finish()
        raise type(error)(f"layer {descriptor.digest}: {error.message}") from error
    blob.finish()


class _VerifyingReader:
    def __init__(self, source: Readable, descriptor: Descriptor) -> None:
        self._source = source
        self._verifier = Verifier(descriptor)

    def read(self, size: int) -> bytes:
        data = self._source.read(size)
        self._verifier.update(data)
        return data

    def finish(self) -> None:
        """Read the rest, and verify the whole blob."""
        drain(self)
        self._verifier.finish()
