from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from exporter.errors import UnavailableError
from exporter.pb.moby.buildkit.v1 import control_pb2
from exporter.proxy.builds import MAX_REF_LENGTH, Builds
from exporter.proxy.decision import BuildRouter
from exporter.proxy.metrics import ProxyMetrics
from exporter.takeover.plan import Routes
from tests.sessions import until

ROUTES = Routes(local=cast(Any, None), local_types=frozenset({"moby"}), remote={})
DAEMON: Any = object()


def test_the_progress_of_a_build_is_shared_while_somebody_uses_it() -> None:
    builds = Builds()
    with builds.progress("a") as first:
        with builds.progress("a") as second, builds.progress("b") as other:
            assert first is second is not other
        with builds.progress("a") as third:
            assert third is first
    with builds.progress("a") as fresh:
        assert fresh is not first


def test_builds_are_admitted_until_the_end() -> None:
    builds = Builds()
    builds.admit()
    builds.is_closed = True
    with pytest.raises(UnavailableError):
        builds.admit()


async def test_watchers_hear_of_a_refusal_before_and_after_it() -> None:
    builds = Builds()
    with builds.progress("a"), builds.progress("b"):
        early = asyncio.create_task(builds.wait_refused("a"))
        other = asyncio.create_task(builds.wait_refused("b"))
        await asyncio.sleep(0)
        assert not early.done()
        builds.refuse("a")
        await early
        await builds.wait_refused("a")
        assert not other.done()
        other.cancel()


async def test_a_bounded_number_of_refused_builds_is_remembered() -> None:
    builds = Builds()
    for number in range(1025):
        builds.refuse(str(number))
    await builds.wait_refused("1")
    assert list(builds._refused) == [str(number) for number in range(1, 1025)]
    builds.refuse("x" * MAX_REF_LENGTH)
    builds.refuse("x" * (MAX_REF_LENGTH + 1))
    assert max(map(len, builds._refused)) == MAX_REF_LENGTH


class Call:
    """A call of a client, which says where it went."""

    def __init__(self) -> None:
        self.went = ""

    def pass_on(self, daemon: object) -> None:
        assert daemon is DAEMON
        self.went += "daemon"

    def answer(self, answering: object, answer: object) -> None:
        self.went += str(answer)


class Counting(ProxyMetrics):
    def __init__(self) -> None:
        self.counted: list[bool] = []

    def build(self, *, has_our_exports: bool) -> None:
        self.counted.append(has_our_exports)


class Router:
    def __init__(self) -> None:
        self.builds = Builds()
        self.metrics = Counting()
        answers: Any = {"solve": "solve", "status": "status"}
        self.router = BuildRouter(ROUTES, self.builds, cast(Any, None), **answers, metrics=self.metrics)

    def solve(self, ref: str, exporter: str = "image") -> str:
        request = control_pb2.SolveRequest(Ref=ref, Exporters=[control_pb2.Exporter(Type=exporter)])
        return self.raw_solve(request.SerializeToString())

    def raw_solve(self, message: bytes | None) -> str:
        call = Call()
        self.router.solve(cast(Any, call), message, DAEMON)
        return call.went

    def status(self, ref: str) -> Call:
        return self.raw_status(control_pb2.StatusRequest(Ref=ref).SerializeToString())

    def raw_status(self, message: bytes | None) -> Call:
        call = Call()
        self.router.status(cast(Any, call), message, DAEMON)
        return call


async def test_builds_and_their_watchers_go_to_the_same_place() -> None:
    router = Router()
    early = [router.status(ref) for ref in ("plain", "plain", "ours")]
    assert [call.went for call in early] == ["", "", ""]
    assert router.solve("plain") == "daemon"
    assert router.solve("ours", "moby") == "solve"
    assert [call.went for call in early] == ["daemon", "daemon", "status"]
    assert router.status("plain").went == "daemon"
    assert router.status("ours").went == "status"
    assert router.metrics.counted == [False, True]


async def test_watchers_of_unknown_builds_are_answered_after_a_while() -> None:
    router = Router()
    first, second = router.status("late"), router.status("late")
    assert first.went == second.went == ""
    await until(lambda: first.went != "" and second.went != "")
    assert first.went == second.went == "status"
    assert not router.router._waiting
    assert router.solve("late") == "daemon"
    assert first.went == "status", "once"


async def test_a_watcher_that_has_been_routed_is_not_routed_again() -> None:
    router = Router()
    watcher = router.status("a")
    router.solve("a")
    later = router.status("b")
    await until(lambda: later.went != "")
    assert watcher.went == "daemon"


@pytest.mark.parametrize("message", [None, b"\xff\xff"])
async def test_messages_that_cannot_be_read_are_answered_here(message: bytes | None) -> None:
    router = Router()
    assert router.raw_solve(message) == "solve"
    assert router.raw_status(message).went == "status"
    assert router.metrics.counted == []


async def test_a_proxy_that_shuts_down_answers_all_builds() -> None:
    router = Router()
    router.builds.is_closed = True
    assert router.solve("a") == "solve"


async def test_a_bounded_number_of_builds_is_remembered() -> None:
    router = Router()
    for number in range(4097):
        router.solve(str(number))
    assert len(router.router._is_plain) == 4096
    assert router.status("4096").went == router.status("1").went == "daemon"
    assert router.status("0").went == ""
    router.solve("x" * MAX_REF_LENGTH)
    router.solve("x" * (MAX_REF_LENGTH + 1))
    assert max(map(len, router.router._is_plain)) == MAX_REF_LENGTH
