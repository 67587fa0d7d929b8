"""Flow states that Genkit JS left in Firestore: listed, resumed and kept from Python.

`make demo` runs it after a flow of Python's own. By itself: `python examples/quickstart.py`. It uses the emulator that
FIRESTORE_EMULATOR_HOST names, else starts one and stops it again.
"""

from __future__ import annotations

import asyncio
import json
import math
import sys
import uuid
from datetime import datetime, timezone
from typing import Any

import _golden
from rich import box
from rich.console import Console
from rich.table import Table

from firestore_flowstate import (
    CacheEntry,
    EmulatorError,
    FirestoreFlowStateStore,
    FlowResult,
    FlowState,
    FlowStateExecution,
    FlowStateQuery,
    FlowStateSettings,
    Operation,
)
from firestore_flowstate.emulator import start_emulator
from firestore_flowstate.testing import same_state

console = Console()


async def show_pages(store: FirestoreFlowStateStore) -> None:
    """Page through the collection: newest first, each page with the token of the next."""
    table = new_table("What Genkit JS left, five a page", "page", "flow", "status", "started", "steps", "waits for")
    ids, page, token = [], 1, None
    while page == 1 or token is not None:
        response = await store.list(FlowStateQuery(limit=5, continuation_token=token))
        for state in response.flow_states:
            blocked = state.blocked_on_step
            started = f"{datetime.fromtimestamp(state.start_time / 1000, timezone.utc):%H:%M:%S.%f}"[:-3]
            waits_for = blocked.name if blocked else ""
            table.add_row(str(page), state.name, state.status, started, str(len(state.cache)), waits_for)
            ids.append(state.flow_id)
        table.add_section()
        token, page = response.continuation_token, page + 1
    console.print(table)
    must_equal(sorted(map(_golden.id_of, _golden.names())), sorted(ids))  # each once


async def resume(store: FirestoreFlowStateStore) -> None:
    """Resume a flow that waits for an approval: load, change, save what changed."""
    id = _golden.id_of("blocked")
    before = await store.load(id)

    async with store.edit(id) as state:  # written on leaving; a conflict if another was first
        state.events_triggered["approval"] = {"approved": True}
        state.cache["approval"] = CacheEntry(value={"approved": True})
        state.cache["finish"] = CacheEntry(value="cats+b:true")
        state.blocked_on_step = None
        state.executions.append(
            FlowStateExecution(start_time=1795336740852, trace_ids=["0773827951d84a0d2cc8c2f48e4443e6"])
        )
        response = {"f": "cats+b:true", "r": {"approved": True}, "z0": "UNDEFINED"}
        state.operation = Operation(name=id, done=True, result=FlowResult(response=response))

    after = await store.load(id)
    if before is None or after is None:
        sys.exit(f"{id} is not there")
    table = new_table("A blocked flow, resumed from Python", "", "before", "after")
    table.add_row("status", before.status, after.status)
    table.add_row("steps", ", ".join(sorted(before.cache)), ", ".join(sorted(after.cache)))
    table.add_row("executions", str(len(before.executions)), str(len(after.executions)))
    table.add_row(
        "response", "", json.dumps(after.operation.result and after.operation.result.response, sort_keys=True)
    )
    console.print(table)
    # Genkit JS resumed the same flow once. Ours is the same state now, in a document that it still reads.
    by_genkit = FlowState.model_validate(_golden.read("resumed-done")["loadedByGenkit"])
    must_equal(by_genkit, after)


async def keep_any_result(store: FirestoreFlowStateStore) -> None:
    """Keep results that Firestore's own maps cannot hold, or that Genkit JS loses."""
    results: dict[str, Any] = {
        "nested arrays": [[1, 2], [[3]]],
        "__reserved__": "a name that Firestore keeps for itself",
        "": "no name at all",
        "not a number": math.nan,
        "large": 2**70,
        "false": False,
        "zero": 0,
        "null": None,
    }
    saved = FlowState.start(name="any-result", input={"topic": "cats"})
    for step, result in results.items():
        saved.cache[step] = CacheEntry(value=result)
    await store.save(saved.flow_id, saved)
    loaded = await store.load(saved.flow_id)
    if loaded is None or not same_state(saved, loaded):
        sys.exit(f"saved {saved!r}, loaded {loaded!r}")

    table = new_table("Results of any kind, saved and loaded back equal", "step", "result")
    for step, entry in loaded.cache.items():
        table.add_row(repr(step), repr(entry.value))
    console.print(table)


def new_table(title: str, *columns: str) -> Table:
    """Return an empty table."""
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for column in columns:
        table.add_column(column)
    return table


def must_equal(expected: object, actual: object) -> None:
    """End with an error if the two differ: what is shown here is also checked."""
    if expected != actual:
        sys.exit(f"expected {expected!r}\n     got {actual!r}")


async def main(emulator_host: str) -> None:
    """Run all of it in a fresh collection."""
    settings = FlowStateSettings(
        project="demo-flowstate", collection=f"quickstart-{uuid.uuid4().hex[:8]}", emulator_host=emulator_host
    )
    _golden.put(emulator_host, "demo-flowstate", settings.collection)
    async with FirestoreFlowStateStore(settings) as store:
        await show_pages(store)
        await resume(store)
    # The serialized layout, which Genkit JS does not read, has a collection of its own.
    async with FirestoreFlowStateStore(settings.model_copy(update={"collection": f"{settings.collection}-own"})) as own:
        await keep_any_result(own)
    console.print(f"All as expected, in the collection [bold]{settings.collection}[/] on {emulator_host}.")


if __name__ == "__main__":
    try:
        with start_emulator() as emulator:
            asyncio.run(main(emulator.host))
    except EmulatorError as error:
        sys.exit(str(error))
