"""Tracking which repositories have a blob, as containerd and BuildKit do."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import takewhile

from exporter.image import Reference
from exporter.image.keys import DISTRIBUTION_SOURCE_PREFIX

DistributionSources = Mapping[str, Mapping[str, str]]
"""Annotations by a blob's digest that list the repositories which have it:
``containerd.io/distribution.source.HOST`` with their names, separated by commas."""

_MOST_CANDIDATES = 3


def mount_candidates(target: Reference, annotations: Mapping[str, str]) -> list[str]:
    """Other repositories in the same registry that probably have a blob, the likeliest first.

    As in containerd, that is the repository with the longest common path prefix.
    """
    own = target.path.split("/")

    def likeness(path: str) -> int:
        return len(list(takewhile(lambda pair: pair[0] == pair[1], zip(own, path.split("/"), strict=False))))

    paths = {path: None for path in annotations.get(_key(target), "").split(",") if path}
    paths.pop(target.path, None)
    return sorted(paths, key=likeness, reverse=True)[:_MOST_CANDIDATES]


def with_repository(reference: Reference, annotations: Mapping[str, str]) -> Mapping[str, str]:
    """Add a repository that has the blob."""
    key = _key(reference)
    paths = {path for path in annotations.get(key, "").split(",") if path} | {reference.path}
    return {**annotations, key: ",".join(sorted(paths))}


def _key(reference: Reference) -> str:
    from yarl import URL  # slow, and only pushes need it

    # Without the port, as in containerd.
    return DISTRIBUTION_SOURCE_PREFIX + (URL(f"//{reference.domain}").host or reference.domain)
