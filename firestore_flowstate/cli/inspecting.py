"""Commands that show flow states one by one, look for what is wrong, and delete flow states by id."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import asdict
from typing import Final

import click

from ..backup import export_line
from ..doctor import Finding
from ..errors import FlowStateNotFoundError
from ..firestore import FirestoreFlowStateStore
from ..flows import Flows
from ..flows.doctor import examine
from ..inspection import InspectedDocument, absent_ids, ids_beginning_with, inspect_document
from ..models import FlowState
from ..settings import FlowStateSettings
from .applications import application_settings, close_store, flows_option, look_for_store
from .connecting import opened
from .interruptible import run
from .options import MisusedError, confirm, confirmation_option, given_settings, need_output, store_options
from .output import about, collection_of, counted, progress_bar, say, shown, tell, tell_json, when, zone
from .timeline import Happening, print_timeline, timeline

_SHOWN: Final = 5  # ids with the same beginning that an error names: it stays one line


@click.command()
@click.argument("id")
@click.option(
    "--exact", is_flag=True, help="Print NaN, Infinity and -Infinity as such, which not every reader of JSON takes."
)
@click.option(
    "--details", is_flag=True, help="Print an object with the version, times and sizes, and the state inside of it."
)
@click.option("--raw", is_flag=True, help="Print the stored document as Firestore's REST interface has it.")
@store_options
def show(id: str, exact: bool, details: bool, raw: bool) -> None:
    """Print a flow state as JSON, in Genkit's form.

    The beginning of an id is enough if no other id begins so. The version, times and sizes are printed on standard
    error. Numbers that JSON does not have are printed as texts: "NaN", "Infinity" and "-Infinity".
    """
    if raw and details:
        raise MisusedError("give one of --raw and --details: the stored document is printed as it is")
    need_output()
    found, state, stored = run(_look(given_settings(), id, raw=raw))
    if state is None:
        tell_json(stored.document, indent=2, exact=exact)
        return
    wire = json.loads(export_line(found, state))["state"]
    wire = {name: wire[name] for name in FlowState.wire_names.values() if name in wire} | wire
    if not details:
        tell_json(wire, indent=2, exact=exact)
        say(_told(found, state, stored))
        return
    fields = {
        "id": found,
        "version": state.version,
        "updatedAt": None if state.updated_at is None else state.updated_at.isoformat(),
        "expireAt": None if state.expire_at is None else state.expire_at.isoformat(),
        "layout": stored.layout,
        "sizeBytes": stored.size_bytes,
        "parts": stored.parts,
        "partBytes": stored.part_bytes,
        "state": wire,
    }
    tell_json(fields, indent=2, exact=exact)


async def _look(settings: FlowStateSettings, id: str, *, raw: bool) -> tuple[str, FlowState | None, InspectedDocument]:
    """Return the id, or the only one that begins so, with its state and its document; no state if `raw`."""

    async def look(found: str) -> tuple[str, FlowState | None, InspectedDocument] | None:
        state = None if raw else await store.load(found)
        stored = await inspect_document(store, found) if raw or state is not None else None
        return None if stored is None else (found, state, stored)

    async with opened(settings) as store:
        seen = await look(id) or await look(await _only_id_beginning_with(store, id))
    if seen is None:
        raise _absent(id)
    return seen


async def _only_id_beginning_with(store: FirestoreFlowStateStore, prefix: str) -> str:
    ids = await ids_beginning_with(store, prefix, limit=_SHOWN + 1)
    if not ids:
        raise _absent(prefix)
    if len(ids) > 1:
        shown_ids = ", ".join(map(repr, ids[:_SHOWN])) + (" and more" if len(ids) > _SHOWN else "")
        raise FlowStateNotFoundError(
            f"There is no flow state {prefix!r}, and several ids begin so: {shown_ids}.", flow_id=prefix
        )
    return ids[0]


def _absent(id: str) -> FlowStateNotFoundError:
    return FlowStateNotFoundError(
        f"There is no flow state {id!r}, or it has expired, and no other id begins so.", flow_id=id
    )


def _told(id: str, state: FlowState, stored: InspectedDocument) -> str:
    written = "" if state.updated_at is None else f"written {when(state.updated_at)} {zone()}"
    expires = "never expires" if state.expire_at is None else f"expires {when(state.expire_at)} {zone()}"
    parts = f", and {stored.part_bytes:,} in {counted(stored.parts, 'part')}" if stored.parts else ""
    said = [f"{shown(id)}: {written}", expires, f"{stored.size_bytes:,} bytes{parts}", f"version {state.version}"]
    return ", ".join(said)


@click.command()
@click.argument("id")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object a line, with all details.")
@store_options
def history(id: str, as_json: bool) -> None:
    """Print what has happened in a run of a durable flow, earliest first.

    These are the drives of the run, its steps with their attempts, its waits and their answers, and how long each took.
    The last lines say what the run waits for now, or how it ended, with the stacktrace of the error. Of an end before a
    retry the error is printed, of which 200 characters are kept; what the retry has dropped is not. The beginning of an
    id is enough if no other id begins so.
    """

    async def load(settings: FlowStateSettings) -> list[Happening]:
        async with opened(settings) as store:
            state = await store.load(id) or await store.load(await _only_id_beginning_with(store, id))
        if state is None:
            raise _absent(id)
        return timeline(state)

    need_output()
    happened = run(load(given_settings()))
    if as_json:
        for each in happened:
            tell_json(each.fields())
        return
    print_timeline(happened)
    trace = happened[-1].details.get("stacktrace")
    if isinstance(trace, str):  # others may write anything there
        for line in trace.rstrip().splitlines():
            tell(shown(line))


@click.command()
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@confirmation_option
@store_options
def delete(ids: Sequence[str], yes: bool) -> None:
    """Delete flow states by their ids.

    An id that names no flow state is printed, and passed over.
    """
    settings = given_settings()
    what = counted(len(ids)) if len(ids) > 1 else f"the flow state {ids[0]!r}"
    confirm(f"Delete {what} of {collection_of(settings)}?", yes=yes)

    async def delete_them() -> Sequence[str]:
        async with opened(settings) as store:
            absent = await absent_ids(store, ids)
            if len(ids) == 1:
                await store.delete(ids[0])
            else:
                await store.delete_many(ids)
            return absent

    for id in run(delete_them()):
        say(f"{shown(id)} was not there")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object a line for each finding.")
@click.option(
    "--where",
    "keys",
    metavar="KEY",
    multiple=True,
    help="A key beside the state that queries filter by, whose index is queried too. Repeatable.",
)
@flows_option
@store_options
def doctor(as_json: bool, keys: Sequence[str], application: Flows | None) -> int:
    """Look for what is wrong with the collection.

    It queries every index, reads every document once, and changes nothing. The indexes of keys beside the state are
    queried if --where names the keys. It finds documents that no list shows, since startTime is missing, of a wrong
    type or NaN, or since they are in no shard that lists query; documents that cannot be read; heads that contradict
    their state; runs that nobody drives though they have been due for 3 minutes; expired states that no TTL policy
    deletes; and, if there are keys, parts that no flow state refers to and that the current key does not encrypt. It
    compares the clock of this machine with the server's. With --flows it also checks the queue, and finds runs of
    flows that the application does not know. Exits with 1 if it found something.
    """
    settings = application_settings(application)
    if settings is not None:
        say(collection_of(settings))
    found = run(_examine(application, settings, keys, as_json=as_json))
    say(f"{counted(found, 'finding')}" if found else "nothing is wrong")
    return 1 if found else 0


async def _examine(
    application: Flows | None, settings: FlowStateSettings | None, keys: Sequence[str], *, as_json: bool
) -> int:
    if application is None:
        assert settings is not None  # noqa: S101  # settings are given if no application is
        async with opened(settings) as store:
            return await _print_findings(store, None, keys, as_json=as_json)
    if not isinstance(application.store, FirestoreFlowStateStore):
        raise MisusedError(
            f"the application keeps its runs in a {type(application.store).__name__}: doctor examines Firestore alone"
        )
    say(collection_of(application.store.settings))
    try:
        await look_for_store(application)
        return await _print_findings(application.store, application, keys, as_json=as_json)
    finally:
        if application.dispatcher is not None:
            await application.dispatcher.close()
        await close_store(application)


async def _print_findings(
    store: FirestoreFlowStateStore, application: Flows | None, keys: Sequence[str], *, as_json: bool
) -> int:
    found = 0
    await store.ping()
    with progress_bar("documents", await about(store)) as progress:
        async with aclosing(examine(store, application, where=keys, progress=progress)) as findings:
            async for finding in findings:
                if as_json:
                    tell_json(asdict(finding))
                else:
                    tell(_line(finding))
                found += 1
    return found


def _line(finding: Finding) -> str:
    return shown(" ".join(filter(None, [finding.kind, finding.id, finding.message])))
