"""Commands that look at flow states, and delete some by name."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import asdict, replace
from datetime import datetime, timezone

import click
from pydantic.alias_generators import to_camel

from ..backup import export_line
from ..doctor import Finding, examine
from ..errors import FlowStateNotFoundError
from ..firestore import FirestoreFlowStateStore
from ..models import FlowState, FlowStateSummary
from ..query import MAX_LIMIT, FlowStateQuery
from ..settings import FlowStateSettings
from .options import (
    MisusedError,
    confirm,
    confirmation_option,
    filter_options,
    given_query,
    given_settings,
    store_options,
)
from .output import about, counted, place, print_table, progress_bar, say, shown, tell, tell_json
from .running import run


@click.command("list")
@click.option("--limit", type=click.IntRange(1), metavar="N", default=20, show_default=True, help="How many.")
@click.option("--token", metavar="TOKEN", help="Go on where the list before ended; it said with which token.")
@click.option("--due", is_flag=True, help="Those whose wakeAt has come, earliest first; goes with no filter.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object a line instead of a table.")
@filter_options
@store_options
def list_command(limit: int, token: str | None, due: bool, as_json: bool) -> None:
    """List flow states, newest start first.

    Reads no payload. Starts are in UTC.
    """
    settings, query = given_settings(), given_query(token=token)
    if due and query != FlowStateQuery():
        raise MisusedError("--due goes with no filter and no --token: it asks for the wake time alone")
    summaries, token = run(_due(settings, limit)) if due else run(_summaries(settings, query, limit))
    if as_json:
        for summary in summaries:
            fields = summary.model_dump(mode="json", exclude={"extra"})  # in which NaN would become null
            tell_json({to_camel(name): value for name, value in fields.items()} | {"extra": dict(summary.extra)})
    elif summaries:
        print_table(summaries, due=due)
    else:
        say("nothing is due" if due else "no flow states")
    if token is not None:
        say(f"There are more: --token {token}")


async def _summaries(
    settings: FlowStateSettings, query: FlowStateQuery, limit: int
) -> tuple[list[FlowStateSummary], str | None]:
    found: list[FlowStateSummary] = []
    async with FirestoreFlowStateStore(settings) as store:
        while True:
            page = await store.list_summaries(replace(query, limit=min(limit - len(found), MAX_LIMIT), on_error="skip"))
            found += page.summaries
            for id in page.skipped:
                say(f"{shown(id)} cannot be read; flowstate doctor says why")
            if page.continuation_token is None or len(found) >= limit:
                return found, page.continuation_token
            query = replace(query, continuation_token=page.continuation_token)


async def _due(settings: FlowStateSettings, limit: int) -> tuple[list[FlowStateSummary], None]:
    found: list[FlowStateSummary] = []
    async with FirestoreFlowStateStore(settings) as store:
        now = datetime.now(timezone.utc)
        while (wanted := min(limit - len(found), MAX_LIMIT)) > 0:
            page = await store.due(now, limit=wanted, after=found[-1] if found else None)
            found += page
            if len(page) < wanted:
                break
    return found, None


@click.command()
@click.argument("id")
@click.option("--exact", is_flag=True, help="Print NaN, Infinity and -Infinity as such, which not every reader takes.")
@store_options
def show(id: str, exact: bool) -> None:
    """Print a flow state as JSON, in Genkit's form.

    Numbers that JSON does not have are texts: "NaN", "Infinity" and "-Infinity".
    """

    async def load(settings: FlowStateSettings) -> str:
        async with FirestoreFlowStateStore(settings) as store:
            state = await store.load(id)
        if state is None:
            raise FlowStateNotFoundError(f"There is no flow state {id!r}, or it has expired.", flow_id=id)
        return export_line(id, state)

    state = json.loads(run(load(given_settings())))["state"]
    known = {name: state[name] for name in FlowState.wire_names.values() if name in state}
    tell_json(known | state, indent=2, exact=exact)


@click.command()
@filter_options
@store_options
def count() -> None:
    """Count flow states.

    Expired ones count until Firestore has deleted them.
    """

    async def ask(settings: FlowStateSettings, query: FlowStateQuery) -> int:
        async with FirestoreFlowStateStore(settings) as store:
            return await store.count(query)

    tell(str(run(ask(given_settings(), given_query()))))


@click.command()
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@confirmation_option
@store_options
def delete(ids: Sequence[str], yes: bool) -> None:
    """Delete flow states by their ids.

    Those that are not there are passed over.
    """
    settings = given_settings()
    what = counted(len(ids)) if len(ids) > 1 else f"the flow state {ids[0]!r}"
    confirm(f"Delete {what} of {place(settings)}?", yes=yes)

    async def delete_them() -> None:
        async with FirestoreFlowStateStore(settings) as store:
            if len(ids) == 1:
                await store.delete(ids[0])
            else:
                await store.delete_many(ids)

    run(delete_them())


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object a line for each finding.")
@store_options
def doctor(as_json: bool) -> int:
    """Look for what is wrong with the collection.

    Asks every index, and reads every document once: finds those that no list shows, since startTime is missing, of a
    wrong type or NaN or they are in no shard that lists ask; those that nobody can read; heads that contradict their
    state; flows that nobody seems to look after; and expired states that no TTL policy deletes. Changes nothing. Exits
    with 1 where it found something.
    """
    settings = given_settings()
    say(place(settings))
    found = run(_examine(settings, as_json=as_json))
    say(f"{counted(found, 'finding')}" if found else "nothing is wrong")
    return 1 if found else 0


async def _examine(settings: FlowStateSettings, *, as_json: bool) -> int:
    found = 0
    async with FirestoreFlowStateStore(settings) as store:
        await store.ping()
        with progress_bar("documents", await about(store)) as progress:
            async with aclosing(examine(store, progress=progress)) as findings:
                async for finding in findings:
                    if as_json:
                        tell_json(asdict(finding))
                    else:
                        tell(_line(finding))
                    found += 1
    return found


def _line(finding: Finding) -> str:
    return shown(" ".join(filter(None, [finding.kind, finding.id, finding.message])))
