"""Walking through lists, and what each list tells of every flow state: that it was there, or that it was not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from firestore_flowstate import FlowStateQuery, FlowStateSummary

from .asking import Asker
from .history import now
from .marks import Glance
from .model import Due, NotDue, NotListed, Summarized
from .plan import Operation
from .wrong import WrongError


class ListingError(WrongError):
    """A list that cannot be right, whatever is stored."""


@dataclass(frozen=True, kw_only=True)
class Page:
    """A page of a list.

    Attributes:
        began: When it was asked for.
        ended: When it was there.
        ids: What it shows.
    """

    began: float
    ended: float
    ids: Sequence[str]


@dataclass(kw_only=True)
class Walk:
    """A walk through the pages of a list.

    Attributes:
        query: What is asked for.
        pages: The pages so far.
        complete: Whether the last page has come.
    """

    query: FlowStateQuery
    pages: list[Page] = field(default_factory=list)
    complete: bool = False

    @property
    def ids(self) -> list[str]:
        """What all its pages show."""
        return [id for page in self.pages for id in page.ids]


async def walk(asker: Asker, operation: Operation, *, allowed: float, summaries: bool = False) -> str:
    """Read all pages, one call after the other."""
    walk = Walk(query=_query(asker, operation))
    kind: Literal["list", "list_summaries"] = "list_summaries" if summaries else "list"
    try:
        await _read_pages(asker, walk, kind, allowed, operation.timeout)
    finally:  # what was seen until the last page that could be read still counts
        tell(asker, walk)
    return "done"


async def due(asker: Asker, operation: Operation, *, allowed: float) -> str:
    """Ask what is due: exactly those are whose wake time has come, in order."""
    began, before = now(), operation.mark.wake_at
    call = asker.store.due(before, limit=operation.limit, timeout=operation.timeout)
    found = await asker.read("due", call, allowed=allowed)
    ended = now()
    places = [(int(summary.extra["wakeAt"]), summary.id.encode()) for summary in found]
    if places != sorted(set(places)) or any(wake_at > before for wake_at, _ in places):
        raise ListingError(f"what is due at {before} is {places}")
    for wake_at, id in places:
        asker.noted("due", id.decode(), Due(wake_at), began, ended)
    last = places[-1] if len(places) == operation.limit else None
    for id in {*asker.site.ids} - {summary.id for summary in found}:
        asker.noted("not due", id, NotDue(id, before, last), began, ended)
    return "done"


async def iterate(asker: Asker, operation: Operation) -> str:
    """Read all states by one iteration."""
    walk = Walk(query=_query(asker, operation))
    began, ids = now(), list[str]()

    async def go() -> None:
        async for state in asker.store.iterate(walk.query):
            asker.saw("iterate", state.flow_id, state, began)
            ids.append(state.flow_id)
        walk.complete = True

    try:
        await asker.read("iterate", go())
    finally:
        walk.pages.append(Page(began=began, ended=now(), ids=ids))
        tell(asker, walk)
    return "done"


def tell(asker: Asker, walk: Walk) -> None:
    """Record of which flow states a walk tells that they were not there.

    A flow state between two that one page shows was not there when the page was read. One between the last of a page
    and the first of the next was not there when one of them was.

    Raises:
        ListingError: The walk shows a flow state twice, or in the wrong order, or one that it was not to show.
    """
    site, shown = asker.site, walk.ids
    listable = [id for id in site.in_order() if walk.query.name in (None, site.flow_name(id))]
    if len(set(shown)) < len(shown):
        raise ListingError(f"{walk.query} repeats a state: {[page.ids for page in walk.pages]}")
    if shown != [id for id in listable if id in set(shown)]:
        raise ListingError(f"{walk.query} shows what it is not to show, or in a wrong order: {shown}, not {listable}")
    for index, id in enumerate(listable):
        if id in shown:
            continue
        before, after = {*listable[:index]}, {*listable[index:]}
        first = max((i for i, page in enumerate(walk.pages) if before & {*page.ids}), default=0)
        last = min((i for i, page in enumerate(walk.pages) if after & {*page.ids}), default=len(walk.pages) - 1)
        if walk.complete or after & {*shown}:
            began, ended = walk.pages[first].began, walk.pages[last].ended
            asker.noted("not listed", id, NotListed(walk.query.status), began, ended)


async def _read_pages(
    asker: Asker, walk: Walk, kind: Literal["list", "list_summaries"], allowed: float, timeout: float | None
) -> None:
    token: str | None = None
    while not walk.complete:
        query = replace(walk.query, continuation_token=token)
        began = now()
        if kind == "list":
            page = await asker.read(kind, asker.store.list(query, timeout=timeout), allowed=allowed)
            ended, ids = now(), [state.flow_id for state in page.flow_states]
            for state in page.flow_states:
                asker.saw(kind, state.flow_id, state, began)
            token = page.continuation_token
        else:
            head = await asker.read(kind, asker.store.list_summaries(query, timeout=timeout), allowed=allowed)
            ended, ids = now(), [summary.id for summary in head.summaries]
            for summary in head.summaries:
                _saw_summary(asker, summary, began, ended)
            token = head.continuation_token
        walk.pages.append(Page(began=began, ended=ended, ids=ids))
        walk.complete = token is None


def _saw_summary(asker: Asker, summary: FlowStateSummary, began: float, ended: float) -> None:
    site, id = asker.site, summary.id
    expected = (id, site.flow_name(id), site.start_time(id))
    if expected != (found := (summary.flow_id, summary.name, summary.start_time)):
        raise ListingError(f"{id}: the summary shows {found}, and is to show {expected}")
    asker.noted("list_summaries", id, Summarized(Glance.at(summary), site.native), began, ended)


def _query(asker: Asker, operation: Operation) -> FlowStateQuery:
    name = asker.site.flow_name(asker.site.ids[operation.keys[0]]) if operation.filter == "name" else None
    status = operation.mark.status if operation.filter == "status" else None
    return FlowStateQuery(limit=operation.limit, name=name, status=status)
