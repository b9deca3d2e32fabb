"""Two ends of a connection in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from exporter.rpc.http2.budget import Budget
from exporter.rpc.http2.connection import Connection
from exporter.rpc.http2.headers import Headers
from exporter.rpc.http2.stream import Stream


class Cable:
    """Carries what one end writes until the test delivers it."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.is_closed = False

    def write(self, pieces: list[bytes | memoryview]) -> None:
        self.data += b"".join(pieces)

    def close(self) -> None:
        self.is_closed = True

    def take(self) -> bytes:
        data = bytes(self.data)
        self.data.clear()
        return data


@dataclass
class Received:
    """The data received on a stream; its credit is kept until the test returns it."""

    stream: Stream
    headers: list[Headers] = field(default_factory=list)
    data: bytearray = field(default_factory=bytearray)
    owed: int = 0
    has_ended: bool = False
    code: int | None = None
    progress: int = 0
    gives_credit: bool = True

    def __post_init__(self) -> None:
        self.stream.handler = self

    def on_headers(self, headers: Headers, *, end: bool) -> None:
        self.headers.append([(bytes(name), bytes(value)) for name, value in headers])
        self.has_ended |= end

    def on_data(self, pieces: Sequence[bytes | memoryview], credit: int, *, end: bool) -> None:
        self.data += b"".join(pieces)
        self.has_ended |= end
        self.owed += credit
        if self.gives_credit:
            self.give()

    def on_reset(self, code: int) -> None:
        self.code = code

    def on_progress(self) -> None:
        self.progress += 1

    def give(self) -> None:
        owed, self.owed = self.owed, 0
        self.stream.give_credit(owed)


class Turn:
    """Runs scheduled callbacks on request."""

    def __init__(self) -> None:
        self._pending: list[Callable[[], None]] = []

    def __call__(self, function: Callable[[], None]) -> None:
        self._pending.append(function)

    def run(self) -> None:
        while self._pending:
            self._pending.pop(0)()


class Wire:
    """A client, a server, and the wire between them.

    Args:
        chunk: How many bytes arrive at once; None for all that there are.
        turn: Shared with other connections; None for one of its own.
        budget: Likewise.
    """

    def __init__(
        self, chunk: int | None = None, *, turn: Turn | None = None, budget: Budget | None = None
    ) -> None:
        self.turn = turn or Turn()
        self._chunk = chunk
        self.cables = Cable(), Cable()
        budget = budget or Budget()
        self.client = Connection(self.cables[0], self.turn, is_client=True, share=budget.share())
        self.server = Connection(self.cables[1], self.turn, is_client=False, share=budget.share())
        self.opened: list[Received] = []
        self.ends: list[Exception | None] = []
        self.gives_credit = True
        self.server.on_stream = self._accept
        self.server.on_closed = self.ends.append

    def _accept(self, stream: Stream, headers: Headers, end: bool) -> None:
        received = Received(stream, gives_credit=self.gives_credit)
        received.on_headers(headers, end=end)
        self.opened.append(received)

    def run(self) -> None:
        """Deliver everything until both ends are idle."""
        self.turn.run()
        while any(cable.data for cable in self.cables):
            for cable, to in zip(self.cables, (self.server, self.client), strict=True):
                for piece in self._pieces(cable.take()):
                    if not to.is_closed:
                        to.receive(piece)
            self.turn.run()

    def _pieces(self, data: bytes) -> Iterator[bytes]:
        size = self._chunk or max(len(data), 1)
        for position in range(0, len(data), size):
            yield data[position : position + size]


REQUEST: Headers = [(b":method", b"POST"), (b":path", b"/a.B/C"), (b"x", b"\xc3\xa4"), (b"x", b"2")]
"""Headers of a call."""
