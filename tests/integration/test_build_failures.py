"""Builds that fail: what ``build`` says is what buildctl says, and what the Python client's error carries."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from exporter.client import BuildkitClient, SolveError, SolveOptions
from tests.buildkit import own_buildkitd, require_buildkit
from tests.integration.cli_process import run
from tests.integration.dockerfiles import Case, write_context

BUSYBOX = "FROM scratch\nCOPY busybox /bin/sh\n"

_REF = re.compile(r"(?<=checksum of ref )\S+")
_TIMES = re.compile(r"(?m)^(#\d+ )?\d+\.\d{1,3}s? ")


@dataclass(frozen=True)
class Failure:
    """A build that fails.

    Attributes:
        dockerfile: What fails.
        options: More options, the same for buildctl and for us.
    """

    dockerfile: str
    options: tuple[str, ...] = ()


FAILURES = {
    "exit code": Failure(BUSYBOX + "RUN echo out; echo err >&2; exit 7\nCOPY busybox /x\n"),
    "several lines": Failure(BUSYBOX + "RUN echo one && \\\n    # a comment\n    exit 3\nCOPY busybox /x\n"),
    "here document": Failure(BUSYBOX + "RUN <<EOF\necho a\nexit 4\nEOF\n"),
    "no program": Failure(BUSYBOX + 'RUN ["/nosuch"]\n'),
    "parse error": Failure("FROM scratch\nRUNN foo\n"),
    "unknown flag": Failure("FROM scratch\nCOPY --nosuch a b\n"),
    "first line": Failure("COPY a b\n"),
    "empty": Failure(""),
    "missing file": Failure("FROM scratch\nCOPY nofile /x\n"),
    "missing stage": Failure("FROM scratch\n", ("--opt", "target=nosuch")),
    "missing secret": Failure(BUSYBOX + "RUN --mount=type=secret,id=s,required=true echo hi\n"),
    "not allowed": Failure(BUSYBOX + "RUN --network=host echo hi\n"),
    "platform": Failure("FROM scratch\n", ("--opt", "platform=bad/bad/bad/bad")),
    "registry": Failure("FROM 127.0.0.1:9/x:v1 AS a\nFROM scratch\nCOPY --from=a /a /b\n"),
}


@pytest.fixture(scope="module")
def buildkit() -> Iterator[str]:
    with own_buildkitd() as target:
        yield target


@pytest.mark.parametrize("name", FAILURES)
def test_buildctl_and_build_print_the_same_error(buildkit: str, tmp_path: Path, name: str) -> None:
    failure = FAILURES[name]
    context = write_context(tmp_path / "context", Case(failure.dockerfile))
    common = ["--progress", "quiet", *failure.options]
    line = [require_buildkit("buildctl"), "--addr", buildkit, "build", "--frontend", "dockerfile.v0", *common]
    line += ["--local", f"context={context}", "--local", f"dockerfile={context}"]
    theirs = subprocess.run(line, capture_output=True, check=False)
    ours = run(tmp_path, "build", "--addr", buildkit, *common, str(context))
    assert ours.status == theirs.returncode == 1
    assert _REF.sub("REF", ours.err) == _REF.sub("REF", theirs.stderr.decode())


def test_the_output_of_the_step_precedes_the_excerpt(buildkit: str, tmp_path: Path) -> None:
    context = write_context(tmp_path / "context", Case(FAILURES["exit code"].dockerfile))
    result = run(tmp_path, "build", "--addr", buildkit, "--progress", "plain", str(context))
    assert result.status == 1
    process = 'process "/bin/sh -c echo out; echo err >&2; exit 7" did not complete successfully'
    lines = _TIMES.sub("", result.err).splitlines()
    end = lines[lines.index("------") :]
    assert [line for line in end if line not in {"out", "err"}] == [
        "------",
        " > [2/3] RUN echo out; echo err >&2; exit 7:",
        "------",
        "Dockerfile:3",
        "--------------------",
        "   1 |     FROM scratch",
        "   2 |     COPY busybox /bin/sh",
        "   3 | >>> RUN echo out; echo err >&2; exit 7",
        "   4 |     COPY busybox /x",
        "   5 |     ",
        "--------------------",
        f"error: failed to solve: {process}: exit code: 7",
    ]
    assert {"out", "err"} <= set(end)


async def test_the_clients_error_has_step_exit_code_and_source(buildkit: str, tmp_path: Path) -> None:
    text = FAILURES["exit code"].dockerfile
    context = write_context(tmp_path / "context", Case(text))
    options = SolveOptions(frontend="dockerfile.v0", directories={"context": context, "dockerfile": context})
    async with BuildkitClient.connect(buildkit) as client:
        with pytest.raises(SolveError) as caught:
            await client.solve(options)
        [record] = await client.history(filters=["status!=running"], limit=1)
    error = caught.value
    assert error.exit_code == 7
    assert error.vertex_name == "[2/3] RUN echo out; echo err >&2; exit 7"
    assert error.vertex.startswith("sha256:")
    assert sorted(error.logs) == [b"err", b"out"]
    [source] = error.sources
    assert source.info is not None
    assert (source.info.filename, source.info.language) == ("Dockerfile", "Dockerfile")
    assert source.info.data == text.encode()
    assert source.ranges is not None
    assert [(part.start.line, part.last_line) for part in source.ranges] == [(3, 3)]
    assert record is not None


async def test_a_python_frontend_sees_and_passes_on_the_failure(buildkit: str, tmp_path: Path) -> None:
    context = write_context(tmp_path / "context", Case(FAILURES["exit code"].dockerfile))
    directories = {"context": context, "dockerfile": context}
    async with BuildkitClient.connect(buildkit) as client:
        with pytest.raises(SolveError) as caught:
            await client.build(
                SolveOptions(directories=directories),
                lambda gateway: gateway.solve(frontend="dockerfile.v0", evaluate=True),
            )
    error = caught.value
    assert error.message.startswith("failed to solve: process ")
    assert (error.exit_code, error.vertex_name) == (7, "[2/3] RUN echo out; echo err >&2; exit 7")
    assert error.sources
