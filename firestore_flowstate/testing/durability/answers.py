"""Answers that come at the worst moment: an answer whose `resume` has succeeded is what the interrupt returns."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

from ...flows import NotWaitingError
from ...store import VersionedFlowStateStore
from ..conformance.suite import Suite
from .contests import _lost
from .host import PATIENCE_SECONDS, Host, begins, finish, is_final, is_suspended, stored, until, writes
from .invariants import violations
from .journal import Event, Journal
from .samples import asking, asking_together, impatient, parental

_PASSES = 24
"""More passes of the loop than a driver needs to see an answer in a store in memory, so that one of them is that."""


def _answering(host: Host, id: str, *answers: tuple[str, object]) -> Callable[[], Awaitable[None]]:
    async def answer() -> None:
        for key, value in answers:
            with suppress(NotWaitingError):  # another answer may have come just before
                await host.answer(id, key, value)

    return answer


async def _result(host: Host, id: str) -> object:
    return await host.flows.result(id, timeout=PATIENCE_SECONDS)


class AnswerTests(Suite):
    """Answers that come together with each of a driver's writes."""

    @pytest.mark.asyncio
    async def test_an_answer_that_comes_with_the_suspension(self, store: VersionedFlowStateStore) -> None:
        """The drive was about to suspend the run, sees the answer by the conflict, and goes on with it."""
        journal = Journal()
        host, other = Host(store, journal), Host(store, journal)
        await host.flows.start(asking, 1.0, id="x")
        host.at_write(is_final, _answering(other, "x", ("approve", 2)), after=False)

        assert "done" == await host.drive("x")
        assert [1, 2, 3] == await _result(host, "x")
        assert [] == violations(journal.events())

    @pytest.mark.asyncio
    async def test_one_of_two_answers_that_comes_with_the_suspension(self, store: VersionedFlowStateStore) -> None:
        """The branch that has its answer goes on before the run waits for the other answer."""
        journal = Journal()
        host, other = Host(store, journal), Host(store, journal)
        await host.flows.start(asking_together, 1.0, id="x")
        host.at_write(is_final, _answering(other, "x", ("b", 2)), after=False)

        assert "waiting" == await host.drive("x")
        assert 1 == len(begins(journal, "add-b"))
        await finish(host, "x", answers={"a": 1})
        assert [1, 2, 7] == await _result(host, "x")
        assert [] == violations(journal.events())

    @pytest.mark.asyncio
    async def test_an_answer_that_comes_after_the_suspension(self, store: VersionedFlowStateStore) -> None:
        """The answer makes the run due, and has it dispatched."""
        journal = Journal()
        host, other = Host(store, journal), Host(store, journal)
        await host.flows.start(asking, 1.0, id="x")

        assert "waiting" == await host.drive("x")
        await other.answer("x", "approve", 2)
        assert [None, None] == [task["at"] for task in journal.events() if task["what"] == "task"]
        assert "done" == await host.drive("x")
        assert [] == violations(journal.events())

    @pytest.mark.asyncio
    async def test_a_child_that_ends_with_the_suspension(self, store: VersionedFlowStateStore) -> None:
        """Its parent was about to be suspended, and goes on with the result."""
        journal = Journal()
        host, other = Host(store, journal), Host(store, journal)
        await host.flows.start(parental, 1.0, id="x")

        async def end_child() -> None:
            [child] = {event["run"] for event in journal.events() if event["run"] != "x"}
            assert "done" == await other.drive(child)

        host.at_write(is_final, end_child, after=False)

        assert "done" == await host.drive("x")
        assert [2, 5] == await _result(host, "x")
        assert [] == violations(journal.events())

    @pytest.mark.asyncio
    async def test_an_answer_that_comes_with_any_write(self, store: VersionedFlowStateStore) -> None:
        """The answer is the result, before or after any write, whether the run has asked for it yet or not."""
        for number in range(1, 6):
            for after in (False, True):
                journal = Journal()
                host, other = Host(store, journal), Host(store, journal)
                id = f"x-{number}-{after}"
                await host.flows.start(asking, 1.0, id=id)
                host.at_write(_numbered(number), _answering(other, id, ("approve", 2)), after=after)
                await finish(host, id, answers={"approve": 2})

                assert [1, 2, 3] == await _result(host, id)
                assert [1, 1] == [len(begins(journal, key)) for key in ("first", "last")]
                assert [] == violations(journal.events()), (number, after)

    @pytest.mark.asyncio
    async def test_an_answer_that_comes_with_the_timeout(self, store: VersionedFlowStateStore) -> None:
        """The answer was stored before the timeout, so it is the result."""
        journal = Journal()
        host, other = Host(store, journal), Host(store, journal)
        await host.flows.start(impatient, 1.0, id="x")
        host.at_write(writes("approve"), _answering(other, "x", ("approve", "yes")), after=False)
        drive = host.drive("x")
        await _asks(host, "x")
        host.clock.move(2)

        assert "done" == await drive
        assert "in time" == await _result(host, "x")
        assert [] == violations(journal.events())

    @pytest.mark.asyncio
    async def test_an_answer_that_the_driver_sees_as_the_time_is_up(self, store: VersionedFlowStateStore) -> None:
        """The answer was stored before the timeout, so it is the result, in whichever pass of the loop the two meet."""
        for passes in range(_PASSES):
            journal, id = Journal(), f"x-{passes}"
            host, other = Host(store, journal), Host(store, journal)
            await host.flows.start(impatient, 1.0, id=id)
            drive = host.drive(id)
            await _asks(host, id)
            await other.answer(id, "approve", "yes")
            host.flows._engine.poke(id)
            for _ in range(passes):
                await asyncio.sleep(0)
            host.clock.move(2)

            assert "done" == await drive
            assert "in time" == await _result(host, id), passes
            assert [] == violations(journal.events()), passes

    @pytest.mark.asyncio
    async def test_an_answer_that_comes_after_the_timeout(self, store: VersionedFlowStateStore) -> None:
        """The answer is refused, since the timeout is the result."""
        journal = Journal()
        host, other = Host(store, journal), Host(store, journal)
        await host.flows.start(impatient, 1.0, id="x")
        refused = asyncio.Event()

        async def answer() -> None:
            with pytest.raises(NotWaitingError):
                await other.answer("x", "approve", "yes")
            refused.set()

        host.at_write(writes("approve"), answer, after=True)
        drive = host.drive("x")
        await _asks(host, "x")
        host.clock.move(2)

        assert "done" == await drive
        assert refused.is_set()
        assert "late" == await _result(host, "x")
        assert [] == violations(journal.events())

    @pytest.mark.asyncio
    async def test_a_timeout_whose_reply_was_lost(self, store: VersionedFlowStateStore) -> None:
        """Whatever is stored is the result."""
        journal = Journal()
        host = Host(store, journal)
        await host.flows.start(impatient, 1.0, id="x")
        host.at_write(writes("approve"), _lost, after=True)
        drive = host.drive("x")
        await _asks(host, "x")
        host.clock.move(2)

        assert "done" == await drive
        assert "late" == await _result(host, "x")
        assert [] == violations(journal.events())

    @pytest.mark.asyncio
    async def test_an_answer_given_again_wakes_the_run_again(self, store: VersionedFlowStateStore) -> None:
        """Who gave it first may have died before the run was woken. Both name the same task."""
        journal = Journal()
        host = Host(store, journal)
        await host.flows.start(asking, 1.0, id="x")
        assert "waiting" == await host.drive("x")
        for _ in range(2):
            await host.flows.resume("x", 2, step="approve", key="k")
        _, *woken = [event["wake"] for event in journal.events() if event["what"] == "task"]

        assert 2 == len(woken)
        assert 1 == len(set(woken))
        await finish(host, "x")
        await host.flows.result("x", timeout=PATIENCE_SECONDS)
        assert [] == violations(journal.events())

    @pytest.mark.asyncio
    async def test_two_answers_at_once(self, store: VersionedFlowStateStore) -> None:
        """One of them succeeds, and is the result."""
        journal = Journal()
        host, other = Host(store, journal), Host(store, journal)
        await host.flows.start(asking, 1.0, id="x")
        assert "waiting" == await host.drive("x")
        host.at_write(lambda write: True, _answering(other, "x", ("approve", 2)), after=False)
        with pytest.raises(NotWaitingError):
            await host.answer("x", "approve", 9)
        await finish(host, "x")

        assert [1, 2, 3] == await _result(host, "x")
        assert [] == violations(journal.events())


def _numbered(number: int) -> Callable[[Event], bool]:
    left = [number]

    def matches(write: Event) -> bool:
        left[0] -= 1
        return left[0] == 0

    return matches


async def _asks(host: Host, id: str) -> None:
    """Return when the drive waits for an answer."""
    await until(lambda: (drive := host.flows._engine.drives.get(id)) is not None and bool(drive.waits.open))
    assert not await is_suspended(host, id)
    await stored(host, id)
