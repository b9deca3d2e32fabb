from __future__ import annotations

import socket
from pathlib import Path

import pytest

from exporter.cli.build.attests import annotation_attrs
from exporter.cli.build.inputs import open_inputs
from exporter.cli.build.values import build_args, key_values, parse_cache, parse_secret, parse_ssh
from exporter.cli.failures import UsageError
from exporter.client import CachePlace, Secret, SSHAgent
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
        ("id=s,src=/no/such/file", "there is no file /no/such/file"),
        ('id=s,"src=x', "parse error"),
    ],
)
def test_secrets_that_cannot_be_used(text: str, problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        parse_secret(text, {})


def test_cache_imports_and_exports() -> None:
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


def test_attributes_for_the_frontend(tmp_path: Path) -> None:
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
        *("--build-context", "docker.io/library/python:3.13=docker-image://y"),
        *("--build-context", "example.com/base:latest=docker-image://z"),
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
        "context:python:3.13": "docker-image://y",
        "context:example.com/base": "docker-image://z",
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
        (["CONTEXT/missing"], "unable to prepare context: path '.*/missing' not found"),
        (["CONTEXT/file"], "is not a directory"),
        (["CONTEXT"], "failed to read dockerfile: open .*/Dockerfile: no such file or directory: name"),
        (["CONTEXT", "-f", "CONTEXT/file", "--network", "bridge"], "neither default, host nor none"),
        (["CONTEXT", "-f", "CONTEXT/file", "--build-context", "a=nowhere"], "neither a directory nor a URL"),
        (["CONTEXT", "-f", "CONTEXT/file", "--build-context", "a=oci-layout://x"], "has no digest"),
    ],
)
def test_inputs_that_cannot_be_used(tmp_path: Path, words: list[str], problem: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=problem):
        inputs(*(word.replace("CONTEXT", str(tmp_path)) for word in words))


@pytest.mark.parametrize(
    ("words", "attrs"),
    [
        (["--add-host", "a:1.2.3.4", "--add-host", "b=::1"], {"add-hosts": "a=1.2.3.4,b=::1"}),
        (
            ["--add-host", "a:[::1]", "--add-host", "b=1.1.1.1,2.2.2.2"],
            {"add-hosts": "a=::1,b=1.1.1.1,b=2.2.2.2"},
        ),
        (["--add-host", "a:1.1.1.1,b:2.2.2.2"], {"add-hosts": "a=1.1.1.1,b=2.2.2.2"}),
        (["--shm-size", "64m"], {"shm-size": "67108864"}),
        (["--shm-size", "1.5 KiB"], {"shm-size": "1536"}),
        (["--shm-size", "0"], {}),
        (
            ["--ulimit", "nproc=5", "--ulimit", "nofile=1:2", "--ulimit", "nproc=-1"],
            {"ulimit": "nofile=1:2,nproc=-1:-1"},
        ),
        (["--cgroup-parent", "x"], {"cgroup-parent": "x"}),
        (["--no-cache-filter", "a", "--no-cache-filter", "b,c"], {"no-cache": "a,b,c"}),
        (
            ["--resource", "memory=2g", "--resource", "memory-swap=-1"],
            {"memory": "2147483648", "memswap": "-1"},
        ),
        (["--resource", "cpuset-cpus=0-3", "--resource", "cpu-quota=0"], {"cpusetcpus": "0-3"}),
        (["--provenance", "true"], {"attest:provenance": "type=provenance"}),
        (["--provenance", "mode=max"], {"attest:provenance": "type=provenance,mode=max"}),
        (["--provenance", "false", "--sbom=false"], {}),
        (["--sbom", "generator=x/y"], {"attest:sbom": "type=sbom,generator=x/y"}),
        (["--attest", "type=sbom,b=1,a=2", "--sbom=true"], {"attest:sbom": "type=sbom,a=2,b=1"}),
        (["--attest", "type=sbom,disabled=true", "--sbom=true"], {}),
        (["--attest", 'type=sbom,"a=1,2"'], {"attest:sbom": 'type=sbom,"a=1,2"'}),
    ],
)
def test_flags_of_buildx(tmp_path: Path, words: list[str], attrs: dict[str, str]) -> None:
    (tmp_path / "Dockerfile").touch()
    assert inputs(*words, str(tmp_path))[0] == {"filename": "Dockerfile", **attrs}


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--add-host", "a"], "--add-host: invalid host a: write HOST:IP"),
        (["--add-host", "a:nowhere"], "--add-host: invalid host a:nowhere: nowhere is not an IP address"),
        (["--shm-size", "much"], "--shm-size: invalid size: 'much'"),
        (["--shm-size", "1x"], "--shm-size: invalid size: '1x'"),
        (["--ulimit", "nofile"], "--ulimit: invalid ulimit argument: nofile"),
        (["--ulimit", "files=1"], "--ulimit: invalid ulimit type: files"),
        (["--ulimit", "nofile=1:2:3"], "--ulimit: invalid limits 1:2:3"),
        (["--ulimit", "nofile=3:2"], "soft limit must be less than or equal to hard limit: 3 > 2"),
        (["--no-cache", "--no-cache-filter", "a"], "cannot currently be used together"),
        (["--resource", "disk=1"], "--resource: unknown resource 'disk'"),
        (["--resource", "cpu-quota=x"], "--resource cpu-quota: invalid value 'x'"),
        (["--provenance", "max"], "--provenance: invalid value max"),
        (["--attest", "mode=max"], "--attest: attestation type not specified in 'mode=max'"),
        (["--allow", "network"], "--allow: unknown entitlement network"),
        (["-t", "A"], "--tag: invalid tag 'A': invalid reference format: repository name"),
        (["--cache-from", "A"], "--cache-from: invalid reference 'A'"),
        (["--cache-to", "type=registry,ref=A"], "--cache-to: invalid reference 'A'"),
        (["--ssh", "a=/no/such"], "--ssh a=/no/such: /no/such: no such file or directory"),
        (["--ssh", "default"], "--ssh default: there is no SSH agent: make sure SSH_AUTH_SOCK is set"),
        (["-f", "other"], "failed to read dockerfile: open other: no such file or directory$"),
    ],
)
def test_values_that_cannot_be_used(tmp_path: Path, words: list[str], problem: str) -> None:
    (tmp_path / "Dockerfile").touch()
    with pytest.raises(UsageError, match=problem):
        inputs(*words, str(tmp_path))


