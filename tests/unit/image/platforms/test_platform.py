from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.errors import ImageError
from exporter.image.platforms.platform import Platform, host_platform, machine_platform

ARM_V6 = Platform(os="linux", architecture="arm", variant="v6")
ARM_V7 = Platform(os="linux", architecture="arm", variant="v7")
AMD64 = Platform(os="linux", architecture="amd64")


@pytest.mark.parametrize(
    ("specifier", "host", "platform"),
    [
        ("windows", AMD64, Platform(os="windows", architecture="amd64")),
        (
            "windows(10.0+b+a)",
            AMD64,
            Platform(os="windows", architecture="amd64", os_version="10.0", os_features=("b", "a")),
        ),
        ("linux", ARM_V6, ARM_V6),
        ("linux", ARM_V7, Platform(os="linux", architecture="arm")),
        (
            "linux",
            Platform(os="linux", architecture="arm64", variant="v8"),
            Platform(os="linux", architecture="arm64"),
        ),
        ("aarch64", Platform(os="darwin", architecture="arm64"), Platform(os="darwin", architecture="arm64")),
        ("macOS", AMD64, Platform(os="darwin", architecture="amd64")),
    ],
)
def test_a_lone_word_is_completed_by_the_host(specifier: str, host: Platform, platform: Platform) -> None:
    assert Platform.parse(specifier, host=host) == platform


def test_an_empty_operating_system_becomes_the_hosts() -> None:
    host = Platform(os="freebsd", architecture="riscv64")
    assert Platform(architecture="x86_64").normalized(host=host) == Platform(
        os="freebsd", architecture="amd64"
    )


@pytest.mark.parametrize(
    ("platform", "text"),
    [
        (Platform(), "unknown"),
        (Platform(os="linux"), "linux"),
        (Platform(os="a", architecture="../b"), "b"),
        (Platform(os="..", architecture="/x/./y//", variant="../.."), ".."),
        (Platform(os="/", architecture="..", variant="v1"), "/v1"),
        (Platform(os="."), "."),
        (
            Platform(os="windows", os_version="1/(2)+%", os_features=("b", "", "a", "b")),
            "windows(1%2F%282%29%2B%25+a+b)",
        ),
        (Platform(os="windows", os_features=("",)), "windows"),
        (Platform(os="windows", os_features=("x",)), "windows(+x)"),
    ],
)
def test_format_all(platform: Platform, text: str) -> None:
    assert platform.format_all() == text
    assert str(platform) == text


def test_percent_escapes_that_are_not_utf8_are_replaced() -> None:
    assert Platform.parse("windows(%e2%82%ac%ff)/amd64").os_version == "€\ufffd"


@pytest.mark.parametrize(
    ("os", "machine", "bits", "platform"),
    [
        ("linux", "x86_64", 64, AMD64),
        ("linux", "x86_64", 32, Platform(os="linux", architecture="386")),
        ("linux", "i686", 32, Platform(os="linux", architecture="386")),
        ("windows", "AMD64", 64, Platform(os="windows", architecture="amd64")),
        ("linux", "aarch64", 64, Platform(os="linux", architecture="arm64", variant="v8")),
        ("darwin", "arm64", 64, Platform(os="darwin", architecture="arm64", variant="v8")),
        ("linux", "aarch64", 32, Platform(os="linux", architecture="arm", variant="v8")),
        ("linux", "armv7l", 32, ARM_V7),
        ("linux", "armv6l", 32, ARM_V6),
        ("linux", "ppc64le", 64, Platform(os="linux", architecture="ppc64le")),
        ("linux", "s390x", 64, Platform(os="linux", architecture="s390x")),
        ("linux", "riscv64", 64, Platform(os="linux", architecture="riscv64")),
        ("linux", "loongarch64", 64, Platform(os="linux", architecture="loong64")),
        ("linux", "mips64", 64, Platform(os="linux", architecture="mips64le")),
        ("linux", "mips", 32, Platform(os="linux", architecture="mipsle")),
    ],
)
def test_machines(os: str, machine: str, bits: int, platform: Platform) -> None:
    assert machine_platform(os, machine, bits=bits, byte_order="little") == platform


def test_the_host_has_a_canonical_platform() -> None:
    host = host_platform()
    assert host.os
    assert host.architecture
    assert Platform.parse(host.os, host=host).architecture == host.architecture


@pytest.mark.parametrize(
    "value",
    [
        {"os": 1},
        {"architecture": ["amd64"]},
        {"os.features": "win32k"},
        {"os.features": [1]},
        {"variant": {}},
    ],
)
def test_objects_of_wrong_types_are_refused(value: dict[str, object]) -> None:
    with pytest.raises(ImageError, match="platform: "):
        Platform.from_dict(value)


WORD = st.from_regex(r"[A-Za-z0-9_-]+", fullmatch=True)
TEXT = st.text(st.characters(codec="utf-8"))


@st.composite
def specifiable_platforms(draw: st.DrawFn) -> Platform:
    """Platforms that a specifier can express: parsed from one."""
    os, architecture = draw(WORD), draw(WORD)
    version = draw(st.text(st.characters(codec="ascii", exclude_characters="*")).filter(_printable))
    features = draw(st.lists(st.from_regex(r"[A-Za-z0-9_.+/()%-]+", fullmatch=True), max_size=3))
    plain = Platform(os=os, architecture=architecture, os_version=version, os_features=tuple(features))
    return Platform.parse(plain.format_all())


def _printable(text: str) -> bool:
    return all(character.isalnum() or character in "_.%+()/-" for character in text)


@given(specifiable_platforms())
def test_parsing_undoes_formatting(platform: Platform) -> None:
    again = Platform.parse(platform.format_all())
    assert again.format_all() == platform.format_all()
    assert again.normalized() == platform.normalized()


platforms = st.builds(
    Platform,
    os=TEXT | st.sampled_from(["linux", "macOS", "WINDOWS"]),
    architecture=TEXT | st.sampled_from(["x86_64", "arm", "arm64", "armhf", "I386"]),
    os_version=TEXT,
    os_features=st.lists(TEXT).map(tuple),
    variant=TEXT | st.sampled_from(["v1", "7", "v8.0", "9"]),
)


@given(platforms)
def test_normalising_twice_changes_nothing(platform: Platform) -> None:
    normalized = platform.normalized(host=AMD64)
    assert normalized.normalized(host=AMD64) == normalized


@given(platforms)
def test_objects_round_trip(platform: Platform) -> None:
    assert Platform.from_dict(platform.to_dict()) == platform


@given(st.text(st.characters(codec=None)) | st.text("linuxwdos/()+%.*0a_-"))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    try:
        platform = Platform.parse(text)
    except ImageError:
        return
    assert platform.os
    assert platform.architecture
