"""What a failed build tells people."""

from __future__ import annotations

import pytest

from exporter.client import BuildError, BuildSource, SolveError, SourceFile, SourcePosition, SourceRange


@pytest.mark.parametrize(
    ("quoted", "command"),
    [
        ('"/bin/sh -c exit 3"', "/bin/sh -c exit 3"),
        (r'"sh -c echo \"a\" \\ \x00 \u00e9\n"', 'sh -c echo "a" \\ \0 é\n'),
    ],
)
def test_the_command_is_that_of_the_message(quoted: str, command: str) -> None:
    error = BuildError(
        f"failed to solve: process {quoted} did not complete successfully: exit code: 3", exit_code=3
    )
    assert error.command == command


def test_the_command_in_the_message_of_an_old_daemon() -> None:
    error = BuildError("failed to solve: executor failed running [/bin/sh -c exit 5]: exit code: 5")
    assert error.command == "/bin/sh -c exit 5"


def test_a_report_has_output_source_and_message() -> None:
    source = BuildSource(
        SourceFile("Dockerfile", "Dockerfile", b"FROM a\nRUN b"), (SourceRange(SourcePosition(2)),)
    )
    error = BuildError(
        "failed to solve: x", vertex_name="[2/2] RUN b", sources=[source], logs=[b"one", b"two"]
    )
    assert error.report() == (
        "------\n > [2/2] RUN b:\none\ntwo\n------\n"
        "Dockerfile:2\n--------------------\n"
        "   1 |     FROM a\n   2 | >>> RUN b\n--------------------\n"
        "error: failed to solve: x"
    )
    assert error.sources[0].lines == ((2, "RUN b"),)
    assert error.command == ""


def test_the_former_name_is_the_same_class() -> None:
    assert SolveError is BuildError
