"""Commands that list flow states, and count them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any, Final

import click
from pydantic.alias_generators import to_camel

from ..firestore import FirestoreFlowStateStore
from ..pages import FlowStateSummary
from ..query import MAX_LIMIT, FlowStateQuery
from ..settings import FlowStateSettings
from .connecting import opened
from .interruptible import run
from .options import MisusedError, filter_options, given_query, given_settings, need_output, store_options
from .output import collection_of, print_table, say, shown, tell, tell_json

_Order = tuple[Callable[[FlowStateSummary], Any], bool]  # what to sort by, and whether the greatest comes first
_ORDERS: Final[dict[str, _Order]] = {
    "started": (lambda summary: summary.start_time, True),
    "written": (lambda summary: summary.updated_at, True),
    "steps": (lambda summary: summary.step_count, True),
    "bytes": (lambda summary: summary.size_bytes, True),
    "id": (lambda summary: summary.id, False),
    "name": (lambda summary: summary.name or "", False),
    "status": (lambda summary: summary.status, False),
}


@click.command("list")
@click.option("--limit", type=click.IntRange(1), metavar="N", default=20, show_default=True, help="How many.")
@click.option("--token", metavar="TOKEN", help="Go on where the list before ended, which printed this token.")
@click.option("--due", is_flag=True, help="List those whose wakeAt has come, earliest first; no filter may be given.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object a line instead of a table.")
@click.option(
    "--sort",
    type=click.Choice(list(_ORDERS)),
    metavar="COLUMN",
    help=f"Sort all that match, each of which is read, by {', '.join(_ORDERS)}.",
)
@filter_options
@store_options
def list_command(limit: int, token: str | None, due: bool, as_json: bool, sort: str | None) -> None:
    """List flow states, newest start first.

    No payload is read. Times are local, in the zone that the heading names. --sort reads all flow states that match,
    billed as pages of 300, and shows the first --limit of them: the newest or largest first, and names from A to Z.
    """
    need_output()
    settings, query = given_settings(), given_query(token=token)
    if due and query != FlowStateQuery():
        raise MisusedError("--due asks for the wake time alone: leave out filters and --token")
    if sort is not None and token is not None:
        raise MisusedError("--sort reads all flow states that match: leave out --token; a larger --limit shows more")
    behind = 0
    if sort is not None:
        summaries, behind = run(_sorted(settings, query, limit, _ORDERS[sort], due=due))
    else:
        summaries, token = run(_due(settings, limit)) if due else run(_summaries(settings, query, limit))
    if as_json:
        for summary in summaries:
            fields = summary.model_dump(mode="json", exclude={"extra"})  # pydantic would write a NaN in it as null
            tell_json({to_camel(name): value for name, value in fields.items()} | {"extra": dict(summary.extra)})
    elif summaries:
        print_table(summaries, due=due)
    else:
        what = "nothing is due" if due else "no flow states" if query == FlowStateQuery() else "no flow state matches"
        say(f"{what}: looked at {collection_of(settings)}")
    if token is not None:
        say(f"There are more: --token {token}")
    if behind:
        there = "is 1" if behind == 1 else f"are {behind:,}"
        say(f"There {there} more behind these in that order: --limit {len(summaries) + behind}")


async def _sorted(
    settings: FlowStateSettings, query: FlowStateQuery, limit: int, order: _Order, *, due: bool
) -> tuple[list[FlowStateSummary], int]:
    """Return the first `limit` of all that match in the order, and how many come behind them.

    It holds these and one page in memory, however many match.
    """
    key, descending = order
    first: list[FlowStateSummary] = []
    count = 0
    async with opened(settings) as store, aclosing(_due_pages(store) if due else _pages(store, query)) as pages:
        async for page in pages:
            count += len(page)
            first = sorted([*first, *page], key=key, reverse=descending)[:limit]
    return first, count - len(first)


async def _pages(
    store: FirestoreFlowStateStore, query: FlowStateQuery
) -> AsyncGenerator[Sequence[FlowStateSummary], None]:
    more = True
    while more:
        page = await store.list_summaries(replace(query, limit=MAX_LIMIT, on_error="skip"))
        _tell_of_skipped(page.skipped)
        yield page.summaries
        query = replace(query, continuation_token=page.continuation_token)
        more = page.continuation_token is not None


async def _due_pages(store: FirestoreFlowStateStore) -> AsyncGenerator[Sequence[FlowStateSummary], None]:
    now = datetime.now(timezone.utc)
    page = await store.due(now, limit=MAX_LIMIT)
    while page:
        yield page
        page = await store.due(now, limit=MAX_LIMIT, after=page[-1])


def _tell_of_skipped(ids: Sequence[str]) -> None:
    for id in ids:
        say(f"{shown(id)} cannot be read; flowstate doctor says why")


async def _summaries(
    settings: FlowStateSettings, query: FlowStateQuery, limit: int
) -> tuple[list[FlowStateSummary], str | None]:
    found: list[FlowStateSummary] = []
    async with opened(settings) as store:
        while True:
            page = await store.list_summaries(replace(query, limit=min(limit - len(found), MAX_LIMIT), on_error="skip"))
            found += page.summaries
            _tell_of_skipped(page.skipped)
            if page.continuation_token is None or len(found) >= limit:
                return found, page.continuation_token
            query = replace(query, continuation_token=page.continuation_token)


async def _due(settings: FlowStateSettings, limit: int) -> tuple[list[FlowStateSummary], None]:
    found: list[FlowStateSummary] = []
    async with opened(settings) as store:
        now = datetime.now(timezone.utc)
        while (wanted := min(limit - len(found), MAX_LIMIT)) > 0:
            page = await store.due(now, limit=wanted, after=found[-1] if found else None)
            found += page
            if len(page) < wanted:
                break
    return found, None


@click.command()
@filter_options
@store_options
def count() -> None:
    """Count flow states.

    Expired ones may count until Firestore has deleted them.
    """

    async def ask(settings: FlowStateSettings, query: FlowStateQuery) -> int:
        async with opened(settings) as store:
            return await store.count(query)

    need_output()
    tell(str(run(ask(given_settings(), given_query()))))
