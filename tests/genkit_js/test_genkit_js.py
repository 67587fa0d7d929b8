"""Python and Genkit JS at work on one collection: each with its own store, in turn and at once."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from firestore_flowstate import (
    CacheEntry,
    FirestoreFlowStateStore,
    FlowState,
    FlowStateConflictError,
    FlowStateQuery,
    FlowStateSettings,
)
from firestore_flowstate.testing.conformance.watching import close, soon
from tests.genkit_js.genkit_peer import Genkit, GenkitError

TEXTS = st.text(max_size=8)
KEYS = st.text(min_size=1, max_size=8).filter(lambda key: not (key.startswith("__") and key.endswith("__")))
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**53), 2**53), st.floats(allow_nan=False, allow_infinity=False), TEXTS
)
MAPS = st.recursive(
    st.dictionaries(KEYS, SCALARS, max_size=3),
    lambda inner: st.dictionaries(KEYS, inner | st.lists(inner, max_size=2), max_size=3),
    max_leaves=4,
)
VALUES = SCALARS | MAPS | st.lists(SCALARS | MAPS, max_size=3)  # what JSON, Firestore and JavaScript all have
BLOCKED = st.fixed_dictionaries({"name": TEXTS}, optional={"schema": TEXTS})
WIRE_STATES = st.fixed_dictionaries(
    {
        "flowId": TEXTS,
        "startTime": st.integers(0, 2**53),
        "cache": st.dictionaries(KEYS, st.just({"empty": True}) | VALUES.map(lambda value: {"value": value})),
        "eventsTriggered": st.dictionaries(KEYS, VALUES, max_size=2),
        "blockedOnStep": st.none() | BLOCKED,
        "operation": st.fixed_dictionaries(
            {"name": TEXTS, "done": st.booleans()},
            optional={
                "metadata": VALUES,
                "blockedOnStep": BLOCKED,
                "result": st.fixed_dictionaries({"response": VALUES}, optional={"error": TEXTS, "stacktrace": TEXTS}),
            },
        ),
        "executions": st.lists(
            st.fixed_dictionaries(
                {"traceIds": st.lists(TEXTS, max_size=2)},
                optional={"startTime": st.integers(0, 2**53), "endTime": st.integers(0, 2**53)},
            ),
            max_size=2,
        ),
    },
    optional={"name": TEXTS, "input": VALUES, "traceContext": TEXTS},
)


async def test_a_flow_goes_back_and_forth(native: FirestoreFlowStateStore, genkit: Genkit) -> None:
    """Genkit starts a durable flow, Python finds it blocked and runs a step of it, and Genkit resumes it."""
    id = genkit.call("start", {"item": "book"})
    page = await native.list(FlowStateQuery(status="blocked", blocked_on="approval", name="order"))
    [blocked] = page.flow_states
    assert (id, {"item": "book", "cents": 1250}) == (blocked.flow_id, blocked.cache["price"].value)

    async with native.edit(id) as state:
        state.cache["ship"] = CacheEntry(value={"carrier": "Python"})
    operation = genkit.call("resume", id, {"by": "ada"})

    response = {
        "price": {"item": "book", "cents": 1250},
        "approval": {"by": "ada"},
        "shipped": {"carrier": "Python"},
    }
    assert {"name": id, "done": True, "result": {"response": response}} == operation
    done = await native.load(id)
    assert done is not None
    assert ("done", response, {"approval": {"by": "ada"}}) == (
        done.status,
        done.operation.model_dump()["result"]["response"],
        done.events_triggered,
    )
    assert 2 == len(done.executions)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(wire=WIRE_STATES, more=st.dictionaries(KEYS, VALUES, max_size=2))
def test_genkit_loads_what_python_saves(
    native_settings: FlowStateSettings, genkit: Genkit, wire: dict[str, Any], more: dict[str, Any]
) -> None:
    """Saved whole and updated step by step, a state comes to Genkit JS as it is."""

    async def save() -> None:
        async with FirestoreFlowStateStore(native_settings) as store:
            await store.save("id", FlowState.model_validate(wire))
            await store.update("id", cache={step: CacheEntry(value=value) for step, value in more.items()})

    asyncio.run(save())
    cache = {**wire["cache"], **{step: {"value": value} for step, value in more.items()}}
    assert {**wire, "cache": cache} == genkit.call("load", "id")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(wire=WIRE_STATES)
def test_python_loads_what_genkit_saves(
    native_settings: FlowStateSettings, genkit: Genkit, wire: dict[str, Any]
) -> None:
    """Python saves it again so that Genkit JS loads the same."""

    async def load_and_save() -> FlowState | None:
        async with FirestoreFlowStateStore(native_settings) as store:
            state = await store.load("id")
            assert state is not None
            await store.save("id", state, if_version=state.version)
            return state

    genkit.call("save", "id", wire)
    state = asyncio.run(load_and_save())
    assert FlowState.model_validate(wire) == state
    assert wire == genkit.call("load", "id")


async def test_pages_agree(native: FirestoreFlowStateStore, genkit: Genkit) -> None:
    """Both list the states of both, in the same order."""
    for number in range(6):
        state = FlowState.start(flow_id=f"flow-{number}")
        state.start_time = 1_000 + number
        if number % 2:
            await native.save(state.flow_id, state)
        else:
            genkit.call("save", state.flow_id, state.model_dump(by_alias=True))

    first = genkit.call("list", {"limit": 4})
    second = genkit.call("list", {"limit": 4, "continuationToken": first["continuationToken"]})
    theirs = [state["flowId"] for page in (first, second) for state in page["flowStates"]]
    assert theirs == [state.flow_id async for state in native.iterate(FlowStateQuery(limit=4))]
    assert [f"flow-{number}" for number in reversed(range(6))] == theirs


async def test_a_save_of_genkit_is_a_conflict(native: FirestoreFlowStateStore, genkit: Genkit) -> None:
    """It replaces the whole document. Who read before it is told so, and nothing of it is overwritten."""
    id = genkit.call("start", {"item": "pen"})
    read = await native.load(id)
    assert read is not None
    genkit.call("resume", id, {"by": "eve"})

    with pytest.raises(FlowStateConflictError):
        await native.update(id, cache={"late": CacheEntry(value=1)}, if_version=read.version or "")
    with pytest.raises(FlowStateConflictError):
        await native.save(id, read, if_version=read.version)
    after = await native.load(id)
    assert after is not None
    assert ("done", False) == (after.status, "late" in after.cache)


async def test_an_expiry_does_not_disturb_genkit(native_settings: FlowStateSettings, genkit: Genkit) -> None:
    """It loads states that expire. Its own save takes the expiry away, as it takes all that it does not know."""
    expiring = native_settings.model_copy(update={"expire_after": timedelta(days=1), "expire_when": "always"})
    async with FirestoreFlowStateStore(expiring) as store:
        state = FlowState.start(flow_id="id")
        await store.save("id", state)
        theirs = genkit.call("load", "id")
        genkit.call("save", "id", theirs)
        loaded = await store.load("id")

        assert state.model_dump(by_alias=True) == theirs
        assert (state, None) == (loaded, loaded.expire_at if loaded else 0)


async def test_a_save_of_genkit_erases_what_a_runner_has_set(native: FirestoreFlowStateStore, genkit: Genkit) -> None:
    """Genkit JS loads a state with them. Its own save keeps neither the flow's own duration nor the wake time."""
    state = FlowState.start(flow_id="id")
    state.operation.done = True
    await native.save("id", state, expire_after=timedelta(days=7))
    await native.update("id", extra={"wakeAt": 5})
    before = await native.load("id")
    due = [summary.id for summary in await native.due(5)]
    watch = native.watch("id")
    await soon(watch)
    genkit.call("save", "id", genkit.call("load", "id"))
    after = await soon(watch)
    await close(watch)

    assert before is not None
    assert after is not None
    assert ({"expireAfter": 7 * 86_400_000, "wakeAt": 5}, True) == (before.model_extra, before.expire_at is not None)
    assert ["id"] == due
    assert ({}, None) == (after.model_extra, after.expire_at)
    assert [] == await native.due(5)
    await native.update("id", operation=after.operation)
    loaded = await native.load("id")
    assert loaded is not None
    assert None is loaded.expire_at


async def test_the_serialized_layout_is_not_misread(flow_state_store: FirestoreFlowStateStore, genkit: Genkit) -> None:
    """Genkit JS refuses such a document, and a save of its own makes it a native one, which we read."""
    state = FlowState.start(flow_id="id", input={"large": [[1], [2]]})
    await flow_state_store.save("id", state)
    with pytest.raises(GenkitError, match="invalid_type"):
        genkit.call("load", "id")

    other = FlowState.start(flow_id="id", name="theirs")
    genkit.call("save", "id", other.model_dump(by_alias=True))
    assert other == await flow_state_store.load("id")
