"""The exact messages for common mistakes; see tests/mistakes.py for the table.

``REWRITE_MISTAKES=1`` puts what is really said into the table: read the difference before you commit it.
"""

from __future__ import annotations

import difflib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.integration.mistake_peers import NEEDS, ORDINARY_ENVIRONMENT, PEERS, Place
from tests.mistakes import Mistake, as_text, read_table, rewrite

TABLE = read_table()
LEAST = 60
PATIENCE = 60.0

_REWRITE = "REWRITE_MISTAKES"
_NEVER = re.compile(r"Traceback|internal error|report it|\[Errno|Error\(")
"""What no text may have: it speaks of our code, to somebody who has never seen it."""

_ALWAYS_MASKED = {"TIME": r"\b\d+\.\ds\b"}

Ended = tuple[int, str, str]


class Table:
    """Runs the entries, several at a time."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self._directory = directory
        self._stack = stack
        self._lock = threading.Lock()
        self._peers: dict[str, Mapping[str, str]] = {}
        self._skipped: dict[str, BaseException] = {}

    def run(self, mistake: Mistake) -> Ended:
        """Run an entry's command; gives what it does, with placeholders."""
        base = Path(tempfile.mkdtemp(prefix="e", dir=self._directory))
        place = Place(base / "w", base / "home", {})
        for path in (place.cwd, place.home):
            path.mkdir()
        for name, content in mistake.files.items():
            path = place.cwd / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        names: dict[str, str] = {}
        with ExitStack() as stack:
            for need in mistake.needs:
                word, _, argument = need.partition(":")
                if word in NEEDS:
                    names.update(stack.enter_context(NEEDS[word](place, argument)))
                else:
                    names.update(self._peer(word))
            environment = {**_environment(place), **names}
            if place.user is not None:
                environment.update(self._peer(ORDINARY_ENVIRONMENT))
                _give_away(base, place.user)
            if mistake.setup:
                _shell(f"set -e\n{mistake.setup}", place, environment).check_returncode()
            done = _shell(mistake.command, place, environment)
        names = {**names, "CWD": str(place.cwd), "HOME": str(place.home)}
        return (
            done.returncode,
            _with_placeholders(done.stderr, names, mistake.mask),
            _with_placeholders(done.stdout, names, mistake.mask),
        )

    def _peer(self, name: str) -> Mapping[str, str]:
        with self._lock:
            if name in self._skipped:
                raise self._skipped[name]
            if name not in self._peers:
                directory = self._directory / name
                directory.mkdir()
                try:
                    self._peers[name] = self._stack.enter_context(PEERS[name](directory))
                except BaseException as error:
                    self._skipped[name] = error
                    raise
            return self._peers[name]


def _environment(place: Place) -> dict[str, str]:
    """Of a user who has set nothing."""
    commands = Path(sys.executable).parent
    return {
        "PATH": f"{commands}:{os.environ['PATH']}",
        "HOME": str(place.home),
        "LC_ALL": "C.UTF-8",
        **place.variables,
    }


def _shell(lines: str, place: Place, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "-c", lines],
        cwd=place.cwd,
        env=dict(environment),
        user=place.user,
        group=place.user,
        extra_groups=[] if place.user is not None else None,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="backslashreplace",
        timeout=PATIENCE,
        check=False,
    )


def _give_away(directory: Path, user: int) -> None:
    for path in [directory, *directory.rglob("*")]:
        os.chown(path, user, user, follow_symlinks=False)


def _with_placeholders(text: str, names: Mapping[str, str], masks: Mapping[str, str]) -> str:
    for name, value in sorted(names.items(), key=lambda item: -len(item[1])):
        text = text.replace(value, f"{{{name}}}")
        if value.startswith("unix://"):
            text = text.replace(value.removeprefix("unix://"), f"{{{name}_PATH}}")
    for name, pattern in {**_ALWAYS_MASKED, **masks}.items():
        text = re.sub(pattern, f"{{{name}}}", text)
    return text


@pytest.fixture(scope="module")
def ended(request: pytest.FixtureRequest) -> Iterator[Mapping[str, Future[Ended]]]:
    """How each command ends or will end: of those entries that tests were chosen for."""
    chosen = {item.name for item in request.session.items}
    directory = Path(tempfile.mkdtemp(prefix="mist-", dir="/tmp"))  # the path of a socket has to be short
    directory.chmod(0o755)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        table = Table(directory, stack)
        threads = stack.enter_context(ThreadPoolExecutor(max_workers=(os.cpu_count() or 1) + 1))
        yield {
            mistake.name: threads.submit(table.run, mistake)
            for mistake in TABLE
            if f"test_a_mistake_gets_the_recorded_message[{_id(mistake)}]" in chosen
        }
        threads.shutdown(cancel_futures=True)


def _id(mistake: Mistake) -> str:
    return f"{mistake.area}: {mistake.name}"


@pytest.mark.parametrize("mistake", TABLE, ids=_id)
def test_a_mistake_gets_the_recorded_message(mistake: Mistake, ended: Mapping[str, Future[Ended]]) -> None:
    status, stderr, stdout = ended[mistake.name].result()
    if os.environ.get(_REWRITE):
        rewrite(mistake.area, {mistake.name: (status, stderr, stdout)})
        return
    found = as_text(status, stderr, stdout)
    if found != mistake.golden:
        difference = difflib.unified_diff(
            mistake.golden.splitlines(keepends=True),
            found.splitlines(keepends=True),
            "the table says",
            "the command does",
        )
        pytest.fail(
            f"$ {mistake.command}\n{''.join(difference)}\n{_REWRITE}=1 enters what it does", pytrace=False
        )


@pytest.mark.parametrize("mistake", TABLE, ids=_id)
def test_messages_have_no_internals(mistake: Mistake) -> None:
    assert mistake.status in {1, 2}
    assert mistake.stderr, "nothing is said"
    found = _NEVER.search(mistake.stderr.rstrip("\n"))
    assert found is None, found


def test_the_table_has_enough_entries_and_no_duplicates() -> None:
    assert len(TABLE) >= LEAST
    twice = [name for name, count in Counter(mistake.name for mistake in TABLE).items() if count > 1]
    assert not twice
