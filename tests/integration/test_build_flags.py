"""Flags of ``docker buildx build`` in ``build``: both make the same, and print the same."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import re
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.builder import Builder, own_builder
from tests.integration.cli_process import Result, run
from tests.integration.dockerfiles import Case, write_context

DOCKERFILE = (
    "ARG MODE=fast\nFROM scratch AS base\nCOPY busybox /bin/sh\n"
    "# all of it\nFROM base AS all\nRUN busybox true; cat /etc/hosts >/hosts; ulimit -n >/files\n"
)
LINTED = "from scratch as base\nCOPY busybox /bin/sh\nFROM base AS Top\nCMD sh\n"


@pytest.fixture(scope="module")
def builder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Builder]:
    with own_builder(tmp_path_factory.mktemp("home")) as found:
        yield found


def blobs(path: Path) -> set[str]:
    """The digests that an archive is made of, without provenance: that has times in it."""
    with tarfile.open(path) as archive:
        names = archive.getnames()
        index = json.load(archive.extractfile("index.json"))  # type: ignore[arg-type]
    digests = {name.removeprefix("blobs/sha256/") for name in names if name.startswith("blobs/sha256/")}
    return digests | {json.dumps(entry, sort_keys=True) for entry in index["manifests"]}


def without_session(text: str) -> str:
    """The frontend's answer, without how the daemon gets at the Dockerfile: that names the session."""
    return re.sub(r'"definition": \{.*?\n      \},', "", text, flags=re.DOTALL)


@pytest.mark.parametrize(
    "words",
    [
        ["--annotation", "a=b", "--annotation", "manifest,manifest-descriptor:c=d,e"],
        ["--annotation", "index,manifest[linux/386]:a=b", "--platform", "linux/amd64,linux/386"],
        ["--add-host", "one:1.2.3.4", "--add-host", "two=::1"],
        ["--ulimit", "nofile=123:456", "--shm-size", "8m"],
        ["--no-cache-filter", "all", "--build-arg", "SOURCE_DATE_EPOCH=1"],
        ["--label", "x=y", "--target", "base", "--provenance=false", "--sbom=false"],
    ],
)
def test_the_same_image_as_buildx(builder: Builder, tmp_path: Path, words: list[str]) -> None:
    context = write_context(tmp_path / "context", Case(DOCKERFILE))
    common = ["-t", "example.com/x:v1", "--build-arg", "SOURCE_DATE_EPOCH=1", *words]
    output = f"type=oci,rewrite-timestamp=true,dest={tmp_path}"
    theirs = builder.buildx("build", *common, "-o", f"{output}/theirs.tar", str(context))
    assert theirs.returncode == 0, theirs.stderr
    ours = run(
        tmp_path, "build", "--addr", builder.address, *common, "-o", f"{output}/ours.tar", str(context)
    )
    assert ours.status == 0, ours.err
    assert blobs(tmp_path / "ours.tar") == blobs(tmp_path / "theirs.tar")


def packed(context: Path) -> bytes:
    """A context as an archive, as ``tar`` would send it."""
    data = io.BytesIO()
    # Not Python's own choice: buildx takes an archive that begins with an extended header for a Dockerfile.
    with tarfile.open(fileobj=data, mode="w", format=tarfile.GNU_FORMAT) as archive:
        archive.add(context, ".")
    return data.getvalue()


def build_both(
    builder: Builder, directory: Path, *words: str, stdin: bytes
) -> tuple[subprocess.CompletedProcess[bytes], Result]:
    """Build the same context with both programs, into archives."""
    words = ("--build-arg", "SOURCE_DATE_EPOCH=1", *words)
    output = f"type=oci,rewrite-timestamp=true,dest={directory}"
    theirs = builder.buildx("build", "-o", f"{output}/theirs.tar", *words, stdin=stdin)
    flags = ("--addr", builder.address, "-o", f"{output}/ours.tar")
    return theirs, run(directory, "build", *flags, *words, stdin=stdin)


@pytest.mark.parametrize("compress", [bytes, gzip.compress, bz2.compress, lzma.compress])
def test_a_context_on_standard_input(
    builder: Builder, tmp_path: Path, compress: Callable[[bytes], bytes]
) -> None:
    context = write_context(tmp_path / "context", Case(DOCKERFILE))
    (context / "Dockerfile").rename(context / "Other")
    theirs, ours = build_both(builder, tmp_path, "-f", "Other", "-", stdin=compress(packed(context)))
    assert theirs.returncode == 0, theirs.stderr
    assert ours.status == 0, ours.err
    assert blobs(tmp_path / "ours.tar") == blobs(tmp_path / "theirs.tar")


