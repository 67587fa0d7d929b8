"""Following continuation tokens to the end, with a limit to how long that may take."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import chain

from ...models import FlowState
from ...query import FlowStateQuery
from ...store import FlowStateStore
from .states import started

_MAX_PAGES = 200  # more than any suite has, so that a store whose tokens never end fails


async def pages(store: FlowStateStore, query: FlowStateQuery) -> list[list[str]]:
    """Return the flow ids of each page from the query's to the last."""
    found = []
    for _ in range(_MAX_PAGES):
        page = await store.list(query)
        found.append(flow_ids(page.flow_states))
        if page.continuation_token is None:
            return found
        query = replace(query, continuation_token=page.continuation_token)
    raise AssertionError(f"there was a token on each of {_MAX_PAGES} pages: {found}")


def flat(found: Iterable[Iterable[str]]) -> list[str]:
    """Return what is on all pages together."""
    return list(chain.from_iterable(found))


def flow_ids(states: Sequence[FlowState]) -> list[str]:
    """Return the flow id of each state. In tests of lists that is the id which the state is stored under."""
    return [state.flow_id for state in states]


async def fill(store: FlowStateStore, starts: Sequence[tuple[str, float]]) -> None:
    """Save a state for each id with its start."""
    for id, start_time in starts:
        await store.save(id, started(start_time, flow_id=id))
