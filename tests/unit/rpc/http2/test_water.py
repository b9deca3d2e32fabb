from __future__ import annotations

import asyncio

from exporter.rpc.http2.water import HighWater

MIB = 1 << 20


def is_full(water: HighWater) -> bool:
    return water.is_full


def test_writers_wait_above_a_mebibyte_and_continue_at_a_quarter_of_it() -> None:
    said: list[str] = []
    water = HighWater(lambda: said.append("pause"), lambda: said.append("resume"))
    water.note(MIB)
    assert not is_full(water)
    water.note(MIB + 1)
    water.note(2 * MIB)
    assert is_full(water)
    assert said == ["pause"], "once"
    water.note(MIB // 4 + 1)
    assert is_full(water), "the gap lets them write large batches"
    water.note(MIB // 4)
    assert not is_full(water)
    assert said == ["pause", "resume"]
    water.note(MIB // 4 + 1)
    assert not is_full(water)


async def test_a_writer_continues_when_there_is_nothing_to_wait_for() -> None:
    water = HighWater()
    await water.low()
    water.note(MIB + 1)
    waiting = asyncio.create_task(water.low())
    await asyncio.sleep(0)
    assert not waiting.done()
    water.open()
    await waiting
    water.open()
    assert not is_full(water)
