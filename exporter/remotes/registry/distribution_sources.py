"""Which repositories have a blob already, as containerd and BuildKit note it down."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import takewhile

from yarl import URL

from exporter.image import Reference
from exporter.image.keys import DISTRIBUTION_SOURCE_PREFIX

DistributionSources = Mapping[str, Mapping[str, str]]
"""By a blob's digest, annotations that tell which repositories have it:
``containerd.io/distribution.source.HOST`` with their names, separated by commas."""

_MOST_CANDIDATES = 3


def mount_candidates(target: Reference, annotations: Mapping[str, str]) -> list[str]:
    """Other repositories of the same registry that are said to have a blob, the likeliest first.

    As in containerd, that is the one that has most of the beginning of its path in common with the target.
    """
    own = target.path.split("/")

    def likeness(path: str) -> int:
        return len(list(takewhile(lambda pair: pair[0] == pair[1], zip(own, path.split("/"), strict=False))))

    paths = {path: None for path in annotations.get(_key(target), "").split(",") if path}
    paths.pop(target.path, None)
    return sorted(paths, key=likeness, reverse=True)[:_MOST_CANDIDATES]


def with_repository(reference: Reference, annotations: Mapping[str, str]) -> Mapping[str, str]:
    """Note down that a repository has the blob."""
    key = _key(reference)
    paths = {path for path in annotations.get(key, "").split(",") if path} | {reference.path}
    return {**annotations, key: ",".join(sorted(paths))}


def _key(reference: Reference) -> str:
    # containerd leaves the port out.
    return DISTRIBUTION_SOURCE_PREFIX + (URL(f"//{reference.domain}").host or reference.domain)
