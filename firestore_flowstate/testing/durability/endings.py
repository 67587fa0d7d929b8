"""How runs end, are cancelled and retried, and what must not happen afterwards."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest

from ...errors import FlowStateEncodeError
from ...flows import FlowCancelledError, FlowFailedError, Run, StepFailedError
from ...flows.record import ended_of
from ...store import VersionedFlowStateStore
from ..conformance.suite import Suite
from .host import PATIENCE_SECONDS, Host, begins, begun, finish, stored, writes
from .invariants import violations
from .journal import Journal
from .samples import failing, family, late, mapped, once, sequential, sleepy


class EndingTests(Suite):
    """The last write of a drive, and what comes after it."""

    @pytest.mark.asyncio
    async def test_nothing_is_written_after_a_suspension(self, store: VersionedFlowStateStore) -> None:
        """The function may go on with operations and progress when it is cancelled: none of them writes."""
        journal = Journal()
        host = Host(store, journal)
        await host.flows.start(late, 1.0, id="x")

        assert "waiting" == await host.drive("x")
        await asyncio.sleep(0.05)  # in which what the function still does would be written
        assert [] == begins(journal, "beat")
        await stored(host, "x")
        assert [] == violations(journal.events())
        await finish(host, "x", answers={"approve": 5})
        assert [] == violations(journal.events())

    @pytest.mark.asyncio
    async def test_a_value_that_the_store_refuses_changes_nothing_else(self, store: VersionedFlowStateStore) -> None:
        """The run fails and names the step. The other results of the same commit are stored."""
        journal = Journal()
        host = Host(store, journal)

        async def refuse() -> None:
            raise FlowStateEncodeError("Cannot store this.", path=f"cache[{json.dumps('square-1')}].value")

        both, arrived = asyncio.Event(), list[str]()

        async def together(key: str) -> None:
            """Let the first two steps end in one pass of the loop, so that they are committed together."""
            arrived.append(key)
            if len(arrived) == 2:
                both.set()
            await both.wait()

        host.store.in_step = together
        host.at_write(writes("square-1"), refuse, after=False)
        await host.flows.start(mapped, 1.0, id="x")

        assert "failed" == await host.drive("x")
        state = await stored(host, "x")
        begun_keys = {event["key"] for event in journal.events() if event["what"] == "end"}
        assert begun_keys - {"square-1"} == set(state.cache)
        with pytest.raises(FlowFailedError, match="'square-1'"):
            await host.flows.result("x", timeout=PATIENCE_SECONDS)
        assert [] == violations(journal.events())

    @pytest.mark.asyncio
    async def test_an_error_of_any_text_is_recorded(
        self, store: VersionedFlowStateStore, caplog: pytest.LogCaptureFixture
    ) -> None:
        """An error may name a file whose name is not UTF-8. It ends a step, and the run itself."""
        caplog.set_level(logging.CRITICAL, "firestore_flowstate.flows")  # pytest-xdist cannot send such a log
        host = Host(store, Journal())

        def read() -> None:
            raise FileNotFoundError("\udcff" + "x" * 2_000_000)

        @host.flows.flow
        async def reading(run: Run) -> None:
            try:
                await run.step("read", read)
            except StepFailedError:
                read()

        await host.flows.start(reading, id="x")

        assert "failed" == await host.drive("x")
        assert ["read"] == list((await stored(host, "x")).cache)
        with pytest.raises(FlowFailedError, match=r"FileNotFoundError: \\udcffx"):
            await host.flows.result("x", timeout=PATIENCE_SECONDS)

    @pytest.mark.asyncio
    async def test_a_cancelled_run_begins_no_further_step(self, store: VersionedFlowStateStore) -> None:
        """The step in flight is awaited and recorded."""
        journal = Journal()
        host, other = Host(store, journal), Host(store, journal)
        hold = asyncio.Event()

        async def in_step(key: str) -> None:
            if key == "add-to-1":
                await hold.wait()

        host.store.in_step = in_step
        await host.flows.start(sequential, 1.0, id="x")
        drive = host.drive("x")
        await begun(journal, "add-to-1")
        await other.flows.cancel("x", "no longer needed")
        hold.set()

        assert "cancelled" == await drive
        assert ["add-to-0", "add-to-1"] == sorted((await stored(host, "x")).cache)
        with pytest.raises(FlowCancelledError, match="no longer needed"):
            await other.flows.result("x", timeout=PATIENCE_SECONDS)
        assert [] == begins(journal, "add-to-2")
        assert [] == violations(journal.events())

    @pytest.mark.asyncio
    async def test_a_run_that_nobody_drives_is_cancelled_at_once(self, store: VersionedFlowStateStore) -> None:
        """Its children are cancelled after it."""
        journal = Journal()
        host = Host(store, journal)
        await host.flows.start(family, 10.0, id="x")
        for _ in range(2):
            await host.drive("x")
            for child in [event["run"] for event in journal.events() if event.get("how") == "create"]:
                await host.drive(child)
        await host.flows.cancel("x", "enough")
        children = {event["run"] for event in journal.events() if event.get("how") == "create"}

        assert {"x": "cancelled"}.items() <= {id: ended_of(await stored(host, id)) for id in children}.items()
        assert all([ended_of(await stored(host, id)) is not None for id in children])
        assert [] == violations(journal.events())

    @pytest.mark.asyncio
    async def test_a_run_that_nobody_drives_ends_in_a_stretch_of_its_own(self, store: VersionedFlowStateStore) -> None:
        """The run ends when it is cancelled, and not when its last drive ended. A retry keeps how it ended."""
        host = Host(store, Journal())
        await host.flows.start(late, 1.0, id="x")
        await host.drive("x")
        drive = (await stored(host, "x")).executions[-1]
        await host.flows.cancel("x", "enough")
        before, end = (await stored(host, "x")).executions[-2:]
        assert drive == before
        assert end.start_time == end.end_time
        extra = end.model_extra or {}
        assert (False, ["approve"]) == (extra["driven"], [wait["step"] for wait in extra["waits"]])

        await host.flows.retry("x")
        extra = (await stored(host, "x")).executions[-1].model_extra or {}
        assert ("cancelled", "cancelled: enough") == (extra["ended"], extra["error"])

    @pytest.mark.asyncio
    async def test_a_run_cancelled_at_any_write_ends_once(self, store: VersionedFlowStateStore) -> None:
        """The run is done or cancelled, whether the cancellation comes before the write or after it."""
        for number in range(1, 7):
            for after in (False, True):
                journal = Journal()
                host, other = Host(store, journal), Host(store, journal)
                id = f"x-{number}-{after}"
                await host.flows.start(sleepy, 10.0, id=id)
                left = [number]

                def matches(write: Any, left: list[int] = left) -> bool:
                    left[0] -= 1
                    return left[0] == 0

                async def cancel(other: Host = other, id: str = id) -> None:
                    await other.flows.cancel(id, "enough")

                host.at_write(matches, cancel, after=after)
                await finish(host, id)

                assert ended_of(await stored(host, id)) in ("done", "cancelled")
                assert [] == violations(journal.events()), (number, after)

    @pytest.mark.asyncio
    async def test_a_retry_runs_what_failed(self, store: VersionedFlowStateStore) -> None:
        """A step that has a result does not begin again."""
        journal = Journal()
        host = Host(store, journal)
        await host.flows.start(failing, 1.0, id="x")
        await finish(host, "x")
        await host.flows.retry("x")
        await finish(host, "x")

        assert [1, 4] == [len(begins(journal, key)) for key in ("first", "never")]
        assert [] == violations(journal.events())

    @pytest.mark.asyncio
    async def test_a_retry_from_a_step_runs_all_behind_it(self, store: VersionedFlowStateStore) -> None:
        """The retry runs none of the steps before it."""
        journal = Journal()
        host = Host(store, journal)
        await host.flows.start(sequential, 1.0, id="x")
        hold = asyncio.Event()

        async def in_step(key: str) -> None:
            if key == "add-to-2":
                await hold.wait()

        host.store.in_step = in_step
        drive = host.drive("x")
        await begun(journal, "add-to-2")
        await host.flows.cancel("x")
        hold.set()
        assert "cancelled" == await drive
        await host.flows.retry("x", from_step="add-to-1")
        await finish(host, "x")

        assert 6 == await host.flows.result("x", timeout=PATIENCE_SECONDS)
        assert [1, 2, 2, 1] == [len(begins(journal, f"add-to-{number}")) for number in range(4)]
        assert [] == violations(journal.events())

    @pytest.mark.asyncio
    async def test_what_must_not_happen_twice(self, store: VersionedFlowStateStore) -> None:
        """A process that dies inside of the step leaves the intent, and the next process does not begin the step."""
        journal = Journal()
        dying, other = Host(store, journal), Host(store, journal, seconds=1000)

        async def in_step(key: str) -> None:
            if key == "once-1":
                await asyncio.get_running_loop().create_future()

        dying.store.in_step = in_step
        await dying.flows.start(once, 1.0, id="x")
        drive = dying.drive("x")
        await begun(journal, "once-1")
        await finish(other, "x")
        drive.cancel()
        await asyncio.gather(drive, return_exceptions=True)

        assert ["done", "interrupted", "done"] == await other.flows.result("x", timeout=PATIENCE_SECONDS)
        assert [] == violations(journal.events())
