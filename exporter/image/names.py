"""The names of an image, as the exporters read them from a comma-separated list."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from exporter.errors import ImageError
from exporter.image.go import text as gotext
from exporter.image.keys import IMAGE_NAME
from exporter.image.options.attributes import NAME, AttributeValueError
from exporter.image.reference import Reference

FROM_FRONTEND = "*"
"""Stands for the names that the frontend set."""


def resolve_image_name(image_name: str, metadata: Mapping[str, bytes]) -> str:
    """Replace the name ``*`` with the names that the frontend set as ``image.name``, if any."""
    if image_name == FROM_FRONTEND and IMAGE_NAME in metadata:
        return gotext.decode(metadata[IMAGE_NAME])
    return image_name


def normalized_names(image_name: str) -> tuple[str, ...]:
    """The names of an OCI or Docker archive, each fully qualified; the default tag is ``latest``.

    Raises:
        AttributeValueError: a name is empty or not a reference; with BuildKit's text.
    """
    if not image_name:
        return ()
    names = []
    for name in image_name.split(","):
        try:
            names.append(str(Reference.parse(name).tag_name_only()))
        except ImageError as error:
            raise AttributeValueError(NAME, f"failed to parse {name}: {error}") from error
    return tuple(names)


def parse_names(image_name: str) -> tuple[Reference, ...]:
    """The names as moby's exporter reads them: each must be a reference, and no default tag is added.

    Raises:
        AttributeValueError: a name is empty or not a reference; with the Go library's text.
    """
    try:
        return tuple(Reference.parse(name) for name in image_name.split(","))
    except ImageError as error:
        raise AttributeValueError(NAME, str(error)) from error


def sanitize_repo_and_tags(names: Iterable[str]) -> tuple[Reference, ...]:
    """The names of ``docker build -t``: fully qualified and tagged, without duplicates and empty ones.

    Raises:
        ImageError: one is not a reference, or has a digest; with moby's text.
    """
    references: dict[Reference, None] = {}
    for name in filter(None, names):
        reference = Reference.parse(name)
        if reference.digest is not None:
            raise ImageError("build tag cannot contain a digest")
        references[reference.tag_name_only()] = None
    return tuple(references)


@dataclass(frozen=True, slots=True)
class ImageNames:
    """The names under which BuildKit's image exporter stores and pushes one image.

    Attributes:
        value: The list as BuildKit reports it (``image.name``); empty if the image has no name.
        canonical: Whether each name is also stored as ``<name>@<digest>``.
    """

    value: str
    canonical: bool = False

    @property
    def targets(self) -> tuple[str, ...]:
        """The individual names, as the user wrote them."""
        return tuple(self.value.split(",")) if self.value else ()

    def stored(self, target: str, digest: str) -> tuple[str, ...]:
        """The names under which the image store keeps one of the targets."""
        if self.canonical and "@" not in target:
            return target, f"{target}@{digest}"
        return (target,)
