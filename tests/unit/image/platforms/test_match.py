from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.image.platforms.match import PlatformMatcher
from exporter.image.platforms.platform import Platform


def windows(version: str = "", *features: str) -> Platform:
    return Platform(os="windows", architecture="amd64", os_version=version, os_features=features)


@pytest.mark.parametrize(
    ("machine", "runs"),
    [
        ("linux/amd64", ["linux/amd64", "linux/386"]),
        ("linux/amd64/v3", ["linux/amd64/v3", "linux/amd64/v2", "linux/amd64", "linux/386"]),
        ("linux/arm/v7", ["linux/arm/v7", "linux/arm/v6", "linux/arm/v5"]),
        ("linux/arm/v8", ["linux/arm/v8", "linux/arm/v7", "linux/arm/v6", "linux/arm/v5"]),
        ("linux/arm64", ["linux/arm64", "linux/arm/v8", "linux/arm/v7", "linux/arm/v6", "linux/arm/v5"]),
        ("linux/arm64/v8.1", ["linux/arm64/v8.1", "linux/arm64", "linux/arm/v8"]),
        ("linux/arm64/v9.1", ["linux/arm64/v9.1", "linux/arm64/v9", "linux/arm64/v8.6", "linux/arm64/v8.5"]),
        ("linux/s390x", ["linux/s390x"]),
    ],
)
def test_platforms_of_a_machine_are_ordered_best_first(machine: str, runs: list[str]) -> None:
    matcher = PlatformMatcher.only(Platform.parse(machine))
    platforms = [Platform.parse(specifier) for specifier in runs]
    assert all(map(matcher.match, platforms))
    backwards = platforms[::-1]
    assert sorted(backwards, key=matcher.rank) == platforms
    assert matcher.best(backwards) == platforms[0]


@pytest.mark.parametrize(
    ("machine", "other"),
    [
        ("linux/amd64", "linux/amd64/v2"),
        ("linux/amd64", "windows/amd64"),
        ("linux/amd64", "linux/arm64"),
        ("linux/386", "linux/amd64"),
        ("linux/arm/v6", "linux/arm/v7"),
        ("linux/arm/v7", "linux/arm64"),
        ("linux/arm64", "linux/arm64/v8.1"),
        ("linux/arm64/v9.1", "linux/arm64/v8.7"),
        ("linux/arm64/v10", "linux/arm64"),
        ("linux/amd64/v999999999999", "linux/amd64/v2"),
    ],
)
def test_platforms_that_a_machine_cannot_run(machine: str, other: str) -> None:
    matcher = PlatformMatcher.only(Platform.parse(machine))
    assert not matcher.match(Platform.parse(other))
    assert matcher.best([Platform.parse(other)]) is None


def test_a_matcher_accepts_only_its_platform() -> None:
    matcher = PlatformMatcher(Platform.parse("linux/arm64/v8"))
    assert matcher.match(Platform.parse("linux/aarch64"))
    assert not matcher.match(Platform.parse("linux/arm/v7"))


@pytest.mark.parametrize(
    ("host", "image", "fits"),
    [
        ("10.0.17763.1", "10.0.17763.999", True),
        ("10.0.17763", "10.0.14393", False),
        ("10.0.20348", "10.0.20348.1", True),
        ("10.0.20348", "10.0.17763", False),
        ("10.0.22621", "10.0.20348", True),
        ("10.0.22621", "10.0.25398", False),
        ("10.0.26100", "10.0.20348", True),
        ("10.0.27000", "10.0.20348", False),
        ("10.0.27000", "10.0.26100", True),
        ("10.1.20348", "10.0.20348", False),
        ("", "10.0.14393", True),
        ("10.0", "10.0.14393", True),
        ("10.0.70000", "10.0.14393", True),  # no build number: taken for no version
        ("10.0.20348", "", True),
        ("10.0.20348", "x.y.z", False),
    ],
)
def test_windows_versions(host: str, image: str, fits: bool) -> None:
    assert PlatformMatcher(windows(host)).match(windows(image)) is fits


def test_os_features_must_be_supported() -> None:
    matcher = PlatformMatcher(windows("10.0.17763", "b", "a"))
    assert matcher.match(windows("", "a"))
    assert matcher.match(windows("", "win32k", "b"))
    assert not matcher.match(windows("", "a", "c"))
    assert not PlatformMatcher(Platform(os="linux", architecture="amd64")).match(
        Platform(os="linux", architecture="amd64", os_features=("win32k",))
    )


def test_more_supported_features_are_better_and_unsupported_ones_come_last() -> None:
    matcher = PlatformMatcher(windows("", "a", "b"))
    ranked = [
        windows("", "a", "b"),
        windows("", "a"),
        windows(),
        windows("", "c"),
        Platform.parse("linux/amd64"),
    ]
    backwards = ranked[::-1]
    assert sorted(backwards, key=matcher.rank) == ranked


WORDS = st.sampled_from(
    ["linux", "windows", "amd64", "arm64", "arm", "v1", "v8", "v9.3", "v-1", "10.0.20348", "x", ""]
)
PLATFORMS = st.builds(Platform, os=WORDS, architecture=WORDS, os_version=WORDS, variant=WORDS | st.text())


@given(PLATFORMS, PLATFORMS)
def test_rank_and_match_agree(wanted: Platform, candidate: Platform) -> None:
    for matcher in (PlatformMatcher(wanted), PlatformMatcher.only(wanted)):
        assert (matcher.best([candidate]) is candidate) is matcher.match(candidate)
    assert PlatformMatcher(wanted).match(wanted) or wanted.os_version
