"""Matching platforms: which manifests of an index a machine can run, and which is best.

The rules are those of ``github.com/containerd/platforms``: an amd64 machine also runs 386, arm64 runs arm,
later ARM variants run earlier ones, and Windows versions must be compatible with the host's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from exporter.errors import ImageError
from exporter.image.go import text as gotext
from exporter.image.platforms.platform import Platform

_LTSC_2022 = 20348
_LTSC_2025 = 26100
_HIGHEST_VARIANT = 64
"""Far above any real variant. The limit keeps a nonsense variant from producing a huge list."""

Rank = tuple[int, int]


class PlatformMatcher:
    """Matches any of several platforms, in order of preference.

    Args:
        platforms: The acceptable platforms, best first. They are normalised.
    """

    def __init__(self, *platforms: Platform) -> None:
        self._accepted = tuple(_Accepted.make(platform) for platform in platforms)

    @classmethod
    def only(cls, platform: Platform) -> PlatformMatcher:
        """Match what a machine of this platform can run, best first (containerd's ``Only``)."""
        return cls(*_runnable(platform.normalized()))

    def match(self, platform: Platform) -> bool:
        """Whether `platform` is acceptable."""
        return self._index(platform) < len(self._accepted)

    def rank(self, platform: Platform) -> Rank:
        """A sort key: lower is better; platforms that do not match come last.

        Among equals, more OS features are better, because a match implies that all of them are supported.
        """
        index = self._index(platform)
        if index < len(self._accepted):
            return index, -len(platform.os_features)
        return index + self._index(replace(platform, os_features=())), 0

    def best(self, platforms: Iterable[Platform]) -> Platform | None:
        """The best match, and the first of equals; None if nothing matches."""
        return min((platform for platform in platforms if self.match(platform)), key=self.rank, default=None)

    def _index(self, platform: Platform) -> int:
        matches = (index for index, accepted in enumerate(self._accepted) if accepted.match(platform))
        return next(matches, len(self._accepted))


@dataclass(frozen=True, slots=True)
class _WindowsVersion:
    major: int = 0
    minor: int = 0
    build: int = 0

    @classmethod
    def parse(cls, text: str) -> _WindowsVersion:
        """Read ``major.minor.build[.…]``; any other text is version 0."""
        if text.count(".") < 2:
            return cls()
        fields = text.split(".")[:3]
        numbers = [_unsigned(field, bits) for field, bits in zip(fields, (8, 8, 16), strict=True)]
        return cls() if None in numbers else cls(*(number or 0 for number in numbers))

    def runs(self, container: _WindowsVersion) -> bool:
        """Whether a host of this version runs `container` (Microsoft's table of container compatibility).

        Since Server 2022, a host runs containers back to the preceding long-term release.
        """
        if (self.major, self.minor) != (container.major, container.minor):
            return False
        if self.build < _LTSC_2022:
            return self.build == container.build
        oldest = _LTSC_2025 if self.build > _LTSC_2025 else _LTSC_2022
        return oldest <= container.build <= self.build


@dataclass(frozen=True, slots=True)
class _Accepted:
    platform: Platform
    windows: _WindowsVersion | None

    @classmethod
    def make(cls, platform: Platform) -> _Accepted:
        windows = _WindowsVersion.parse(platform.os_version) if platform.os == "windows" else None
        return cls(platform.normalized(), windows)

    def match(self, candidate: Platform) -> bool:
        normal = candidate.normalized()
        wanted = self.platform
        if (normal.os, normal.architecture) != (wanted.os, wanted.architecture):
            return False
        if normal.variant != wanted.variant:
            return False
        features = set(normal.os_features)
        if self.windows is not None:
            # Matching used to ignore this feature, and existing images rely on that.
            features.discard("win32k")
            if not self._windows_version_fits(candidate.os_version):
                return False
        return features <= set(wanted.os_features)

    def _windows_version_fits(self, version: str) -> bool:
        if self.windows is None or self.windows == _WindowsVersion() or not version:
            return True
        return self.windows.runs(_WindowsVersion.parse(version))


def _runnable(platform: Platform) -> list[Platform]:
    match platform.architecture:
        case "amd64":
            older = _older_variants(platform, lowest=1)
            return [platform, *older, replace(platform, architecture="386", variant="")]
        case "arm":
            return [platform, *_older_variants(platform, lowest=5)]
        case "arm64":
            variants = _arm64_variants(platform.variant or "v8")
            if not variants:
                return []
            arm64 = [replace(platform, variant=variant) for variant in variants]
            return [*arm64, *_runnable(replace(platform, architecture="arm", variant="v8"))]
    return [platform]


def _older_variants(platform: Platform, *, lowest: int) -> list[Platform]:
    try:
        version = gotext.parse_int(platform.variant.removeprefix("v"))
    except ImageError:
        return []
    if version > _HIGHEST_VARIANT:
        return []
    return [replace(platform, variant=f"v{older}") for older in range(version - 1, lowest - 1, -1)]


def _arm64_variants(variant: str) -> list[str]:
    """The variants that a processor of `variant` runs (v9.x includes v8.(x+5)); empty if it is unknown."""
    version = re.fullmatch(r"v(8)(?:\.([0-9]))?|v(9)(?:\.([0-7]))?", variant)
    if version is None:
        return []
    minor = int(version[2] or version[4] or 0)
    if version[1]:
        return _minor_variants(8, minor)
    return _minor_variants(9, minor) + _minor_variants(8, min(minor + 5, 9))


def _minor_variants(major: int, minor: int) -> list[str]:
    return [f"v{major}.{older}" if older else f"v{major}" for older in range(minor, -1, -1)]


def _unsigned(text: str, bits: int) -> int | None:
    digits = text.lstrip("0") or text[:1]
    if not (digits.isascii() and digits.isdigit()) or len(digits) > 5 or int(digits) >= 1 << bits:
        return None
    return int(digits)
