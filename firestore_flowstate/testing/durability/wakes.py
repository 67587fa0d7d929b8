"""Tasks that wake runs: as few as are needed, however many processes look at a run."""

from __future__ import annotations

import pytest

from ...store import VersionedFlowStateStore
from ..conformance.suite import Suite
from .host import Host, finish
from .invariants import violations
from .journal import Journal
from .samples import sequential, sleepy

_DAY_MINUTES = 24 * 60


def _names(journal: Journal) -> list[str]:
    return [event["wake"] for event in journal.events() if event["what"] == "task"]


class WakeTests(Suite):
    """The names of tasks: a queue takes only one task of a name."""

    @pytest.mark.asyncio
    async def test_a_wake_time_is_one_task(self, store: VersionedFlowStateStore) -> None:
        """There is one task, however many processes look at a run that waits, and whatever their clocks show."""
        journal = Journal()
        hosts = [Host(store, journal, seconds=seconds) for seconds in (0, 1, 100, 2000)]
        await hosts[0].flows.start(sleepy, 3600.0, id="x")
        assert "waiting" == await hosts[0].drive("x")
        for host in hosts:
            assert "waiting" == await host.drive("x")

        start, *sleep = _names(journal)
        assert 1 == len(set(sleep)), "each of them names the same task"
        assert start not in sleep
        assert [] == violations(journal.events())
        await finish(hosts[-1], "x")

    @pytest.mark.asyncio
    async def test_sweeps_name_few_tasks(self, store: VersionedFlowStateStore) -> None:
        """A run has one more for each power of two minutes that it is late: 11 in a day of a sweep each minute."""
        journal = Journal()
        host = Host(store, journal)
        await host.flows.start(sequential, 1.0, id="x")
        for _ in range(_DAY_MINUTES // 10):
            host.clock.jump(600)
            assert 1 == await host.flows.sweep()

        assert len(set(_names(journal))) <= 1 + 11
        await finish(host, "x")
        assert [] == violations(journal.events())

    @pytest.mark.asyncio
    async def test_a_sweep_leaves_what_is_not_due(self, store: VersionedFlowStateStore) -> None:
        """A sweep also leaves runs that have been due for less than 10 s, since their own tasks wake them."""
        journal = Journal()
        host = Host(store, journal)
        await host.flows.start(sequential, 1.0, id="x")
        await host.flows.start(sleepy, 3600.0, id="y")
        assert "waiting" == await host.drive("y")
        host.clock.jump(9)

        assert 0 == await host.flows.sweep()
        host.clock.jump(2)
        assert 1 == await host.flows.sweep()
