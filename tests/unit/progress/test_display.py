from __future__ import annotations

import asyncio
import io
import threading

import pytest

from exporter.errors import InvalidArgumentError
from exporter.progress import Renderer, StatusUpdate, Vertex, display, open_renderer, vertex
from exporter.progress.display import QuietRenderer
from exporter.progress.plain import PlainRenderer
from exporter.progress.rawjson import RawJSONRenderer
from exporter.progress.tty import TTYRenderer
from tests.unit.progress import streams


class Terminal(io.TextIOWrapper):
    def isatty(self) -> bool:
        return True


def pipe() -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding="utf-8")


def terminal() -> Terminal:
    return Terminal(io.BytesIO(), encoding="utf-8")


class Recorder(QuietRenderer):
    def __init__(self) -> None:
        self.updates: list[StatusUpdate] = []
        self.threads: set[int] = set()
        self.closed = 0
        self.refreshed = threading.Event()

    def update(self, update: StatusUpdate) -> None:
        self.updates.append(update)
        self.threads.add(threading.get_ident())

    def refresh(self) -> None:
        self.refreshed.set()

    def close(self) -> None:
        self.closed += 1


@pytest.mark.parametrize(
    ("mode", "stream", "environ", "kind"),
    [
        ("auto", pipe(), {"TERM": "xterm"}, PlainRenderer),
        ("auto", terminal(), {"TERM": "xterm"}, TTYRenderer),
        ("auto", terminal(), {"TERM": "dumb"}, PlainRenderer),
        ("auto", terminal(), {}, PlainRenderer),
        ("auto", terminal(), {"TERM": "xterm", "BUILDKIT_PROGRESS": "rawjson"}, RawJSONRenderer),
        ("plain", terminal(), {"TERM": "xterm", "BUILDKIT_PROGRESS": "rawjson"}, PlainRenderer),
        ("tty", terminal(), {"TERM": "xterm"}, TTYRenderer),
        ("rawjson", pipe(), {}, RawJSONRenderer),
        ("quiet", pipe(), {}, QuietRenderer),
    ],
)
def test_the_mode_says_what_renders(
    mode: str, stream: io.TextIOWrapper, environ: dict[str, str], kind: type[Renderer]
) -> None:
    assert type(open_renderer(mode, stream, environ=environ)) is kind


@pytest.mark.parametrize(
    ("mode", "environ", "message"),
    [
        ("fancy", {}, "invalid progress mode fancy: use auto|plain|tty|rawjson|quiet"),
        ("auto", {"BUILDKIT_PROGRESS": "x"}, "invalid progress mode x"),
        ("tty", {}, "--progress=tty: the output is not a terminal"),
    ],
)
def test_unusable_modes_are_refused(mode: str, environ: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message.replace("|", r"\|")):
        open_renderer(mode, pipe(), environ=environ)


async def test_everything_is_shown_when_the_block_ends() -> None:
    recorder = Recorder()
    async with display(recorder) as sink:
        for update in streams.updates("many-copy"):
            sink(update)
    assert streams.totals(recorder.updates) == streams.totals(streams.updates("many-copy"))
    assert recorder.closed == 1
    assert threading.get_ident() not in recorder.threads


async def test_a_failed_export_is_shown_too() -> None:
    stream = io.BytesIO()
    with pytest.raises(RuntimeError):
        async with display(PlainRenderer(stream)) as sink:
            with vertex(sink, "sha256:1", "exporting"):
                raise RuntimeError("no space left")
    assert stream.getvalue().decode().splitlines()[:2] == ["#1 exporting", "#1 ERROR: no space left"]


async def test_timers_move_while_nothing_is_reported() -> None:
    recorder = Recorder()
    async with display(recorder):
        assert await asyncio.to_thread(recorder.refreshed.wait, 10)


async def test_a_reader_that_is_gone_does_not_fail_the_export() -> None:
    class Broken(QuietRenderer):
        def update(self, update: StatusUpdate) -> None:
            raise BrokenPipeError

    async with display(Broken()) as sink:
        for number in range(3):
            sink(StatusUpdate(vertexes=(Vertex(f"sha256:{number}", "name"),)))
            await asyncio.sleep(0.01)


async def test_a_renderer_that_hangs_does_not_stop_the_event_loop() -> None:
    release = threading.Event()

    class Stalled(Recorder):
        def update(self, update: StatusUpdate) -> None:
            super().update(update)
            release.wait(10)

    stalled = Stalled()
    sent = streams.updates("many-copy")
    async with display(stalled) as sink:
        for update in sent:
            sink(update)
            await asyncio.sleep(0)
        release.set()
    assert len(stalled.updates) < len(sent)
    assert streams.totals(stalled.updates) == streams.totals(sent)
