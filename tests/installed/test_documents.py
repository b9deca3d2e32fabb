"""README.md and docs/ work as they are printed, with what the wheel has installed, with an empty home."""

from __future__ import annotations

import ast
import functools
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.documents import REPOSITORY, Block, blocks, documents
from tests.installed.conftest import Installation, install
from tests.peers import require, require_root

BLOCKS = [block for path in documents() for block in blocks(path)]
RUN = [block for block in BLOCKS if block.is_run]
_PATIENCE = 500  # seconds for a document

_PRELUDE = """\
set -eo pipefail
trap 'jobs=$(jobs -p); [ -z "$jobs" ] || kill $jobs 2>/dev/null || true; wait' EXIT
await() {  # until a daemon listens at a socket, or has ended
  for _ in $(seq 600); do
    [ ! -S "$1" ] || return 0
    kill -0 "$2" || return 1
    sleep 0.1
  done
  return 1
}
"""

_DAEMONS = {
    "buildkitd": """\
buildkitd --root "$STATE/buildkitd" --oci-worker-snapshotter=native --oci-worker-net=host \\
  >"$STATE/buildkitd.log" 2>&1 &
await /run/buildkit/buildkitd.sock $!
""",
    "dockerd": """\
dockerd --data-root "$STATE/dockerd" --exec-root "$STATE/exec" --pidfile "$STATE/pid" \\
  --host unix:///run/docker.sock --bridge=none --iptables=false --ip-masq=false >"$STATE/dockerd.log" 2>&1 &
await /run/docker.sock $!
""",
}
"""How daemons are started where their clients look for them: in a /run of the document's own."""

_PROGRAMS = {
    "buildkitd": ("buildkitd",),
    "buildctl": ("buildctl",),
    "dockerd": ("dockerd", "containerd", "docker"),
    "docker-buildx": ("docker", "docker-buildx"),
}


@dataclass
class Outcome:
    """The outcome of a document's blocks.

    Attributes:
        ended: Blocks that ran to their end.
        failed: The block that failed.
        skipped: Why blocks were not run.
        log: What all said.
    """

    ended: set[Block] = field(default_factory=set)
    failed: Block | None = None
    skipped: dict[Block, str] = field(default_factory=dict)
    log: str = ""


@pytest.fixture(scope="module")
def environment(
    wheel: Path, system_python: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installation]:
    """An environment in which documents may install packages."""
    yield install(system_python, tmp_path_factory.mktemp("documents"), str(wheel))


