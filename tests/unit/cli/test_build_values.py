from __future__ import annotations

from pathlib import Path

import pytest

from exporter.cli.build.inputs import open_inputs
from exporter.cli.build.values import build_args, key_values, parse_cache, parse_secret
from exporter.cli.failures import UsageError
from exporter.client import CachePlace, Secret
from tests.command import parse_args


def test_keys_and_values() -> None:
    assert key_values(["a=1", "b=x=y", "a=2", "c="], "--opt") == {"a": "2", "b": "x=y", "c": ""}
    for text in ("a", "=1"):
        with pytest.raises(UsageError, match="invalid value for --opt"):
            key_values([text], "--opt")


def test_build_arguments() -> None:
    assert build_args(["A=1", "B", "C"], {"B": "2", "D": "3"}) == {"A": "1", "B": "2"}
    assert build_args([], {"SOURCE_DATE_EPOCH": "5"}) == {"SOURCE_DATE_EPOCH": "5"}
    assert build_args(["SOURCE_DATE_EPOCH=6"], {"SOURCE_DATE_EPOCH": "5"}) == {"SOURCE_DATE_EPOCH": "6"}


def test_secrets(tmp_path: Path) -> None:
    file = tmp_path / "a,b"
    file.touch()
    assert parse_secret(f'id=s,"src={file}"', {}) == Secret("s", file=file)
    assert parse_secret(f'type=file,id=s,"source={file}"', {}) == Secret("s", file=file)
    assert parse_secret("id=s,env=V", {}) == Secret("s", env="V")
    assert parse_secret("id=s,type=env,src=V", {}) == Secret("s", env="V")
    assert parse_secret("id=V", {"V": "x"}) == Secret("V", env="V")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("src=x", "has no id"),
        ("id=s,what=x", "unexpected key 'what'"),
        ("id=s,type=vault", "unsupported secret type 'vault'"),
        ("id", "must be a key=value pair"),
        ("id=s,src=/no/such/file", "/no/such/file does not exist"),
        ('id=s,"src=x', "parse error"),
    ],
)
def test_secrets_that_cannot_be_used(text: str, problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        parse_secret(text, {})


def test_places_of_cache() -> None:
    assert parse_cache("type=local,dest=d", "--cache-to", {"mode": "min"}) == CachePlace(
        "local", {"mode": "min", "dest": "d"}
    )
    assert parse_cache("type=local,dest=d,mode=max", "--cache-to", {"mode": "min"}).attrs["mode"] == "max"
    assert parse_cache("r.example/c:v1", "--cache-from", {}) == CachePlace(
        "registry", {"ref": "r.example/c:v1"}
    )
    with pytest.raises(UsageError, match="requires type=<type>"):
        parse_cache("type=,ref=x", "--cache-from", {})


def inputs(*words: str, **environ: str) -> tuple[dict[str, str], dict[str, Path]]:
    options = parse_args("build", *words)
    with open_inputs(options, environ) as found:
        return found.attrs, found.directories


def test_what_the_frontend_is_told(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").touch()
    words = [
        *(
            "--build-arg",
            "A=1",
            "--build-arg",
            "B",
            "--label",
            "l=x",
            "--target",
            "t",
            "--no-cache",
            "--pull",
        ),
        *("--platform", "linux/amd64,linux/arm64", "--platform", "linux/386", "--network", "host"),
        *("--opt", "build-arg:A=2", "--build-context", "other=docker-image://x"),
    ]
    attrs, directories = inputs(*words, str(tmp_path), B="b")
    assert attrs == {
        "build-arg:A": "2",
        "build-arg:B": "b",
        "label:l": "x",
        "target": "t",
        "no-cache": "",
        "image-resolve-mode": "pull",
        "platform": "linux/amd64,linux/arm64,linux/386",
        "force-network-mode": "host",
        "filename": "Dockerfile",
        "context:other": "docker-image://x",
    }
    assert directories == {"context": tmp_path, "dockerfile": tmp_path}


def test_the_dockerfile_may_be_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "context").mkdir()
    (tmp_path / "files").mkdir()
    file = tmp_path / "files" / "My.Dockerfile"
    file.touch()
    words = ["-f", str(file), "--build-context", f"more={tmp_path}", str(tmp_path / "context")]
    attrs, directories = inputs(*words)
    assert attrs == {"filename": "My.Dockerfile", "context:more": "local:more"}
    expected = {"context": tmp_path / "context", "dockerfile": tmp_path / "files", "more": tmp_path}
    assert directories == expected


def test_a_context_in_a_repository() -> None:
    url = "https://git.example/repo.git#main"
    assert inputs(url, "-f", "sub/Dockerfile") == ({"context": url, "filename": "sub/Dockerfile"}, {})


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["CONTEXT/missing"], "does not exist"),
        (["CONTEXT/file"], "is not a directory"),
        (["CONTEXT"], "the Dockerfile .*/Dockerfile does not exist: name it with --file"),
        (["CONTEXT", "-f", "CONTEXT/file", "--network", "bridge"], "neither default, host nor none"),
        (["CONTEXT", "-f", "CONTEXT/file", "--build-context", "a=nowhere"], "neither a directory nor a URL"),
        (["CONTEXT", "-f", "CONTEXT/file", "--build-context", "a=oci-layout://x"], "has no digest"),
    ],
)
def test_inputs_that_cannot_be_used(tmp_path: Path, words: list[str], problem: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=problem):
        inputs(*(word.replace("CONTEXT", str(tmp_path)) for word in words))
