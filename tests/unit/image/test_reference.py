from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.errors import ImageError
from exporter.image.reference import Reference

SHA256 = "sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("text", "domain", "path", "tag", "digest"),
    [
        ("ubuntu", "docker.io", "library/ubuntu", None, None),
        ("user/app:1.2", "docker.io", "user/app", "1.2", None),
        ("index.docker.io/x", "docker.io", "library/x", None, None),
        ("localhost/x", "localhost", "x", None, None),
        ("[::1]:5000/a/b", "[::1]:5000", "a/b", None, None),
        ("UPPER/x", "UPPER", "x", None, None),
        (f"r.io/x:t@{SHA256}", "r.io", "x", "t", SHA256),
        ("foo_bar.x/y", "", "foo_bar.x/y", None, None),
    ],
)
def test_parts(text: str, domain: str, path: str, tag: str | None, digest: str | None) -> None:
    assert Reference.parse(text) == Reference(domain=domain, path=path, tag=tag, digest=digest)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "invalid reference format"),
        ("a:", "invalid reference format"),
        ("a\n", "invalid reference format"),
        ("a:b\n", "invalid reference format"),
        ("a:é", "invalid reference format"),
        ("a/Bé", "invalid reference format: repository name (a/Bé) must be lowercase"),
        ("a:\u212a", "repository name must be lowercase"),
        ("a:\u0130", "repository name must be lowercase"),
        ("\u212a.io/a", "repository name must be lowercase"),
        ("a" * 248, "repository name must not be more than 255 characters"),
        ("f" * 64, f"invalid repository name ({'f' * 64}), cannot specify 64-byte hexadecimal strings"),
        ("a@sha256:" + "0" * 63, "invalid checksum digest length"),
        ("a@sha256:" + "A" * 64, "invalid checksum digest format"),
        (
            "a@Sha256:" + "0" * 64,
            "invalid reference format: repository name (library/a@Sha256) must be lowercase",
        ),
        ("r.io/a:t@Sha256:" + "0" * 64, "invalid checksum digest format"),
        ("a@sha256+b64:" + "0" * 64, "unsupported digest algorithm"),
    ],
)
def test_refusals(text: str, message: str) -> None:
    with pytest.raises(ImageError) as error:
        Reference.parse(text)
    assert str(error.value) == message


def test_length_counts_the_path_only() -> None:
    assert len(Reference.parse(f"registry.example.com/{'a' * 255}").path) == 255


def test_a_digest_can_be_set() -> None:
    reference = Reference.parse("app:1")
    assert str(reference.with_digest(SHA256)) == f"docker.io/library/app:1@{SHA256}"
    with pytest.raises(ImageError, match="^invalid digest format$"):
        reference.with_digest("sha256:0")


@pytest.mark.parametrize(
    ("text", "familiar"),
    [
        ("docker.io/library/app", "app"),
        ("docker.io/library/a/b:1", "library/a/b:1"),
        (f"docker.io/user/app@{SHA256}", f"user/app@{SHA256}"),
        ("example.com/library/app", "example.com/library/app"),
    ],
)
def test_familiar(text: str, familiar: str) -> None:
    assert Reference.parse(text).familiar_string == familiar


def test_only_a_bare_name_gets_the_default_tag() -> None:
    assert Reference.parse("a").tag_name_only().tag == "latest"
    assert Reference.parse("a:1").tag_name_only().tag == "1"
    assert Reference.parse(f"a@{SHA256}").tag_name_only().tag is None


COMPONENT = st.from_regex(r"[a-z0-9]+((_|__|\.|-+)[a-z0-9]+){0,2}", fullmatch=True)
DOMAIN = st.from_regex(r"([a-zA-Z0-9]+\.[a-z]+|localhost|\[::[0-9a-f]+\])(:[0-9]{1,5})?/", fullmatch=True)
TAG = st.from_regex(r"(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?", fullmatch=True)
DIGEST = st.from_regex(r"(@sha(256:[0-9a-f]{64}|512:[0-9a-f]{128}))?", fullmatch=True)


@st.composite
def written_references(draw: st.DrawFn) -> str:
    path = "/".join(draw(st.lists(COMPONENT, min_size=1, max_size=3)))
    return draw(DOMAIN | st.just("")) + path + draw(TAG) + draw(DIGEST)


@given(written_references())
def test_parsing_is_idempotent(text: str) -> None:
    try:
        reference = Reference.parse(text)
    except ImageError as error:  # only a name that is too long, or all hexadecimal
        assert "255 characters" in str(error) or "64-byte hexadecimal" in str(error)
        return
    if reference.domain:
        assert Reference.parse(str(reference)) == reference
    assert reference.tag_name_only().tag_name_only() == reference.tag_name_only()


@given(st.text(st.characters(codec=None)) | st.text("aB0._-/:@[]sha256\u212a", max_size=200))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    try:
        reference = Reference.parse(text)
    except ImageError:
        return
    assert reference.path
