from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack

import pytest

from exporter.engine.finalize import FinalizeStore
from exporter.errors import NotFoundError, UnavailableError
from exporter.progress.model import StatusSink, StatusUpdate
from tests.sessions import until


class Artifact:
    """An artifact to publish; counts the calls."""

    def __init__(self, *outcomes: Exception | None) -> None:
        self.outcomes = list(outcomes)
        self.published = 0
        self.released = asyncio.Event()
        self.running = 0
        self.gate = asyncio.Event()
        self.gate.set()

    def resources(self) -> AsyncExitStack:
        stack = AsyncExitStack()
        stack.callback(self.released.set)
        return stack

    async def work(self, sink: StatusSink) -> Mapping[str, str]:
        assert not self.released.is_set()
        self.running += 1
        assert self.running == 1, "two finalizations at once"
        try:
            await self.gate.wait()
            self.published += 1
            outcome = self.outcomes.pop(0) if self.outcomes else None
            if outcome is not None:
                raise outcome
            return {"published": str(self.published)}
        finally:
            self.running -= 1


def ignore(update: StatusUpdate) -> None:
    pass


async def test_a_second_call_repeats_the_answer_without_the_work() -> None:
    store, artifact = FinalizeStore(60), Artifact()
    token = store.add("x", artifact.work, artifact.resources())
    assert store.type_of(token) == "x"
    first = await store.run(token, ignore)
    assert artifact.released.is_set(), "published, so nothing is needed any more"
    assert await store.run(token, ignore) == first == {"published": "1"}
    assert artifact.published == 1
    await store.close()


async def test_a_failure_can_be_repeated_with_the_resources_still_there() -> None:
    store, artifact = FinalizeStore(60), Artifact(UnavailableError("registry down"), None)
    token = store.add("x", artifact.work, artifact.resources())
    with pytest.raises(UnavailableError):
        await store.run(token, ignore)
    assert await store.run(token, ignore) == {"published": "2"}
    await store.close()


async def test_concurrent_calls_are_serialized() -> None:
    store, artifact = FinalizeStore(60), Artifact(UnavailableError("first"), None)
    token = store.add("x", artifact.work, artifact.resources())
    results = await asyncio.gather(*(store.run(token, ignore) for _ in range(5)), return_exceptions=True)
    assert [type(result) for result in results] == [UnavailableError, dict, dict, dict, dict]
    assert artifact.published == 2
    await store.close()


async def test_the_next_call_retries_after_a_cancelled_one() -> None:
    store, artifact = FinalizeStore(60), Artifact()
    artifact.gate.clear()
    token = store.add("x", artifact.work, artifact.resources())
    first = asyncio.create_task(store.run(token, ignore))
    second = asyncio.create_task(store.run(token, ignore))
    await asyncio.sleep(0)
    first.cancel()
    artifact.gate.set()
    assert await second == {"published": "1"}
    with pytest.raises(asyncio.CancelledError):
        await first
    await store.close()


async def test_tokens_are_unguessable_and_unknown_ones_not_found() -> None:
    store, artifact = FinalizeStore(60), Artifact()
    tokens = {store.add("x", artifact.work, AsyncExitStack()) for _ in range(100)}
    assert len(tokens) == 100
    assert all(len(token) >= 32 for token in tokens)
    for wrong in ("", "x", next(iter(tokens))[:-1]):
        assert store.type_of(wrong) == ""
        with pytest.raises(NotFoundError) as caught:
            await store.run(wrong, ignore)
        assert caught.value.field == "finalize_token"
    await store.close()


async def test_an_expired_token_releases_its_resources() -> None:
    store, artifact = FinalizeStore(0.01), Artifact()
    token = store.add("x", artifact.work, artifact.resources())
    await artifact.released.wait()
    with pytest.raises(NotFoundError):
        await store.run(token, ignore)
    assert artifact.published == 0


async def test_a_token_does_not_expire_while_it_is_used() -> None:
    store, artifact = FinalizeStore(0.01), Artifact()
    artifact.gate.clear()
    token = store.add("x", artifact.work, artifact.resources())
    call = asyncio.create_task(store.run(token, ignore))
    await asyncio.sleep(0.05)
    assert not artifact.released.is_set()
    artifact.gate.set()
    assert await call == {"published": "1"}


