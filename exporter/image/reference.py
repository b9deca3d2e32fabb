"""Image references: parsing and normalising names such as ``ubuntu``, ``example.com:5000/app:1.2@sha256:…``.

Grammar, rules and error texts are those of ``github.com/distribution/reference``, which BuildKit, moby and
containerd share.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from exporter.errors import ImageError
from exporter.image.digest import parse_digest
from exporter.image.go import text as gotext

DEFAULT_DOMAIN = "docker.io"
DEFAULT_TAG = "latest"

_LEGACY_DOMAIN = "index.docker.io"
_OFFICIAL_PREFIX = "library/"
_LONGEST_PATH = 255

_ALPHANUMERIC = r"[a-z0-9]+"
_PATH_COMPONENT = rf"{_ALPHANUMERIC}(?:(?:[._]|__|-+){_ALPHANUMERIC})*"
_PATH = rf"{_PATH_COMPONENT}(?:/{_PATH_COMPONENT})*"
_DOMAIN_COMPONENT = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_HOST = rf"(?:{_DOMAIN_COMPONENT}(?:\.{_DOMAIN_COMPONENT})*|\[[a-fA-F0-9:]+\])"
_DOMAIN = rf"{_HOST}(?::[0-9]+)?"
_TAG_TEXT = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_DIGEST_TEXT = r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}"

_REFERENCE = re.compile(rf"((?:{_DOMAIN}/)?{_PATH})(?::({_TAG_TEXT}))?(?:@({_DIGEST_TEXT}))?")
_NAME = re.compile(rf"(?:({_DOMAIN})/)?({_PATH})")
_TAG = re.compile(_TAG_TEXT)
_DIGEST = re.compile(_DIGEST_TEXT)
_IDENTIFIER = re.compile(r"[a-f0-9]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A named image reference.

    Attributes:
        domain: The registry, such as ``docker.io`` or ``localhost:5000``. Empty if the first part of the name
            looks like a domain but is not one (``foo_bar.x/y``).
        path: The repository within the registry.
        tag: None if there is none.
        digest: ``algorithm:hex``; None if there is none.
    """

    domain: str = ""
    path: str
    tag: str | None = None
    digest: str | None = None

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Parse a reference as a user writes it, and fully qualify it (``ParseNormalizedNamed``).

        ``ubuntu`` becomes ``docker.io/library/ubuntu``; no tag is added (see `tag_name_only`).

        Raises:
            ImageError: `text` is not a reference; with the Go library's text.
        """
        if _IDENTIFIER.fullmatch(text):
            raise ImageError(f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings")
        domain, remainder = _split_domain(text)
        repository = remainder.partition(":")[0]
        if gotext.lower(repository) != repository:
            raise ImageError(f"invalid reference format: repository name ({repository}) must be lowercase")
        return cls._parse_canonical(f"{domain}/{remainder}")

    @classmethod
    def _parse_canonical(cls, text: str) -> Reference:
        match = _REFERENCE.fullmatch(text)
        if match is None:
            if _REFERENCE.fullmatch(gotext.lower(text)):
                raise ImageError("repository name must be lowercase")
            raise ImageError("invalid reference format")
        name, tag, digest = match.groups()
        domain, path = _split_name(name)
        if len(path) > _LONGEST_PATH:
            raise ImageError(f"repository name must not be more than {_LONGEST_PATH} characters")
        if digest is not None:
            parse_digest(digest)
        return cls(domain=domain, path=path, tag=tag, digest=digest)

    @property
    def name(self) -> str:
        """The repository with its registry, without tag and digest."""
        return f"{self.domain}/{self.path}" if self.domain else self.path

    @property
    def is_name_only(self) -> bool:
        """Whether there is neither tag nor digest."""
        return self.tag is None and self.digest is None

    @property
    def familiar_name(self) -> str:
        """The name as Docker shows it: without ``docker.io/`` and ``library/``."""
        return self._familiar().name

    @property
    def familiar_string(self) -> str:
        """The whole reference as Docker shows it."""
        return str(self._familiar())

    def tag_name_only(self) -> Reference:
        """Add the tag ``latest`` if there is neither tag nor digest."""
        return replace(self, tag=DEFAULT_TAG) if self.is_name_only else self

    def with_digest(self, digest: str) -> Reference:
        """Set the digest.

        Raises:
            ImageError: it is not a digest.
        """
        if not _DIGEST.fullmatch(digest):
            raise ImageError("invalid digest format")
        return replace(self, digest=digest)

    def _familiar(self) -> Reference:
        if self.domain != DEFAULT_DOMAIN:
            return self
        repository = self.path.removeprefix(_OFFICIAL_PREFIX)
        return replace(self, domain="", path=self.path if "/" in repository else repository)

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag is not None else ""
        digest = f"@{self.digest}" if self.digest is not None else ""
        return f"{self.name}{tag}{digest}"


def _split_domain(text: str) -> tuple[str, str]:
    """Split what a user wrote into the registry and the rest.

    The first part is a registry if it is ``localhost``, contains a dot or a colon, or is not lower-case.
    """
    first, slash, rest = text.partition("/")
    if not slash:
        return DEFAULT_DOMAIN, _OFFICIAL_PREFIX + text
    if first == _LEGACY_DOMAIN:
        domain = DEFAULT_DOMAIN
    elif first == "localhost" or "." in first or ":" in first or gotext.lower(first) != first:
        domain = first
    else:
        domain, rest = DEFAULT_DOMAIN, text
    if domain == DEFAULT_DOMAIN and "/" not in rest:
        rest = _OFFICIAL_PREFIX + rest
    return domain, rest


def _split_name(name: str) -> tuple[str, str]:
    match = _NAME.fullmatch(name)
    return (match[1] or "", match[2]) if match else ("", name)
