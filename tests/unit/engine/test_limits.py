from __future__ import annotations

import asyncio

import pytest

from exporter.engine.limits import Admission
from exporter.errors import ResourceExhaustedError


def nobody_waits(ahead: int) -> None:
    raise AssertionError("had to wait")


async def test_excess_exports_wait_in_fifo_order() -> None:
    admission = Admission(running=2, waiting=10)
    release, entered, ahead = asyncio.Event(), list[int](), list[int]()

    async def export(number: int) -> None:
        async with admission.slot(ahead.append):
            entered.append(number)
            await release.wait()

    tasks = [asyncio.create_task(export(number)) for number in range(5)]
    await asyncio.sleep(0)
    assert entered == [0, 1]
    assert ahead == [0, 1, 2]
    assert admission.waiting == 3
    release.set()
    await asyncio.gather(*tasks)
    assert entered == [0, 1, 2, 3, 4]
    assert admission.waiting == 0


async def test_a_full_queue_rejects_and_recovers() -> None:
    admission = Admission(running=1, waiting=1)
    async with admission.slot(nobody_waits):
        waiter = asyncio.create_task(_hold(admission))
        await asyncio.sleep(0)
        with pytest.raises(ResourceExhaustedError):
            async with admission.slot(nobody_waits):
                pass
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter
        assert admission.waiting == 0
    async with admission.slot(nobody_waits):
        pass


async def test_a_slot_is_given_back_when_its_export_fails() -> None:
    admission = Admission(running=1, waiting=0)
    for _ in range(3):
        with pytest.raises(RuntimeError):
            async with admission.slot(nobody_waits):
                raise RuntimeError


async def _hold(admission: Admission) -> None:
    async with admission.slot(lambda _: None):
        pass