@pytest.fixture(scope="module")
def checkout(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This project's sources, as they are published."""
    directory = tmp_path_factory.mktemp("checkout")
    (archive,) = dist.glob("*.tar.gz")
    with tarfile.open(archive) as sources:
        sources.extractall(directory)
    (found,) = directory.iterdir()
    return found


@pytest.fixture(scope="module")
def outcomes(environment: Installation, checkout: Path) -> dict[str, Outcome]:
    return {}


@pytest.mark.timeout(_PATIENCE + 60)
@pytest.mark.parametrize("block", RUN, ids=str)
def test_a_block_runs(
    block: Block, environment: Installation, checkout: Path, outcomes: dict[str, Outcome]
) -> None:
    if "dockerd" in block.needs:
        require("dockerd", "docker.io")
        require_root("dockerd")
    if block.document not in outcomes:
        outcomes[block.document] = run_document(block.document, environment, checkout)
    outcome = outcomes[block.document]
    if block in outcome.skipped:
        pytest.skip(outcome.skipped[block])
    if block is outcome.failed:
        pytest.fail(f"{block} fails:\n{block.text}\n{outcome.log}", pytrace=False)
    if block not in outcome.ended:
        pytest.skip(f"{outcome.failed} has failed before")


@pytest.mark.parametrize("block", [block for block in BLOCKS if "run by" in block.notes], ids=str)
def test_other_scripts_run_the_rest(block: Block) -> None:
    script = (REPOSITORY / block.notes["run by"]).read_text()
    for line in block.text.splitlines():
        command = line.partition("#")[0].strip()
        assert f"{command}\n" in script, f"{block.notes['run by']} does not run {command}"


@pytest.mark.parametrize(
    "block", [block for block in BLOCKS if "not run" in block.notes and block.language == "python"], ids=str
)
def test_fragments_can_be_parsed_and_their_imports_exist(block: Block) -> None:
    module = compile(block.text, str(block), "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    assert isinstance(module, ast.Module)
    imports: list[ast.stmt] = [node for node in module.body if isinstance(node, ast.Import | ast.ImportFrom)]
    exec(compile(ast.Module(imports, []), str(block), "exec"), {})


def test_no_block_is_forgotten() -> None:
    assert {block.language for block in BLOCKS if not block.is_run and not block.notes} <= {"", "text"}


def run_document(name: str, environment: Installation, checkout: Path) -> Outcome:
    """Run the blocks of a document, one after the other in one shell."""
    outcome = Outcome()
    # The paths of sockets have to be short.
    with tempfile.TemporaryDirectory(prefix="d", dir="/tmp", ignore_cleanup_errors=True) as text:
        base = Path(text)
        cwd, home, state = (base / name for name in ("w", "home", "state"))
        for path in (cwd, home, state):
            path.mkdir()
        wanted = [block for block in RUN if block.document == name]
        steps = []
        needed: set[str] = set()
        for block in wanted:
            if reason := next(filter(None, map(missing, block.needs)), None):
                outcome.skipped[block] = reason
            else:
                needed.update(block.needs)
                steps.append(block)
        if "docker-buildx" in needed:
            _add_docker_plugin(home)
        script = base / "script"
        script.write_text(_script(steps, [name for name in _DAEMONS if name in needed], base, checkout))
        isolated = _isolated(script) if needed & _DAEMONS.keys() else ["bash", str(script)]
        log = base / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                isolated,
                cwd=cwd,
                env=_environ(environment, home, state),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
            try:
                status = process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, 9)
                status = process.wait()
        records = (base / "records").read_text().split() if (base / "records").exists() else []
        outcome.ended = {steps[int(record)] for record in records}
        if len(outcome.ended) < len(steps):
            outcome.failed = steps[len(outcome.ended)]
        outcome.log = f"exit status {status}\n{log.read_text(errors='replace')}"
        for daemon in state.glob("*.log"):
            outcome.log += f"--- {daemon.name}\n{daemon.read_text(errors='replace')[-2000:]}"
    return outcome


def _script(steps: Iterable[Block], daemons: Iterable[str], base: Path, checkout: Path) -> str:
    lines = [_PRELUDE, *(_DAEMONS[name] for name in daemons)]
    for number, block in enumerate(steps):
        lines.append(f"echo '--- {block}'\n")
        if "file" in block.notes:
            path = base / f"block-{number}"
            path.write_text(block.text)
            lines.append(f"cp {path} {block.notes['file']}\n")
        elif block.language == "python":
            path = base / f"block-{number}"
            path.write_text(block.text)
            lines.append(f"python {path}\n")
        elif block.notes.get("in") == "checkout":
            lines.append(f"cd {checkout}\n{block.text}cd {base}/w\n")
        else:
            lines.append(block.text)
        lines.append(f"echo {number} >>{base}/records\n")
    return "".join(lines)


def _isolated(script: Path) -> list[str]:
    """A command that runs a script with its own /run and processes, which are removed at the end."""
    own = f"mount -t tmpfs tmpfs /run && exec bash {script}"
    namespaces = ["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private"]
    return ["unshare", *namespaces, "bash", "-c", own]


def _environ(environment: Installation, home: Path, state: Path) -> dict[str, str]:
    """The variables of a user who has set nothing except the paths of programs and packages."""
    bare = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    # Programs of this project must not be found elsewhere than where they were installed.
    others = [
        entry
        for entry in os.environ["PATH"].split(os.pathsep)
        if not (Path(entry) / "buildkit-exporter").exists()
    ]
    path = os.pathsep.join([str(environment.directory / "bin"), *others, "/usr/sbin", "/sbin"])
    return {**bare, "PATH": path, "HOME": str(home), "STATE": str(state), "LC_ALL": "C.UTF-8"}


def _add_docker_plugin(home: Path) -> None:
    found = _which("docker-buildx")
    assert found is not None
    plugins = home / ".docker" / "cli-plugins"
    plugins.mkdir(parents=True)
    (plugins / "docker-buildx").symlink_to(found)


def _which(program: str) -> str | None:
    return shutil.which(program, path=os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/sbin"]))


@functools.cache
def missing(need: str) -> str | None:
    """Why a requirement is not met here; None if it is."""
    for program in _PROGRAMS[need]:
        if _which(program) is None:
            return f"{program} is not installed"
    if need in _DAEMONS:
        probe = ["unshare", "--mount", "--pid", "--fork", "true"]
        if subprocess.run(probe, capture_output=True, check=False).returncode != 0:
            return f"{need} needs root, and the right to make namespaces"
    return None
