"""A process that dies, or a reply that is lost, at each write of each sample."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, ClassVar

import pytest

from ...errors import StoreUnavailableError
from ...store import VersionedFlowStateStore
from ..conformance.suite import Suite
from ..simulation import Simulation, simulate
from .invariants import violations
from .journal import Event, Journal
from .samples import SAMPLES, Sample
from .watched_store import WatchedStore

_HOUR: float = 3600.0
_LOSSES = [sample for sample in SAMPLES if sample.name not in ("family", "late")]


class CrashTests(Suite):
    """Samples end as they must, whatever happens at one of their writes.

    Attributes:
        every: Only each so many-th write is tried, for stores that are slow. One that is tried in several forms may
            share the writes between them.
        first: The number of the first that is tried, from 1.
    """

    every: ClassVar[int] = 1
    first: ClassVar[int] = 1

    @pytest.mark.asyncio
    @pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
    async def test_a_process_may_die_at_any_write(self, store: VersionedFlowStateStore, sample: Sample) -> None:
        """Before it and after it: the run ends as it may end, and every invariant holds."""
        calm = await _simulated(sample, store)
        for number in range(self.first, calm.writes + 1, self.every):
            await _simulated(sample, store, crash_before_write=number)
            await _simulated(sample, store, crash_after_write=number)

    @pytest.mark.asyncio
    @pytest.mark.parametrize("sample", _LOSSES, ids=lambda sample: sample.name)
    async def test_any_reply_may_be_lost(self, store: VersionedFlowStateStore, sample: Sample) -> None:
        """Whether the write was stored or not: no step begins again for that."""
        calm = await _simulated(sample, store)
        for number in range(max(self.first, 2), calm.writes + 1, self.every):
            for stored in (True, False):
                lossy = await _simulated(sample, store, lost=number, stored=stored)
                if sample.name != "asking_each":  # whose steps begin again after each wait inside of them
                    assert sorted(calm.steps) == sorted(lossy.steps), f"the reply to write {number} was lost"


async def _simulated(
    sample: Sample,
    store: VersionedFlowStateStore,
    *,
    lost: int | None = None,
    stored: bool = True,
    **crashes: int,
) -> Simulation:
    """Run the sample, and see that it ends as it may.

    Args:
        sample: What to run.
        store: Where.
        lost: The number of the write whose outcome nobody tells.
        stored: Whether that write reaches the store.
        crashes: When the process dies.
    """
    journal = Journal()
    watched: Any = WatchedStore(store, journal)
    if lost is not None:
        hook = _losing(lost)
        watched.after, watched.before = (hook, watched.before) if stored else (watched.after, hook)
    simulation = await simulate(sample.flow, _HOUR, answers=sample.answers, store=watched, **crashes)
    what = f"{sample.name} with {crashes or (lost, stored)}"
    assert sample.accepts(simulation.result, simulation.error), f"{what}: {simulation.result!r}, {simulation.error!r}"
    assert [] == violations(journal.events()), what
    return simulation


def _losing(number: int) -> Callable[[Event], Awaitable[None]]:
    """Return a hook at which the outcome of the write with the number is lost."""
    left = [number]

    async def lose(write: Event) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise StoreUnavailableError("the reply was lost", flow_id=write["run"], outcome_unknown=True)

    return lose
