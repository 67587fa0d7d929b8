"""Two processes that want one run: leases that end, claims, and drivers that do not know yet that they have lost."""

from __future__ import annotations

import asyncio

import pytest

from ...errors import StoreUnavailableError
from ...flows.record import record_of
from ...store import VersionedFlowStateStore
from ..conformance.suite import Suite
from .host import LEASE_SECONDS, PAST_THE_LEASE, Host, begins, begun, finish, is_claim, is_final, stored, until, writes
from .invariants import violations
from .journal import Event, Journal
from .samples import racing, sequential


async def _lost(write: Event | None = None) -> None:
    raise StoreUnavailableError("the reply was lost", outcome_unknown=True)


class ContestTests(Suite):
    """Only the holder of the lease writes."""

    @pytest.mark.asyncio
    async def test_a_stale_driver_records_nothing(self, store: VersionedFlowStateStore) -> None:
        """A driver that held the lease was stopped for long, and has a result in hand when it goes on."""
        journal = Journal()
        stale, fresh = Host(store, journal), Host(store, journal, seconds=PAST_THE_LEASE)
        hold = asyncio.Event()

        async def in_step(key: str) -> None:
            if key == "add-to-1":
                await hold.wait()

        stale.store.in_step = in_step
        await stale.flows.start(sequential, 1.0, id="x")
        drive = stale.drive("x")
        await begun(journal, "add-to-1")
        assert "done" == await fresh.drive("x")
        stale.clock.jump(PAST_THE_LEASE)
        hold.set()

        assert "busy" == await drive
        assert 2 == len(begins(journal, "add-to-1"))
        assert 1 == len(begins(journal, "add-to-2"))
        await stored(fresh, "x")
        assert [] == violations(journal.events())

    @pytest.mark.asyncio
    async def test_a_stale_driver_writes_nothing_while_another_drives(self, store: VersionedFlowStateStore) -> None:
        """The other driver, which has the lease now, is not disturbed."""
        journal = Journal()
        stale, fresh = Host(store, journal), Host(store, journal, seconds=PAST_THE_LEASE)
        hold, hold_fresh = asyncio.Event(), asyncio.Event()

        async def in_step(key: str) -> None:
            if key == "add-to-1":
                await hold.wait()

        async def in_fresh_step(key: str) -> None:
            if key == "add-to-2":
                await hold_fresh.wait()

        stale.store.in_step, fresh.store.in_step = in_step, in_fresh_step
        await stale.flows.start(sequential, 1.0, id="x")
        drive = stale.drive("x")
        await begun(journal, "add-to-1")
        other = fresh.drive("x")
        await begun(journal, "add-to-2")
        hold.set()

        assert "busy" == await drive
        hold_fresh.set()
        assert "done" == await other
        await stored(fresh, "x")
        assert [] == violations(journal.events())

    @pytest.mark.asyncio
    async def test_a_step_that_outlasts_the_lease_is_recorded(self, store: VersionedFlowStateStore) -> None:
        """The step blocks the loop, so that nothing extends the lease. Nobody else wants the run."""
        journal = Journal()
        host = Host(store, journal)

        async def in_step(key: str) -> None:
            host.clock.jump(1.5 * LEASE_SECONDS)

        host.store.in_step = in_step
        await host.flows.start(sequential, 1.0, id="x")

        assert "done" == await host.drive("x")
        assert [1] * 4 == [len(begins(journal, f"add-to-{number}")) for number in range(4)]
        assert 1 == record_of(await stored(host, "x")).drives
        assert [] == violations(journal.events())

    @pytest.mark.asyncio
    async def test_no_step_begins_past_a_lease_that_others_have(self, store: VersionedFlowStateStore) -> None:
        """Before a step begins, a write extends the lease. By its conflict the driver learns that another has it."""
        journal = Journal()
        stale, fresh = Host(store, journal), Host(store, journal, seconds=PAST_THE_LEASE)
        hold = asyncio.Event()

        async def in_fresh_step(key: str) -> None:
            await hold.wait()

        async def stop() -> None:
            """Be stopped after a result was stored, until another process drives."""
            stale.clock.jump(PAST_THE_LEASE)
            others.append(fresh.drive("x"))
            await begun(journal, "add-to-1")

        fresh.store.in_step = in_fresh_step
        others: list[asyncio.Task[str]] = []
        stale.at_write(writes("add-to-0"), stop, after=True)
        await stale.flows.start(sequential, 1.0, id="x")

        assert "busy" == await stale.drive("x")
        assert 1 == len(begins(journal, "add-to-1"))
        hold.set()
        assert ["done"] == await asyncio.gather(*others)
        await stored(fresh, "x")
        assert [] == violations(journal.events())

    @pytest.mark.asyncio
    async def test_a_lease_is_extended_while_a_step_runs_long(self, store: VersionedFlowStateStore) -> None:
        """Others find the run busy."""
        journal = Journal()
        host = Host(store, journal)
        hold = asyncio.Event()

        async def in_step(key: str) -> None:
            await hold.wait()

        host.store.in_step = in_step
        await host.flows.start(sequential, 1.0, id="x")
        drive = host.drive("x")
        await begun(journal, "add-to-0")
        checkpoint = host.flows._engine.drives["x"].checkpoint
        for _ in range(20):
            host.clock.move(LEASE_SECONDS / 4)
            await asyncio.sleep(0)
            await until(lambda: not checkpoint.is_busy)
        other = Host(store, journal, seconds=(host.clock.now() - Host(store, journal).clock.now()) / 1000)

        assert "busy" == await other.drive("x")
        hold.set()
        assert "done" == await drive
        assert 1 == len(begins(journal, "add-to-0"))
        assert [] == violations(journal.events())

    @pytest.mark.asyncio
    async def test_one_of_two_claims(self, store: VersionedFlowStateStore) -> None:
        """Both claims have seen the run free, and one of them is refused."""
        journal = Journal()
        one, two = Host(store, journal), Host(store, journal)
        await one.flows.start(racing, 1.0, id="x")

        async def first() -> None:
            others.append(two.drive("x"))
            await begun(journal, "a0")

        others: list[asyncio.Task[str]] = []
        one.at_write(is_claim, first, after=False)

        assert await one.drive("x") in ("busy", "done")
        assert ["done"] == await asyncio.gather(*others)
        assert 1 == len(begins(journal, "a0"))
        await stored(one, "x")
        assert [] == violations(journal.events())

    @pytest.mark.asyncio
    async def test_a_claim_whose_reply_was_lost_is_known_again(self, store: VersionedFlowStateStore) -> None:
        """The driver knows it by its token. The drive goes on at once, and that does not count as a recovery."""
        journal = Journal()
        host = Host(store, journal)
        await host.flows.start(sequential, 1.0, id="x")
        host.at_write(is_claim, _lost, after=True)

        assert "done" == await host.drive("x")
        record = record_of(await stored(host, "x"))
        assert (1, 0) == (record.drives, record.recoveries)
        assert [] == violations(journal.events())

    @pytest.mark.asyncio
    async def test_an_end_whose_reply_was_lost_is_known_again(self, store: VersionedFlowStateStore) -> None:
        """The end is not written once more."""
        journal = Journal()
        host = Host(store, journal)
        await host.flows.start(sequential, 1.0, id="x")
        host.at_write(is_final, _lost, after=True)

        assert "done" == await host.drive("x")
        await stored(host, "x")
        assert [] == violations(journal.events())

    @pytest.mark.asyncio
    async def test_a_run_whose_drives_die_is_given_up(self, store: VersionedFlowStateStore) -> None:
        """More than `max_recoveries` in a row without a result are too many. The error names the steps they died in."""
        journal = Journal()
        hosts = [Host(store, journal, seconds=number * 1000 * LEASE_SECONDS, max_recoveries=3) for number in range(5)]
        for host in hosts:
            host.store.in_step = _never
        await hosts[0].flows.start(sequential, 1.0, id="x")
        drives = []
        for host in hosts[:4]:
            drives.append(host.drive("x"))
            await begun(journal, "add-to-0", len(drives))

        assert "failed" == await hosts[4].drive("x")
        for drive in drives:
            drive.cancel()
        await asyncio.gather(*drives, return_exceptions=True)
        state = await stored(hosts[4], "x")
        assert state.operation.result is not None
        assert "add-to-0" in (state.operation.result.error or "")
        assert [] == violations(journal.events())

    @pytest.mark.asyncio
    async def test_a_run_is_handed_over_before_the_budget_is_used(self, store: VersionedFlowStateStore) -> None:
        """No step begins in the margin of the budget, and the next drive goes on at once."""
        journal = Journal()
        host = Host(store, journal)

        async def in_step(key: str) -> None:
            host.clock.move(30)

        host.store.in_step = in_step
        await host.flows.start(sequential, 1.0, id="x")

        assert "handed over" == await host.drive("x", budget=65)
        assert 2 == sum(len(begins(journal, f"add-to-{number}")) for number in range(4))
        await finish(host, "x")
        assert 0 == record_of(await stored(host, "x")).recoveries
        assert [1] * 4 == [len(begins(journal, f"add-to-{number}")) for number in range(4)]
        assert [] == violations(journal.events())


async def _never(key: str) -> None:
    await asyncio.get_running_loop().create_future()
