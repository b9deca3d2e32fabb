"""Builds through the proxy and by our client, next to the same builds by buildctl without it."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.measure import OURS, Pair, in_pairs, say, seconds_of
from bench.options import MissingPeerError, Options, program
from bench.table import Line

MIB = 1 << 20
FILES = 3000
STARTING_SECONDS = 60.0
RATIO_GOAL = 1.1
CACHED_IMAGE_GOAL = 12.0
BUILD_GOAL = 0.25

Run = Callable[[], float]


@dataclass(frozen=True)
class Builder:
    """Runs builds.

    Attributes:
        directory: Has the sockets and the contexts.
        buildctl: The path of buildctl.
    """

    directory: Path
    buildctl: str

    def address(self, name: str) -> str:
        """The address of the daemon (``direct``) or the proxy (``proxy``)."""
        return f"unix://{self.directory}/{name}.sock"

    def build(self, name: str, context: str, *words: str) -> float:
        """Have buildctl build through one of the sockets; returns seconds."""
        where = self.directory / context
        command = [self.buildctl, "--addr", self.address(name), "build", "--progress", "plain"]
        command += ["--frontend", "dockerfile.v0"]
        command += ["--local", f"context={where}", "--local", f"dockerfile={where}"]
        return seconds_of([*command, *words])

    def build_with_ours(self, context: str, *words: str) -> float:
        """Have our client build, straight at the daemon."""
        command = [*OURS, "build", str(self.directory / context)]
        command += ["--addr", self.address("direct"), "--progress", "plain"]
        return seconds_of([*command, "--root", str(self.directory / "client"), *words])


def proxy_lines(options: Options) -> Iterator[Line]:
    """Measure builds through the proxy."""
    with _builder(options) as builder:
        mib = options.pick(300, 100)
        archive = builder.directory / "archive.tar"
        _write_context(builder.directory / "large", mib)
        _write_context(builder.directory / "small", 1)
        rounds = options.pick(7, 3)

        def send(name: str) -> Run:
            return lambda: _touched(builder, "large", lambda: builder.build(name, "large", "--no-cache"))

        def receive(name: str, output: str) -> Run:
            return lambda: builder.build(name, "large", "--output", output)

        def small(name: str, *words: str) -> Run:
            return lambda: builder.build(name, "small", *words)

        say(f"{mib} MiB through the proxy")
        yield _ratio(
            "proxy", f"{mib} MiB context sent through the proxy", send("proxy"), send("direct"), rounds
        )
        tar = f"type=tar,dest={archive}"
        yield _ratio(
            "proxy",
            f"{mib} MiB tarball of the daemon's received through the proxy",
            receive("proxy", tar),
            receive("direct", tar),
            rounds,
        )
        as_oci = f"type=oci,compression=uncompressed,dest={archive}"
        yield _ratio(
            "proxy",
            f"{mib} MiB OCI archive, ours through the proxy",
            receive("proxy", as_oci),
            receive("direct", as_oci),
            rounds,
        )
        say("cached builds through the proxy")
        yield _difference("all is cached, no output", small("proxy"), small("direct"), rounds * 4, None)
        yield _difference(
            "all is cached, image: ours through the proxy",
            small("proxy", "--output", "type=plugin.image,name=x/y"),
            small("direct", "--output", "type=image,name=x/y"),
            rounds * 4,
            CACHED_IMAGE_GOAL,
        )


def client_lines(options: Options) -> Iterator[Line]:
    """Measure our client."""
    with _builder(options) as builder:
        mib, rounds = options.pick(300, 100), options.pick(7, 3)
        _write_context(builder.directory / "large", mib)
        _write_context(builder.directory / "small", 1)
        _write_files(builder.directory / "files")
        say("buildkit-exporter build, cached")
        pair = in_pairs(
            lambda: builder.build_with_ours("small"), lambda: builder.build("direct", "small"), rounds * 2
        )
        ours, peer = pair.best
        yield Line(
            "client",
            "build of a 1 MiB context, all cached",
            ours,
            "s",
            value=ours,
            peer=peer,
            peer_name="buildctl",
            goal=BUILD_GOAL,
            note="best round",
        )
        for context, what in ("large", f"{mib} MiB in one file"), ("files", f"{FILES} small files"):
            say(f"{what}, sent by our client")

            def ours_sends(context: str = context) -> float:
                return _touched(builder, context, lambda: builder.build_with_ours(context, "--no-cache"))

            def buildctl_sends(context: str = context) -> float:
                return _touched(builder, context, lambda: builder.build("direct", context, "--no-cache"))

            pair = in_pairs(ours_sends, buildctl_sends, rounds)
            yield _line("client", f"build that sends {what}", pair, "buildctl", RATIO_GOAL)


def _ratio(group: str, what: str, ours: Run, peer: Run, rounds: int) -> Line:
    return _line(group, what, in_pairs(ours, peer, rounds), "direct", RATIO_GOAL)


def _line(group: str, what: str, pair: Pair, peer_name: str, goal: float) -> Line:
    ours, peer = pair.medians
    best = pair.best[0] / pair.best[1]
    return Line(
        group,
        what,
        ours,
        "s",
        value=pair.ratio,
        peer=peer,
        peer_name=peer_name,
        goal=goal,
        note=f"best rounds: {best:.2f}",
    )


def _difference(what: str, ours: Run, peer: Run, rounds: int, goal: float | None) -> Line:
    pair = in_pairs(ours, peer, rounds)
    mine, theirs = (value * 1000 for value in pair.medians)
    difference = pair.difference * 1000
    return Line(
        "proxy",
        what,
        mine,
        "ms",
        value=difference,
        peer=theirs,
        peer_name="direct",
        goal=goal,
        note=f"{difference:+.0f} ms",
    )


def _touched(builder: Builder, context: str, build: Run) -> float:
    """Build with files that seem changed; otherwise the daemon would not ask for them."""
    for path in (builder.directory / context).rglob("*"):
        if path.is_file() and path.name != "Dockerfile":
            path.touch()
    return build()


@contextmanager
def _builder(options: Options) -> Iterator[Builder]:
    buildctl, buildkitd = program("buildctl"), program("buildkitd")
    if os.geteuid():
        raise MissingPeerError("buildkitd needs root")
    directory = options.directory
    daemon = [buildkitd, "--root", str(directory / "daemon"), "--addr", f"unix://{directory}/direct.sock"]
    daemon += ["--oci-worker-snapshotter=native", "--oci-worker-net=host"]
    proxy = [*OURS, "proxy", "--buildkitd", f"unix://{directory}/direct.sock"]
    proxy += ["--addr", f"unix://{directory}/proxy.sock", "--root", str(directory / "root"), "--take", "oci"]
    processes = []
    try:
        for name, command in (("direct", daemon), ("proxy", proxy)):
            with (directory / f"{name}.log").open("wb") as log:
                processes.append(subprocess.Popen(command, stdout=log, stderr=log))
            deadline = time.monotonic() + STARTING_SECONDS
            while not (directory / f"{name}.sock").exists():
                if processes[-1].poll() is not None or time.monotonic() > deadline:
                    raise MissingPeerError((directory / f"{name}.log").read_text()[-2000:])
                time.sleep(0.05)
        yield Builder(directory, buildctl)
    finally:
        for process in reversed(processes):
            process.terminate()
            process.wait()


def _write_context(directory: Path, mib: int) -> None:
    directory.mkdir()
    (directory / "Dockerfile").write_text("FROM scratch\nCOPY blob /blob\n")
    with (directory / "blob").open("wb") as file:
        for _ in range(mib):
            file.write(os.urandom(MIB))


def _write_files(directory: Path) -> None:
    directory.mkdir()
    (directory / "Dockerfile").write_text("FROM scratch\nCOPY files /files\n")
    for number in range(FILES):
        path = directory / "files" / str(number // 100) / str(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(100 + number * 7 % 8000))
