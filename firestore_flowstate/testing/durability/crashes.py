"""A process that dies, or a reply that is lost, at each write of each sample."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, ClassVar

import pytest

from ...errors import StoreUnavailableError
from ...store import VersionedFlowStateStore
from ..conformance.suite import Suite
from ..crashing_store import Writes
from ..simulation import Simulation, simulation_with
from .invariants import violations
from .journal import Event, Journal
from .samples import SAMPLES, Sample
from .watched_store import WatchedStore

_HOUR: float = 3600.0  # seconds: a simulation moves its clock, and so sleeps whole hours
_LOSSES = [sample for sample in SAMPLES if sample.name not in ("family", "late")]


class CrashTests(Suite):
    """Samples end as they may, whatever happens at one of their writes.

    Attributes:
        every: 1 tries each write, 2 each second one, and so on, for slow stores. A store that is tried in several
            settings may share the writes between them.
        first: The number of the first write that is tried, from 1.
    """

    every: ClassVar[int] = 1
    first: ClassVar[int] = 1

    @pytest.mark.asyncio
    @pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
    async def test_a_process_may_die_at_any_write(self, store: VersionedFlowStateStore, sample: Sample) -> None:
        """The run ends as it may, and every invariant holds, whether the process dies before the write or after it."""
        calm = await _simulated(sample, store)
        for number in range(self.first, calm.writes + 1, self.every):
            await _simulated(sample, store, before=number)
            await _simulated(sample, store, after=number)

    @pytest.mark.asyncio
    @pytest.mark.parametrize("sample", _LOSSES, ids=lambda sample: sample.name)
    async def test_any_reply_may_be_lost(self, store: VersionedFlowStateStore, sample: Sample) -> None:
        """No step begins again because of that, whether the write was stored or not."""
        calm = await _simulated(sample, store)
        for number in range(max(self.first, 2), calm.writes + 1, self.every):
            for stored in (True, False):
                lossy = await _simulated(sample, store, lost=number, stored=stored)
                if sample.name != "asking_each":  # its steps have waits inside, and begin again after each wait
                    assert sorted(calm.steps) == sorted(lossy.steps), f"the reply to write {number} was lost"


async def _simulated(
    sample: Sample,
    store: VersionedFlowStateStore,
    *,
    lost: int | None = None,
    stored: bool = True,
    before: int | None = None,
    after: int | None = None,
) -> Simulation:
    """Run the sample, and assert that it ends as it may and violates no invariant.

    Args:
        sample: The sample.
        store: The store that keeps the run.
        lost: The number of the write whose reply is lost.
        stored: Whether that write reaches the store.
        before: The number of the write before which the process dies; None: before none.
        after: The number of the write after which it dies; None: after none.
    """
    journal = Journal()
    watched: Any = WatchedStore(store, journal)
    if lost is not None:
        hook = _losing(lost)
        watched.after, watched.before = (hook, watched.before) if stored else (watched.after, hook)
    writes = Writes(before, after)
    simulation = await simulation_with(sample.flow, _HOUR, writes, answers=sample.answers, store=watched)
    what = f"{sample.name}, dies before {before}, after {after}, lost {lost}, stored {stored}"
    assert sample.accepts(simulation.result, simulation.error), f"{what}: {simulation.result!r}, {simulation.error!r}"
    assert [] == violations(journal.events()), what
    return simulation


def _losing(number: int) -> Callable[[Event], Awaitable[None]]:
    """Return a hook that raises at the write with the number, as if its reply were lost."""
    left = [number]

    async def lose(write: Event) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise StoreUnavailableError("the reply was lost", flow_id=write["run"], outcome_unknown=True)

    return lose
