"""Which repositories have a blob already."""

from __future__ import annotations

import pytest

from exporter.image import Reference
from exporter.remotes.registry.distribution_sources import mount_candidates, with_repository

KEY = "containerd.io/distribution.source.r.example"
TARGET = Reference.parse("r.example:5000/team/app/web:v1")


@pytest.mark.parametrize(
    ("annotations", "expected"),
    [
        ({}, []),
        ({"containerd.io/distribution.source.other.example": "a"}, []),
        ({KEY: ""}, []),
        ({KEY: "team/app/web"}, []),
        (
            {KEY: "base,,team/other,team/app/base,team/app/web"},
            ["team/app/base", "team/other", "base"],
        ),
        ({KEY: "a,b,c,d,e,team/x"}, ["team/x", "a", "b"]),
        ({KEY: "teamwork/a,team/b"}, ["team/b", "teamwork/a"]),
    ],
)
def test_likely_sources_come_first(annotations: dict[str, str], expected: list[str]) -> None:
    assert mount_candidates(TARGET, annotations) == expected


def test_sources_are_recorded_in_labels() -> None:
    first = with_repository(TARGET, {})
    assert first == {KEY: "team/app/web"}
    assert with_repository(TARGET, first) == first
    second = with_repository(Reference.parse("r.example/a"), {**first, "x": "y"})
    assert second == {KEY: "a,team/app/web", "x": "y"}
    assert with_repository(Reference.parse("alpine"), {}) == {
        "containerd.io/distribution.source.docker.io": "library/alpine"
    }
