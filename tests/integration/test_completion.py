"""Completion in real shells: at a prompt, with the Tab key."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.peers import require

BIN = Path(sys.executable).parent
CASES = {
    "exporter": "exporters",
    "export --metad": "export --metadata-file",
    "export --progress raw": "export --progress rawjson",
    "export --progress=raw": "export --progress=rawjson",
    "serve --log-format j": "serve --log-format json",
    "export --output ty": "export --output type=",
    "export --output type=doc": "export --output type=docker",
    "export -o type=oci,compression-": "export -o type=oci,compression-level=",
    "export -o type=oci,compression=zs": "export -o type=oci,compression=zstd",
    "export --output=type=oci,ta": "export --output=type=oci,tar=",
    "build -o type=plugin.mo": "build -o type=plugin.moby",
    "build -o type=oci,dest=some-f": "build -o type=oci,dest=some-file",
    "build -o type=oci,dest=some-d": "build -o type=oci,dest=some-directory/",
    "build --iidfile some-f": "build --iidfile some-file",
    "build --iidfile=some-f": "build --iidfile=some-file",
    "inspect some-f": "inspect some-file",
    "export --source some-d": "export --source some-directory/",
    "export --root=some-d": "export --root=some-directory/",
    "proxy --take oci,do": "proxy --take oci,docker",
    "exporters --type reg": "exporters --type registry",
    "sample --name multi": "sample --name multi-platform",
    "completion f": "completion fish",
}
"""What is written, and what it is completed to."""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "some-directory").mkdir()
    (tmp_path / "some-file").touch()
    return tmp_path


class Terminal:
    """A shell in a pseudo-terminal."""

    def __init__(self, master: int) -> None:
        self._master = master

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def read_until(self, end: str) -> str:
        """Read all output until there is something in it."""
        seen = b""
        deadline = time.monotonic() + 30
        while end.encode() not in seen:
            left = deadline - time.monotonic()
            assert left > 0 and select.select([self._master], [], [], left)[0], f"no {end!r} in {seen!r}"
            seen += os.read(self._master, 4096)
        return seen.decode("utf-8", "replace")


@contextmanager
def terminal(command: list[str], directory: Path) -> Iterator[Terminal]:
    master, slave = pty.openpty()
    environment = {
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "HOME": str(directory),
        "PS1": "",
        "TERM": "dumb",
        "LC_ALL": "C.UTF-8",
    }
    process = subprocess.Popen(
        command,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        cwd=directory,
        env=environment,
        start_new_session=True,
    )
    os.close(slave)
    try:
        yield Terminal(master)
    finally:
        process.kill()
        process.wait()
        os.close(master)


def completed(shell: Terminal, words: str, result: Path) -> str:
    """Complete a line, and return the result."""
    # The line is not run, but given to something that writes its words down, once the prompt is there again.
    shell.type(f"buildkit-exporter {words}\t")
    shell.type("\x01note \x05\r")  # to the beginning of the line; to its end
    shell.read_until("NOTED")
    return result.read_text("utf-8")


def check(shell: Terminal, directory: Path) -> None:
    result = directory / ".result"
    wrong = {}
    for words, wanted in CASES.items():
        found = completed(shell, words, result)
        if found != f"buildkit-exporter {wanted}\n":
            wrong[words] = found
    assert wrong == {}


NOTE = 'note() { printf \'%s\\n\' "$*" > .result; echo NO""TED; }\n'


def test_bash(directory: Path) -> None:
    bash = require("bash", "bash")
    with terminal([bash, "--norc", "--noprofile", "-i"], directory) as shell:
        shell.type(NOTE)
        shell.type("source <(buildkit-exporter completion bash); echo REA''DY\n")
        shell.read_until("READY")
        check(shell, directory)


def test_zsh(directory: Path) -> None:
    zsh = require("zsh", "zsh")
    with terminal([zsh, "-f", "-i"], directory) as shell:
        shell.type("bindkey -e; autoload -U compinit; compinit -u -D; unsetopt autoremoveslash\n")
        shell.type(NOTE)
        shell.type("source <(buildkit-exporter completion zsh); echo REA''DY\n")
        shell.read_until("READY")
        check(shell, directory)


def test_fish(directory: Path) -> None:
    fish = require("fish", "fish")
    script = "buildkit-exporter completion fish | source\n" + "\n".join(
        f"echo (complete --do-complete 'buildkit-exporter {words}')\n" for words in CASES
    )
    done = subprocess.run(
        [fish, "--no-config", "-c", script],
        cwd=directory,
        env={"PATH": f"{BIN}:{os.environ['PATH']}", "HOME": str(directory), "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    found = [line.partition("\t")[0] for line in done.stdout.splitlines()]
    assert found == [wanted.rpartition(" ")[2] for wanted in CASES.values()]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_no_completions_where_nothing_matches(shell: str) -> None:
    done = subprocess.run(
        [BIN / "buildkit-exporter"],
        env={
            "_BUILDKIT_EXPORTER_COMPLETE": shell,
            "COMPLETE_WORDS": "buildkit-exporter\nnope",
            "COMPLETE_CURRENT": "x",
        },
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
