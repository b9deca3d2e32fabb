"""Connections that others open: how many there may be, and for how long they may say nothing."""

from __future__ import annotations

import asyncio
import resource
from contextlib import suppress

import pytest

from exporter.rpc.http2.budget import Budget
from exporter.rpc.http2.connection import Connection
from exporter.rpc.http2.frames import END_HEADERS, PREFACE, FrameType, settings_frame
from exporter.rpc.http2.guests import Guests, guest_limit
from exporter.rpc.http2.sockets import Scheduler, serving
from tests.sessions import until
from tests.unit.rpc.http2.hostile import frame, request

GREETING = PREFACE + settings_frame({})


class Guest:
    def __init__(self, unfinished: int = 1, is_idle: bool = True) -> None:
        self.unfinished = unfinished
        self.is_idle = is_idle
        self.is_aborted = False

    def abort(self) -> None:
        self.is_aborted = True


async def test_beyond_the_limit_silent_guests_go_first_then_idle_ones() -> None:
    guests = Guests(4)
    busy, idle, silent, other = present = [Guest(0, False), Guest(0), Guest(1), Guest(1)]
    for guest in present:
        assert guests.enter(guest)
    for expected in (silent, other, idle):
        assert not expected.is_aborted
        assert guests.enter(Guest(0, False))
        assert expected.is_aborted
    late = Guest()
    assert not guests.enter(late)
    assert late.is_aborted
    assert not busy.is_aborted
    assert len(guests) == 4
    guests.leave(busy)
    assert guests.enter(Guest())


async def test_a_guest_that_finishes_in_time_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exporter.rpc.http2.guests.UNFINISHED_SECONDS", 0.01)
    guests = Guests(4)
    quick, slow, other = Guest(), Guest(), Guest()
    for guest in (quick, slow, other):
        guests.enter(guest)
    quick.unfinished = 0
    other.unfinished = 7  # it has begun something else in the meantime
    await until(lambda: slow.is_aborted)
    await until(lambda: other.is_aborted)
    assert not quick.is_aborted
    assert len(guests) == 1


@pytest.mark.parametrize(
    "begun",
    [
        b"",
        PREFACE[:5],
        PREFACE,
        GREETING + request(1, flags=0),
        GREETING + request(1) + request(3, flags=0) + frame(FrameType.CONTINUATION, 0, 3, b""),
    ],
)
async def test_a_peer_that_finishes_nothing_is_cut_off(begun: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exporter.rpc.http2.guests.UNFINISHED_SECONDS", 0.01)
    guests = Guests(4)
    loop = asyncio.get_running_loop()
    make = serving(Scheduler(), _take, guests=guests, budget=Budget())
    async with await loop.create_server(make, "127.0.0.1", 0) as server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(begun)
        async with asyncio.timeout(30):
            with suppress(ConnectionError):
                await reader.read()
        await until(lambda: not guests)
        writer.close()


async def test_a_peer_that_begins_and_finishes_may_stay_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exporter.rpc.http2.guests.UNFINISHED_SECONDS", 0.01)
    guests = Guests(4)
    loop = asyncio.get_running_loop()
    make = serving(Scheduler(), _take, guests=guests, budget=Budget())
    async with await loop.create_server(make, "127.0.0.1", 0) as server:
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(GREETING + request(1, flags=0) + frame(FrameType.CONTINUATION, END_HEADERS, 1))
        await asyncio.sleep(0.1)
        assert len(guests) == 1
        writer.close()
        await until(lambda: not guests)


def _take(connection: Connection) -> None:
    connection.on_stream = lambda stream, headers, end: None


@pytest.mark.parametrize(("soft", "expected"), [(100, 12), (1024, 384), (20_000, 9872), (1 << 20, 16384)])
def test_the_limit_leaves_files_for_exports(
    soft: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (soft, soft))
    assert guest_limit(2) == expected