@pytest.mark.parametrize(
    ("text", "attrs"),
    [
        ("a=b=c", {"annotation.a": "b=c"}),
        ("index:a=b", {"annotation-index.a": "b"}),
        (
            "index,manifest[linux/arm64]:a=b",
            {"annotation-index.a": "b", "annotation-manifest[linux/arm64].a": "b"},
        ),
        ("manifest-descriptor:org.x=y", {"annotation-manifest-descriptor.org.x": "y"}),
    ],
)
def test_annotations(text: str, attrs: dict[str, str]) -> None:
    assert annotation_attrs([text]) == attrs


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a", "invalid annotation 'a', expected key=value"),
        ("layer:a=b", "unknown annotation type 'layer'"),
        ("Index:a=b", "invalid annotation type 'Index'"),
        ("manifest[a/b/c/d]:a=b", "invalid platform 'a/b/c/d'"),
    ],
)
def test_invalid_annotations_are_refused(text: str, problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        annotation_attrs([text])


def test_raw_sockets(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        for text, is_raw in (("a=PATH,raw=true", True), ("a=raw=1,PATH", True), ("a=PATH,raw=false", False)):
            [agent] = parse_ssh([text.replace("PATH", str(tmp_path / "s"))], {}, needs_agent=False)
            assert agent == SSHAgent("a", [str(tmp_path / "s")], is_raw)
    for text, problem in (
        ("a=raw=true", "exactly one"),
        ("a=b,raw=maybe", "invalid value for 'raw': maybe"),
    ):
        with pytest.raises(UsageError, match=problem):
            parse_ssh([text], {}, needs_agent=False)


def test_a_remote_context_with_a_dockerfile_from_here(tmp_path: Path) -> None:
    (tmp_path / "Other").touch()
    attrs, directories = inputs("-f", str(tmp_path / "Other"), "https://example.com/app.git")
    assert (attrs["filename"], attrs["dockerfilekey"]) == ("Other", "dockerfile")
    assert directories == {"dockerfile": tmp_path}
    with pytest.raises(UsageError, match="no such file"):
        inputs("-f", str(tmp_path / "missing"), "https://example.com/app.git")
