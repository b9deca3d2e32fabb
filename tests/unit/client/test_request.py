"""The options of a build, and the frontend's attributes for them."""

from __future__ import annotations

from pathlib import Path

import pytest

from exporter.client import CachePlace, Secret, SSHAgent
from exporter.client.request import (
    BuildOptions,
    agents_of,
    cache_places,
    checked_options,
    entitlements_of,
    frontend_attributes,
    frontend_of,
    secrets_of,
    tags_of,
)
from exporter.errors import InvalidArgumentError
from exporter.image import Platform


@pytest.mark.parametrize(
    ("options", "attrs"),
    [
        ({}, {}),
        ({"args": {"A": "1"}, "labels": {"l": "2"}}, {"build-arg:A": "1", "label:l": "2"}),
        ({"target": "t", "pull": True}, {"target": "t", "image-resolve-mode": "pull"}),
        ({"platforms": "linux/arm64"}, {"platform": "linux/arm64"}),
        (
            {"platforms": ["linux/amd64", Platform(os="linux", architecture="arm", variant="v7")]},
            {"platform": "linux/amd64,linux/arm/v7"},
        ),
        ({"no_cache": True}, {"no-cache": ""}),
        ({"no_cache": False}, {}),
        ({"no_cache": ["a", "b"]}, {"no-cache": "a,b"}),
        ({"no_cache": "a"}, {"no-cache": "a"}),
        ({"network": "none"}, {"force-network-mode": "none"}),
        ({"network": "default"}, {}),
        ({"add_hosts": {"a": "1.2.3.4", "b": "::1"}}, {"add-hosts": "a=1.2.3.4,b=::1"}),
        ({"shm_size": 1 << 20}, {"shm-size": "1048576"}),
        (
            {"attestations": {"provenance": "max", "sbom": True}},
            {"attest:provenance": "mode=max", "attest:sbom": ""},
        ),
        ({"attestations": {"provenance": False}}, {}),
        (
            {"attestations": {"sbom": {"generator": "a,b", "x": "1"}}},
            {"attest:sbom": '"generator=a,b",x=1'},
        ),
    ],
)
def test_attributes(options: BuildOptions, attrs: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    assert frontend_attributes(options) == attrs


def test_the_epoch_comes_from_the_environment_as_in_buildctl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "7")
    assert frontend_attributes({}) == {"build-arg:SOURCE_DATE_EPOCH": "7"}
    assert frontend_attributes({"args": {"SOURCE_DATE_EPOCH": "8"}}) == {"build-arg:SOURCE_DATE_EPOCH": "8"}


def test_none_means_that_an_option_is_left_out() -> None:
    assert checked_options({"target": None, "tags": "a"}) == {"tags": "a"}
    with pytest.raises(TypeError, match="a build has no option 'tag'"):
        checked_options({"tag": "a"})  # type: ignore[typeddict-unknown-key]


def test_frontends() -> None:
    assert frontend_of({}, "dockerfile.v0") == ("dockerfile.v0", {})
    assert frontend_of({"frontend": "docker/dockerfile:1"}, "x") == (
        "gateway.v0",
        {"source": "docker/dockerfile:1"},
    )


def test_the_host_s_network_implies_permission() -> None:
    assert entitlements_of({"network": "host"}) == ["network.host"]
    assert entitlements_of({"entitlements": ["security.insecure"]}) == ["security.insecure"]


def test_tags() -> None:
    assert tags_of({"tags": "a:b"}) == ["a:b"]
    assert tags_of({"tags": ("a", "b")}) == ["a", "b"]
    with pytest.raises(InvalidArgumentError, match="tags: invalid name 'UPPER'"):
        tags_of({"tags": ["UPPER"]})


async def test_secrets_of_all_kinds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in a file")
    monkeypatch.setenv("A_SECRET", "in a variable")

    async def fetch() -> bytes:
        return b"from a coroutine"

    secrets = secrets_of(
        {
            "secrets": {
                "a": "a text",
                "b": b"bytes",
                "c": tmp_path / "file",
                "d": lambda: "from a function",
                "e": fetch,
                "f": Secret("f", env="A_SECRET"),
            }
        }
    )
    assert [await secret.get() for secret in secrets] == [
        b"a text",
        b"bytes",
        b"in a file",
        b"from a function",
        b"from a coroutine",
        b"in a variable",
    ]
    assert "a text" not in repr(secrets)


async def test_a_function_cannot_return_a_secret_that_is_too_big() -> None:
    with pytest.raises(InvalidArgumentError, match="secret x is too big"):
        await Secret("x", provider=lambda: bytes(500 * 1024 + 1)).get()


def test_agents() -> None:
    assert agents_of({}, needs_agent=False) == []
    assert agents_of({}, needs_agent=True) == [SSHAgent()]
    assert agents_of({"ssh": False}, needs_agent=True) == []
    assert agents_of({"ssh": {"a": Path("/key"), "": None, "b": ["/x", "/y"]}}, needs_agent=False) == [
        SSHAgent("a", ["/key"]),
        SSHAgent("default", []),
        SSHAgent("b", ["/x", "/y"]),
    ]


def test_places_of_cache() -> None:
    local = CachePlace("local", {"src": "d"})
    assert cache_places(["a/b", local], {"mode": "min"}) == [
        CachePlace("registry", {"mode": "min", "ref": "a/b"}),
        local,
    ]
    assert cache_places("a/b", {}) == [CachePlace("registry", {"ref": "a/b"})]
    assert cache_places("type=local,dest=d", {"mode": "min"}) == [
        CachePlace("local", {"mode": "min", "dest": "d"})
    ]


@pytest.mark.parametrize("text", ["A/B", "type=,ref=x", "type=local,dest"])
def test_places_of_cache_that_are_malformed(text: str) -> None:
    with pytest.raises(InvalidArgumentError):
        cache_places(text, {})
