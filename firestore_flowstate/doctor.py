"""Looking for what is wrong with a collection: documents that lists cannot see or nobody can read, missing indexes.

``flowstate doctor`` prints what it finds. `firestore_flowstate.flows.doctor` finds more about durable flows.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from datetime import datetime, timedelta
from typing import Final, TypeAlias

from . import _operations
from ._arguments import check_keys
from ._query.matching import wake_at
from .firestore import FirestoreFlowStateStore
from .models import FlowState
from .query import FlowStateQuery
from .reports import Finding

__all__ = ["Finding", "Look", "examine", "late_run", "passed_since", "spelled"]

Look: TypeAlias = Callable[[str, FlowState, datetime], Iterable[Finding]]
"""Returns what is wrong with a stored flow, from its id, its state and the server's time."""
_LATE: Final = timedelta(minutes=3)
"""One minute until the next sweep, and two in which that sweep takes up what it has found."""
_STILL: Final = timedelta(days=3)
_DAY: Final = 86_400_000  # milliseconds
_FAR: Final = 2**63  # milliseconds: more than a timedelta holds


async def examine(
    store: FirestoreFlowStateStore,
    *,
    where: Iterable[str] = (),
    look: Look | None = None,
    progress: Callable[[int], None] | None = None,
) -> AsyncGenerator[Finding, None]:
    """Yield what is wrong with the store's collection, and change nothing.

    It reads every document and every part once: it is billed as many reads, and takes as long as an export. If the
    settings have keys, it has the parts counted too, for a read for each 1,000. If there are more than the flow states
    refer to, it reads the names of all, as `gc` does, and the first part of each value that none refers to.

    ::

        async for finding in examine(store, where=["owner"]):
            print(finding.kind, finding.id, finding.message)

    Args:
        store: The store. Its settings decide which documents its lists can see.
        where: The unknown keys that queries filter by, such as ``["owner"]``, whose indexes are looked for too.
        look: Called for each flow that can be read; None: `late_run`. A FlowStateDecodeError that it raises is told as
            a finding of the kind ``unreadable``.
        progress: Called after each page with the number of documents so far.

    Raises:
        TypeError: `where` is one text and not several.
        InvalidQueryError: `where` has a key that no query can filter by.
        BackendError: Firestore cannot be reached, or refuses.
    """
    check_keys(where)
    by_keys = [FlowStateQuery(where={key: 0}) for key in where]
    collection, _ = await store._begin()
    look = look or late_run
    async for finding in _operations.examining.examine(collection, by_keys, look=look, progress=progress):
        yield finding


def late_run(id: str, state: FlowState, now: datetime) -> Iterator[Finding]:
    """Yield a finding if it seems that nobody looks after a flow that should go on.

    ::

        for finding in late_run("order-17", state, datetime.now(timezone.utc)):
            print(finding.message)

    Args:
        id: Its id.
        state: Its state, as it was loaded.
        now: The server's time.
    """
    moment = wake_at(state.model_extra or {})
    passed = timedelta() if moment is None else passed_since(moment, now)
    message = None
    if passed > _LATE:
        message = (
            f"Its wakeAt passed {spelled(passed)} ago, and nobody has looked at it since. See that a worker or a "
            "scheduled sweep of its flows runs."
        )
    if moment is None and state.status == "running" and state.updated_at is not None:
        still = now - state.updated_at
        if still > _STILL:
            message = (
                f"It counts as running, and was not written for {spelled(still)}: whoever ran it seems to have died. "
                "Run it again, or delete it."
            )
    if message is not None:
        yield Finding(kind="late_run", id=id, message=message)


def passed_since(moment: float, now: datetime) -> timedelta:
    """Return how much time has passed since a moment, or as much of it as a timedelta holds.

    ::

        age = passed_since(state.start_time, datetime.now(timezone.utc))

    Args:
        moment: Milliseconds since the epoch.
        now: The present.
    """
    passed = (now.timestamp() * 1000 - min(max(moment, -_FAR), _FAR)) / _DAY
    return timedelta(days=min(max(passed, -timedelta.max.days), timedelta.max.days))


def spelled(passed: timedelta) -> str:
    """Return a duration as text, in minutes, hours or days.

    ::

        assert spelled(timedelta(hours=5)) == "5 hours"

    Args:
        passed: The duration. Below two hours it is told in minutes, below two days in hours.
    """
    minutes = passed / timedelta(minutes=1)
    if minutes < 120:
        return f"{minutes:.0f} minutes"
    return f"{minutes / 60:.0f} hours" if minutes < 48 * 60 else f"{minutes / 1440:,.0f} days"
