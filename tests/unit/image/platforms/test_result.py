from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.image.keys import MetadataValueError
from exporter.image.platforms.platform import Platform, host_platform
from exporter.image.platforms.result import ResultPlatform, parse_platforms

AMD64 = Platform(os="linux", architecture="amd64")
ARM64 = Platform(os="linux", architecture="arm64")


def listed(*entries: object) -> dict[str, bytes]:
    return {"refs.platforms": json.dumps({"Platforms": entries}).encode()}


def test_listed_platforms_are_normalised_and_keep_their_ids() -> None:
    metadata = listed(
        {"ID": "mine", "Platform": {"os": "linux", "architecture": "x86_64"}},
        {"ID": "linux/arm64/v8", "Platform": {"os": "linux", "architecture": "arm64", "variant": "v8"}},
    )
    assert parse_platforms(metadata) == (
        ResultPlatform("mine", AMD64),
        ResultPlatform("linux/arm64/v8", ARM64),
    )


def test_a_list_comes_before_the_config() -> None:
    metadata = listed({"ID": "a", "Platform": {"os": "linux", "architecture": "arm64"}})
    metadata["containerimage.config"] = b"not looked at"
    assert parse_platforms(metadata) == (ResultPlatform("a", ARM64),)


def test_the_config_has_the_platform_without_a_list() -> None:
    config = b'{"OS":"windows","architecture":"amd64","os.version":"10.0","os.features":["b","a"]}'
    (entry,) = parse_platforms({"containerimage.config": config})
    assert entry.id == "windows(10.0+a+b)/amd64"
    assert entry.platform == Platform(
        os="windows", architecture="amd64", os_version="10.0", os_features=("a", "b")
    )


def test_the_host_is_the_last_resort() -> None:
    arm = Platform(os="linux", architecture="arm64", variant="v8")
    assert parse_platforms({}, host=arm) == (ResultPlatform("linux/arm64", ARM64),)
    assert parse_platforms({"containerimage.config": b"{}"}, host=arm) == (
        ResultPlatform("linux", Platform(os="linux")),
    )
    assert parse_platforms({})[0].platform == host_platform().normalized()


@pytest.mark.parametrize(
    ("metadata", "key", "message"),
    [
        ({"refs.platforms": b""}, "refs.platforms", "invalid empty platforms index for exporter"),
        ({"refs.platforms": b"null"}, "refs.platforms", "invalid empty platforms index for exporter"),
        (listed({"ID": ""}), "refs.platforms", "invalid empty platform key for exporter"),
        (
            listed(
                {"ID": "a", "Platform": {"architecture": "arm", "os.features": ["x", "y"], "variant": "v7"}}
            ),
            "refs.platforms",
            "invalid platform value {arm   [x y] v7} for exporter",
        ),
        (
            {"refs.platforms": b"{"},
            "refs.platforms",
            "failed to parse platforms passed to provenance processor: unexpected end of JSON input",
        ),
        ({"containerimage.config": b""}, "containerimage.config", "unexpected end of JSON input"),
        (
            {"containerimage.config": b'{"os":"linux"}'},
            "containerimage.config",
            "invalid image config: os and architecture must be specified together",
        ),
    ],
)
def test_refusals(metadata: dict[str, bytes], key: str, message: str) -> None:
    with pytest.raises(MetadataValueError) as error:
        parse_platforms(metadata)
    assert (error.value.key, str(error.value)) == (key, message)
    assert error.value.field == f"source.metadata[{key}]"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["Platforms", "ID", "platform", "os", "architecture", "os.features"]), inner
        )
    ),
).map(lambda value: json.dumps(value).encode())


@given(
    st.dictionaries(
        st.sampled_from(["refs.platforms", "containerimage.config"]), JSON | st.binary(), min_size=1
    )
)
def test_any_metadata_is_read_or_refused(metadata: dict[str, bytes]) -> None:
    try:
        platforms = parse_platforms(metadata)
    except MetadataValueError as error:
        assert error.key in metadata
        return
    assert platforms
    assert all(entry.id for entry in platforms)