def test_a_dockerfile_on_standard_input(builder: Builder, tmp_path: Path) -> None:
    text = b"FROM scratch\nLABEL a=b\n"
    theirs, ours = build_both(builder, tmp_path, "-", stdin=text)
    assert (theirs.returncode, ours.status) == (0, 0), ours.err
    assert blobs(tmp_path / "ours.tar") == blobs(tmp_path / "theirs.tar")
    context = write_context(tmp_path / "context", Case("FROM scratch\n"))
    theirs, ours = build_both(builder, tmp_path, "-f", "-", str(context), stdin=DOCKERFILE.encode())
    assert (theirs.returncode, ours.status) == (0, 0), ours.err
    assert blobs(tmp_path / "ours.tar") == blobs(tmp_path / "theirs.tar")


def test_standard_input_that_cannot_be_used(builder: Builder, tmp_path: Path) -> None:
    for words in (["-f", "-", "-"], ["-f", "Dockerfile", "-"]):
        theirs, ours = build_both(builder, tmp_path, *words, stdin=b"FROM scratch\n")
        assert theirs.returncode != 0
        assert ours.status == 2
    assert not list(tmp_path.glob("*.tar"))


@pytest.mark.parametrize(
    ("words", "is_pushed"), [(["--push=false"], False), (["--push=false", "--load=0", "--push=true"], True)]
)
def test_switches_with_values(builder: Builder, tmp_path: Path, words: list[str], is_pushed: bool) -> None:
    # Nothing listens at that registry: an image that is to be pushed there fails.
    common = [*words, "--no-cache=true", "--pull=false", "-t", "127.0.0.1:1/x", "-"]
    theirs = builder.buildx("build", *common, stdin=b"FROM scratch\nLABEL a=b\n")
    ours = run(tmp_path, "build", "--addr", builder.address, *common, stdin=b"FROM scratch\nLABEL a=b\n")
    assert (ours.status != 0) == (theirs.returncode != 0) == is_pushed, ours.err


@pytest.mark.parametrize(
    "words",
    [
        ["--check"],
        ["--call", "check"],
        ["--call", "lint,format=json"],
        ["--call=check,ignorestatus=true"],
        ["--call", "outline"],
        ["--call", "outline,format=json"],
        ["--call", "targets"],
        ["--call=targets,format=json"],
        ["--call", "subrequests.describe"],
    ],
)
@pytest.mark.parametrize("dockerfile", [DOCKERFILE, LINTED], ids=["fine", "linted"])
def test_the_same_answers_as_buildx(
    builder: Builder, tmp_path: Path, words: list[str], dockerfile: str
) -> None:
    context = write_context(tmp_path / "context", Case(dockerfile))
    theirs = builder.buildx("build", "--progress", "quiet", *words, str(context))
    ours = run(tmp_path, "build", "--addr", builder.address, "--progress", "quiet", *words, str(context))
    assert without_session(ours.out.decode()) == without_session(theirs.stdout.decode())
    assert ours.status == theirs.returncode, ours.err


def test_a_dockerfile_that_cannot_be_parsed_is_checked(builder: Builder, tmp_path: Path) -> None:
    context = write_context(tmp_path / "context", Case("FROM scratch\nCOPY\n"))
    theirs = builder.buildx("build", "--check", "--progress", "quiet", str(context))
    ours = run(tmp_path, "build", "--addr", builder.address, "--check", "--progress", "quiet", str(context))
    assert (ours.status, ours.out) == (theirs.returncode, theirs.stdout)
    assert "dockerfile parse error on line 2" in ours.err
    assert "   2 | >>> COPY" in ours.err


def test_shorthands_and_quiet(builder: Builder, tmp_path: Path) -> None:
    context = write_context(tmp_path / "context", Case(DOCKERFILE))
    files = run(tmp_path, "build", "--addr", builder.address, "-o", str(tmp_path / "out"), str(context))
    assert files.status == 0, files.err
    assert (tmp_path / "out" / "hosts").exists()
    nothing = run(tmp_path, "build", "--addr", builder.address, "-o", "type=cacheonly", str(context))
    assert nothing.status == 0
    assert "warning" not in nothing.err
    words = ["-q", "-o", f"type=oci,dest={tmp_path}/a.tar", "--iidfile", str(tmp_path / "id")]
    quiet = run(tmp_path, "build", "--addr", builder.address, *words, str(context))
    assert (quiet.status, quiet.err) == (0, "")
    assert quiet.out.decode().strip() == (tmp_path / "id").read_text()
