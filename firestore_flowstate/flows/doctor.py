"""Looking for what a deployment of durable flows lacks, as ``flowstate doctor`` prints it.

It finds runs that are due and that nobody drives, flows that the application does not know, and a queue that cannot be
reached or delivers nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import aclosing
from datetime import datetime, timedelta
from typing import Final, Literal

from firestore_flowstate import FirestoreFlowStateStore, FlowState
from firestore_flowstate.doctor import Finding, late_run, passed_since, spelled
from firestore_flowstate.doctor import examine as examine_store

from .errors import DispatchError
from .flows import Flows
from .readiness import claimable_at, look_at
from .record import ended_of, is_run, record_of, wake_at

__all__ = ["examine"]

_LATE: Final = timedelta(minutes=3)
"""A run that has been due for less is left to the sweep: it comes each minute, and a queue needs time to deliver."""
_LEASE_MILLISECONDS: Final = 60_000
"""The default of `Flows(lease=...)`, if no flows are given."""


async def examine(
    store: FirestoreFlowStateStore,
    flows: Flows | None = None,
    *,
    where: Iterable[str] = (),
    progress: Callable[[int], None] | None = None,
) -> AsyncGenerator[Finding, None]:
    """Yield what is wrong with the queue of the flows, the collection of the store, and the runs in it.

    Nothing is changed. Each document of the collection is read, and billed.

    ::

        async for finding in examine(store, flows):
            print(finding.kind, finding.id, finding.message)

    Args:
        store: The store.
        flows: The flows of an application, whose queue and names are checked too; None: only what is stored.
        where: The unknown keys that queries filter by, such as ``["owner"]``, whose indexes are looked for too.
        progress: Called after each page with the number of documents that were read so far.

    Raises:
        TypeError: `where` is one text and not several.
        InvalidQueryError: `where` has a key that no query can filter by.
        BackendError: Firestore cannot be reached, or refuses.
    """
    check = getattr(flows.dispatcher, "check", None) if flows is not None else None
    if check is not None:
        try:
            await check()
        except DispatchError as error:
            yield Finding(kind="queue", id=None, message=str(error))
    runs = _Runs(flows)
    async with aclosing(examine_store(store, where=where, look=runs.look, progress=progress)) as findings:
        async for finding in findings:
            yield finding
    for finding in runs.unknown():
        yield finding


class _Runs:
    """Examines the runs of a collection, one after the other.

    Args:
        flows: The flows that the application knows; None: the names of flows are not checked.
    """

    def __init__(self, flows: Flows | None) -> None:
        self._names = None if flows is None else frozenset(flows._engine.flows)
        self._lease = _LEASE_MILLISECONDS if flows is None else flows._engine.lease
        self._unknown: Counter[str] = Counter()

    def look(self, id: str, state: FlowState, now: datetime) -> Iterator[Finding]:
        """Yield what is wrong with the run, or with a flow state that is not a run of durable flows."""
        if not is_run(state):
            yield from late_run(id, state, now)
            return
        if self._names is not None and ended_of(state) is None and state.name not in self._names:
            self._unknown[str(state.name)] += 1
        passed, without = _overdue(id, state, now, lease=self._lease)
        if passed <= _LATE:
            return
        owned = ended_of(state) is None and record_of(state).owner is not None
        told = "the process that drove it has died, and none has taken it over" if owned else "nobody has driven it"
        if without:  # as a save of Genkit JS leaves it
            told += ". It has no wakeAt by which a sweep would find it: start it again by its id, or drive it"
        else:
            told += f". {self._advice(state)}"
        kind: Literal["dead_owner", "late_run"] = "dead_owner" if owned else "late_run"
        yield Finding(kind=kind, id=id, message=f"It has been due for {spelled(passed)}, and {told}.")

    def unknown(self) -> Iterator[Finding]:
        """Yield the names of flows that the application does not know, of the runs that were examined."""
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
    """Return for how long the run has been due, and whether it has no ``wakeAt`` by which a sweep would find it."""
    moment, record, wake = round(now.timestamp() * 1000), record_of(state), wake_at(state)
    if ended_of(state) is not None:  # something may be left to do
        return (timedelta() if wake is None else passed_since(wake, now)), False
    if look_at(id, state, now=moment, lease=lease).what != "due":
        return timedelta(), False
    if wake is None:
        return (timedelta() if state.updated_at is None else now - state.updated_at), True
    since = wake if record.owner is None else claimable_at(id, record, wake, lease=lease)
    return passed_since(since, now), False