async def test_recent_unpublished_tokens_are_counted() -> None:
    store, artifact = FinalizeStore(60), Artifact()
    token = store.add("x", artifact.work, artifact.resources())
    assert store.unpublished(younger_than=60) == 1
    assert store.unpublished(younger_than=0) == 0
    await store.run(token, ignore)
    assert store.unpublished(younger_than=60) == 0
    await store.close()


async def test_discarding_waits_for_publishing() -> None:
    store, artifact = FinalizeStore(60), Artifact()
    artifact.gate.clear()
    token = store.add("x", artifact.work, artifact.resources())
    call = asyncio.create_task(store.run(token, ignore))
    await asyncio.sleep(0)
    discarding = asyncio.create_task(store.discard(token))
    await asyncio.sleep(0)
    assert not artifact.released.is_set()
    artifact.gate.set()
    assert await call == {"published": "1"}
    await discarding
    assert artifact.released.is_set()
    await store.discard(token)


@pytest.mark.parametrize("end", ["discard", "drop", "close"])
async def test_dropping_and_closing_release_without_publishing(end: str) -> None:
    store, artifact = FinalizeStore(60), Artifact()
    token = store.add("x", artifact.work, artifact.resources())
    match end:
        case "discard":
            await store.discard(token)
        case "drop":
            await store.drop(token)
        case _:
            await store.close()
    assert artifact.released.is_set()
    assert artifact.published == 0
    with pytest.raises(NotFoundError):
        await store.run(token, ignore)


async def test_a_failed_cleanup_does_not_affect_the_result(caplog: pytest.LogCaptureFixture) -> None:
    store, artifact = FinalizeStore(60), Artifact()

    def fail() -> None:
        raise OSError("busy")

    resources = AsyncExitStack()
    resources.callback(fail)
    token = store.add("x", artifact.work, resources)
    assert await store.run(token, ignore) == {"published": "1"}
    assert "busy" in caplog.text


async def test_a_release_that_is_cancelled_goes_on() -> None:
    store, artifact = FinalizeStore(60), Artifact()
    artifact.gate.clear()
    token = store.add("x", artifact.work, artifact.resources())
    running = asyncio.create_task(store.run(token, ignore))
    await asyncio.sleep(0)
    discarding = asyncio.create_task(store.discard(token))
    await asyncio.sleep(0)
    discarding.cancel()
    with pytest.raises(asyncio.CancelledError):
        await discarding
    assert not artifact.released.is_set()
    artifact.gate.set()
    await running
    await artifact.released.wait()
    await store.close()


async def test_a_token_ends_with_the_awaited_event() -> None:
    store, artifact, end = FinalizeStore(60), Artifact(), asyncio.Event()

    async def ended() -> None:
        await end.wait()

    token = store.add("x", artifact.work, artifact.resources())
    store.discard_after(token, ended)
    await asyncio.sleep(0)
    assert store.type_of(token) == "x"
    end.set()
    await artifact.released.wait()
    with pytest.raises(NotFoundError):
        await store.run(token, ignore)
    await store.close()


async def test_a_removed_token_leaves_no_task() -> None:
    store, end = FinalizeStore(60), asyncio.Event()

    async def ended() -> None:
        await end.wait()

    before = asyncio.all_tasks()
    for drop in (store.discard, store.drop):
        artifact = Artifact()
        token = store.add("x", artifact.work, artifact.resources())
        store.discard_after(token, ended)
        await drop(token)
        assert artifact.released.is_set()
        assert asyncio.all_tasks() == before


async def test_a_token_expires_after_its_last_use(caplog: pytest.LogCaptureFixture) -> None:
    store, artifact = FinalizeStore(0.01), Artifact()
    token = store.add("x", artifact.work, artifact.resources())
    await store.run(token, ignore)
    await until(lambda: store.type_of(token) == "")
    assert caplog.messages == [], "it was published"


async def test_what_expires_unpublished_is_told(caplog: pytest.LogCaptureFixture) -> None:
    store, artifact = FinalizeStore(0.01), Artifact()
    store.add("x", artifact.work, artifact.resources())
    await artifact.released.wait()
    assert caplog.messages == ["finalize token expired, the artifact was never published: type=x"]
