"""Looking for what a deployment of durable flows lacks: nobody who drives what is due, names unknown, a queue away.

``flowstate doctor`` prints what it finds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from datetime import datetime, timedelta
from typing import Final, Literal

from firestore_flowstate import FirestoreFlowStateStore, FlowState
from firestore_flowstate.doctor import Finding, late_run, passed_since, spelled
from firestore_flowstate.doctor import examine as examine_store

from .due import claimable_at, look_at
from .errors import DispatchError
from .flows import Flows
from .record import ended_of, is_run, record_of, wake_at

__all__ = ["examine"]

_LATE: Final = timedelta(minutes=3)
"""A sweep a minute, and the two minutes in which it takes up what it has found."""
_LEASE_MILLISECONDS: Final = 60_000
"""What flows have that say nothing else."""


async def examine(
    store: FirestoreFlowStateStore, flows: Flows | None = None, *, progress: Callable[[int], None] | None = None
) -> AsyncGenerator[Finding, None]:
    """Yield what is wrong with the flows' queue, and with the store's collection and the runs in it; change nothing.

    Args:
        store: The store.
        flows: The flows of an application, whose names and queue are looked at too.
        progress: Called after each page with the number of documents so far.

    Raises:
        BackendError: Firestore cannot be reached, or refuses.
    """
    check = getattr(flows.dispatcher, "check", None) if flows is not None else None
    if check is not None:
        try:
            await check()
        except DispatchError as error:
            yield Finding(kind="queue", id=None, message=str(error))
    runs = _Runs(flows)
    async with aclosing(examine_store(store, look=runs.look, progress=progress)) as findings:
        async for finding in findings:
            yield finding
    for finding in runs.unknown():
        yield finding


class _Runs:
    """Looks at runs.

    Args:
        flows: The flows that the application knows; None: nobody says.
    """

    def __init__(self, flows: Flows | None) -> None:
        self._names = None if flows is None else frozenset(flows._engine.flows)
        self._lease = _LEASE_MILLISECONDS if flows is None else flows._engine.lease
        self._unknown: Counter[str] = Counter()

    def look(self, id: str, state: FlowState, now: datetime) -> Iterator[Finding]:
        """Yield what is wrong with the run, or with a flow that is none."""
        if not is_run(state):
            yield from late_run(id, state, now)
            return
        if self._names is not None and ended_of(state) is None and state.name not in self._names:
            self._unknown[str(state.name)] += 1
        passed, without = _overdue(id, state, now, lease=self._lease)
        if passed <= _LATE:
            return
        owned = ended_of(state) is None and record_of(state).owner is not None
        told = "whoever drove it has died, and nobody has taken it over" if owned else "nobody has driven it"
        if without:  # as a save of Genkit JS leaves it
            told += ". It has no wakeAt by which a sweep would find it: start it again by its id, or drive it"
        else:
            told += f". {self._advice(state)}"
        kind: Literal["dead_owner", "late_run"] = "dead_owner" if owned else "late_run"
        yield Finding(kind=kind, id=id, message=f"It has been due for {spelled(passed)}, and {told}.")

    def unknown(self) -> Iterator[Finding]:
        """Yield the names that the application does not know, of the runs that were looked at."""
        for name, count in sorted(self._unknown.items()):
            runs = f"1 run of the flow {name!r} has" if count == 1 else f"{count:,} runs of the flow {name!r} have"
            message = (
                f"{runs} not ended, and this application "
                "has no flow of that name: import the module that defines it, or see that another process drives them."
            )
            yield Finding(kind="unknown_flow", id=None, message=message)

    def _advice(self, state: FlowState) -> str:
        if self._names is not None and state.name not in self._names:
            return f"This application has no flow {state.name!r}: see that a process which has one sweeps, or works"
        return "See that a worker or a scheduled sweep of a process that knows its flow runs"


def _overdue(id: str, state: FlowState, now: datetime, *, lease: int) -> tuple[timedelta, bool]:
    """Return for how long the run has been due, and whether that is without a moment to find it by."""
    moment, record, wake = round(now.timestamp() * 1000), record_of(state), wake_at(state)
    if ended_of(state) is not None:  # something may be left to do
        return (timedelta() if wake is None else passed_since(wake, now)), False
    if look_at(id, state, now=moment, lease=lease).what != "due":
        return timedelta(), False
    if wake is None:
        return (timedelta() if state.updated_at is None else now - state.updated_at), True
    since = wake if record.owner is None else claimable_at(id, record, wake, lease=lease)
    return passed_since(since, now), False
