from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import fields
from importlib import metadata
from pathlib import Path
from typing import Any, get_type_hints

import pytest

import exporter.cli.inspect.command
from exporter.cli.client import ServerAccess
from exporter.cli.commands.base import Command, load_command
from exporter.cli.commands.shared import (
    DEFAULT_BUILDKITD,
    DEFAULT_LAYER_CACHE_BYTES,
    DEFAULT_MAX_CONTENT_BYTES,
    PROGRESS_MODES,
)
from exporter.cli.commands.summaries import SUMMARIES
from exporter.cli.failures import UsageError
from exporter.cli.main import main
from exporter.client import DEFAULT_ADDRESS
from exporter.engine.config import WorkplaceConfig
from exporter.lazy import named
from exporter.progress.display import ProgressMode
from exporter.rpc.address import TCPAddress, UnixAddress
from exporter.server import ServerConfig
from tests.command import parse_args


@pytest.mark.parametrize("name", SUMMARIES)
def test_implementations_take_the_arguments_of_their_command(name: str) -> None:
    command = load_command(name)
    hints = get_type_hints(named(command.run))
    assert issubclass(hints.pop("return"), int)
    assert list(hints.values()) == [command.args_type]


def run(*words: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    try:
        status = main(words)
    except SystemExit as end:
        status = int(end.code or 0)
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_the_version_is_the_distributions(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run("--version", capsys=capsys)
    assert (status, out) == (0, f"buildkit-exporter {metadata.version('buildkit-exporter')}\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "a command is required: serve, proxy, build"),
        (("bake",), "unknown command bake. The commands are serve, proxy"),
        (("export",), "--source and --output are required"),
        (("export", "--source", "x", "--output", "dest=y"), "--output requires type=<type>"),
        (
            ("export", "--source", "x", "-o", "type=oci", "--progress", "fancy"),
            "--progress: 'fancy' is not one of 'auto', 'plain'",
        ),
        (
            ("export", "--source", "x", "-o", "type=oci", "--addr", "unix:///x", "--root", "y"),
            "--root is for exports in this process",
        ),
        (("export", "--source"), "error: --source needs a value"),
        (
            ("export", "--source", "--output", "type=oci"),
            "--source needs a value, but is followed by --output",
        ),
        (("export", "--strict"), "unknown flag --strict. It belongs to proxy and build"),
        (
            ("--output", "x", "export"),
            "unknown flag --output. It belongs to build and export: write it after",
        ),
        (("inspect", "a", "b", "c", "d"), "unexpected argument c"),
        (("verify", "--json=yes", "x"), "error: --json: 'yes' is neither true nor false"),
        (("export", "--sourc", "x"), "unknown flag --sourc. Did you mean --source?"),
        (("exporters", "--type", "nope"), 'exporter "nope" could not be found'),
        (("exporters", "--addr", "nowhere"), "--addr: 'nowhere' is not an address"),
        (("serve", "--tlscert", "x"), "--tlscert and --tlskey belong together"),
        (("serve", "--tlscacert", "x"), "--tlscacert asks clients for certificates"),
        (("serve", "--addr", "x", "--root", "y"), "--addr: 'x' is not an address"),
        (("serve", "--max-queued-exports", "-1"), "--max-queued-exports: -1 is less than 0"),
        (("serve", "--max-concurrent-exports", "0"), "--max-concurrent-exports: 0 is less than 1"),
        (("serve", "--session-timeout", "soon"), "--session-timeout: 'soon' is not a number"),
        (("serve", "--log-format", "xml"), "--log-format: 'xml' is not one of 'text', 'json'"),
        (("inspect", "/", "--platform", "a/b/c/d/e"), "is not an image"),
    ],
)
def test_wrong_usage_is_reported_in_one_line(
    words: tuple[str, ...],
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    status, out, err = run(*words, capsys=capsys)
    assert status == (1 if words[:2] == ("inspect", "/") else 2)
    assert out == ""
    assert message in err.splitlines()[-1]
    assert "Traceback" not in err
    if status == 2:
        assert err.startswith("Usage: buildkit-exporter ")
        assert len(err.splitlines()) == 2


def test_errors_of_users_have_a_traceback_only_on_request(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = str(tmp_path / "missing")
    status, out, err = run("inspect", missing, capsys=capsys)
    assert (status, out, err) == (1, "", f"error: there is no file or directory {missing}\n")
    for words in (("--debug", "inspect", missing), ("inspect", missing, "--debug")):
        status, _, err = run(*words, capsys=capsys)
        assert status == 1
        assert err.startswith("Traceback")
        assert err.endswith(f"error: there is no file or directory {missing}\n")


def test_a_bug_is_reported_as_a_bug(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(options: object) -> int:
        raise KeyError("oops")

    monkeypatch.setattr(exporter.cli.inspect.command, "run_inspect", fail)
    status, _, err = run("inspect", "x", capsys=capsys)
    assert status == 1
    assert err.splitlines() == [
        "error: internal error: KeyError: 'oops'",
        "This is a bug. Please report it with what --debug shows.",
    ]


def test_names_are_escaped_for_terminals_that_cannot_show_them(tmp_path: Path) -> None:
    path = tmp_path / "grüße"
    done = subprocess.run(
        [sys.executable, "-X", "utf8=0", "-m", "exporter.cli", "exporters", "--json"],
        env={"PYTHONIOENCODING": "ascii", "HOME": str(path)},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")


def test_an_interrupt_prints_no_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(options: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(exporter.cli.inspect.command, "run_inspect", interrupt)
    assert run("inspect", "x", capsys=capsys) == (128 + signal.SIGINT, "", "")


def test_a_closed_pipe_is_not_an_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        result = subprocess.run(
            [sys.executable, "-m", "exporter.cli", "exporters", "--json"],
            stdout=writer,
            stderr=subprocess.PIPE,
            check=False,
        )
    finally:
        os.close(writer)
    assert (result.returncode, result.stderr) == (128 + signal.SIGPIPE, b"")


def access(*words: str) -> ServerAccess:
    return ServerAccess.of(parse_args("exporters", *words))


def test_how_to_reach_a_server() -> None:
    plain = access("--addr", "unix:///run/x.sock")
    assert (plain.address, plain.uses_tls, plain.timeout) == (UnixAddress("/run/x.sock"), False, 5.0)
    secure = access(
        "--addr", "tcp://host:1", "--tlscacert", "ca.pem", "--tlsservername", "name", "--timeout", "2.5"
    )
    assert (secure.address, secure.uses_tls, secure.timeout) == (TCPAddress("host", 1), True, 2.5)
    assert (secure.ca, secure.cert, secure.key, secure.name) == (Path("ca.pem"), None, None, "name")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--addr", "tcp://host:1", "--tlscert", "x"), "belong together"),
        (("--addr", "unix:///run/x.sock", "--tlscacert", "x"), "TLS is for servers on TCP"),
    ],
)
def test_tls_options_that_make_no_sense_are_refused(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        access(*words)


@pytest.mark.parametrize("words", [("--help",), ("serve", "--help"), ("inspect", "/")])
def test_commands_load_only_what_they_need(words: tuple[str, ...]) -> None:
    slow = {"grpc", "google.protobuf", "aiohttp", "prometheus_client"}
    code = (
        "import contextlib, sys\n"
        "from exporter.cli.main import main\n"
        f"with contextlib.suppress(SystemExit): main({words!r})\n"
        f"print('loaded:', *sys.modules.keys() & {slow!r})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, text=True)
    assert done.stdout.splitlines()[-1] == "loaded:"


def test_defaults_of_flags_are_those_of_the_server() -> None:
    args = parse_args("serve")
    config = ServerConfig(addresses=("unix:///x",), workplace=WorkplaceConfig(root=Path("x")))
    names = {field.name for field in fields(config)} & {field.name for field in fields(args)}
    assert names >= {"max_concurrent_exports", "max_message_bytes", "session_timeout", "shutdown_grace"}
    assert {name: getattr(args, name) for name in names} == {name: getattr(config, name) for name in names}
    assert config.workplace.layer_cache_bytes == DEFAULT_LAYER_CACHE_BYTES
    assert config.workplace.max_content_bytes == DEFAULT_MAX_CONTENT_BYTES
    assert tuple(ProgressMode) == PROGRESS_MODES
    assert DEFAULT_BUILDKITD == DEFAULT_ADDRESS


@pytest.mark.parametrize("command", [load_command(name) for name in SUMMARIES], ids=SUMMARIES)
def test_flags_reach_the_command(command: Command[Any]) -> None:
    """Every declared flag has a field, and every field a flag."""
    words = {
        "completion": ["bash"],
        "export": ["--source", "x", "-o", "y"],
        "build": ["."],
        "inspect": ["x"],
        "new": ["x"],
        "verify": ["x"],
        "wait": ["--addr", "unix:///x"],
    }
    assert command.name is not None
    args = parse_args(command.name, *words.get(command.name, []))
    declared = {param.name for param in command.params}
    assert declared | ({"containerd_snapshotter"} if command.name == "verify" else set()) == {
        field.name for field in fields(args)
    }
