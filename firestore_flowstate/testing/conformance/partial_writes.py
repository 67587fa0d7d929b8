"""Partial writes: `update` writes what is named and leaves the rest."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import pytest

from ...errors import FlowStateConflictError, FlowStateEncodeError, FlowStateNotFoundError, InvalidFlowIdError
from ...models import BlockedOnStep, CacheEntry, FlowResult, FlowState, FlowStateExecution, Operation
from ...query import FlowStateQuery
from ...store import VersionedFlowStateStore
from ...unset import UNSET, Unset
from ..comparison import exactly
from .states import STEPS, VALUES, started, with_everywhere, with_steps
from .suite import Suite

UNSTORABLE: Final[dict[str, dict[str, Any]]] = {
    "value without a JSON form": {"cache": {"step": CacheEntry(value=object())}},
    "no entry": {"cache": {"step": 5}},
    "step that is not a string": {"cache": {5: CacheEntry()}},
    "cache that is not a mapping": {"cache": [("step", CacheEntry())]},
    "event without a JSON form": {"events_triggered": {"event": {1, 2}}},
    "event under no string": {"events_triggered": {5: 1}},
    "remove that is a string": {"remove": "step"},
    "remove of no string": {"remove": [5]},
    "no operation": {"operation": None},
    "operation as a dict": {"operation": {"name": "op"}},
    "metadata without a JSON form": {"operation": Operation(name="op", metadata=object())},
    "blocked step as a string": {"blocked_on_step": "wait"},
    "no executions": {"executions": None},
    "execution as a string": {"executions": ["now"]},
    "trace context that is not a string": {"trace_context": 5},
}
"""Parameters of `update` that no store can take."""


class PartialWriteTests(Suite):
    """The method `update`."""

    @pytest.mark.asyncio
    async def test_changes_only_what_is_named(self, store: VersionedFlowStateStore) -> None:
        """Whatever is not named stays exactly as it was."""
        state = with_everywhere({"list": [None, 1.0]})
        await store.save("id", state)
        await store.update("id", cache={"new": CacheEntry(value=1)})
        state.cache["new"] = CacheEntry(value=1)

        assert exactly(state) == exactly(await store.load("id"))

    @pytest.mark.asyncio
    async def test_each_parameter_replaces_its_field(self, store: VersionedFlowStateStore) -> None:
        """Cache and events merge by key. Operation, blocked step, executions and trace context are replaced."""
        state = with_everywhere(1)
        state.executions = [FlowStateExecution(trace_ids=["old"])]
        await store.save("id", state)
        operation = Operation(name="other", result=FlowResult(response=None, error="failed"))
        executions = [FlowStateExecution(trace_ids=[]), FlowStateExecution(start_time=1.5, trace_ids=["a", "b"])]
        blocked = BlockedOnStep(name="wait", schema="{}")
        await store.update(
            "id",
            cache={"step": CacheEntry(empty=True), "next": CacheEntry(value=None)},
            events_triggered={"event": False, "another": [None]},
            operation=operation,
            blocked_on_step=blocked,
            executions=executions,
            trace_context="trace",
        )
        state.cache["step"], state.cache["next"] = CacheEntry(empty=True), CacheEntry(value=None)
        state.events_triggered["event"], state.events_triggered["another"] = False, [None]
        state.operation, state.blocked_on_step, state.executions = operation, blocked, executions
        state.trace_context = "trace"

        assert exactly(state) == exactly(await store.load("id"))

    @pytest.mark.asyncio
    async def test_none_is_a_value(self, store: VersionedFlowStateStore) -> None:
        """None unblocks, and makes the trace context null. A field that is not given stays."""
        state = started()
        state.blocked_on_step, state.trace_context = BlockedOnStep(name="wait"), "trace"
        await store.save("id", state)
        await store.update("id")
        assert exactly(state) == exactly(await store.load("id"))
        await store.update("id", blocked_on_step=None, trace_context=None)
        state.blocked_on_step, state.trace_context = None, None

        assert exactly(state) == exactly(await store.load("id"))

    @pytest.mark.asyncio
    async def test_steps_keep_their_order(self, store: VersionedFlowStateStore) -> None:
        """A step that is set again keeps its place. A new step comes last, and so does one that is removed and set."""
        await store.save("id", with_steps("a", "b", "c", "d"))
        await store.update("id", cache={"e": CacheEntry(), "b": CacheEntry(value="new")})
        await store.update("id", cache={"c": CacheEntry(value="again")}, remove=["c", "a", "not there"])
        loaded = await store.load("id")

        assert loaded is not None
        assert list(loaded.cache) == ["b", "d", "e", "c"]
        assert loaded.cache["b"].value == "new"

    @pytest.mark.asyncio
    async def test_removes_steps(self, store: VersionedFlowStateStore) -> None:
        """Removed steps are gone, and a step that is not there is passed over."""
        await store.save("id", with_steps(*STEPS))
        await store.update("id", remove=(step for step in (*STEPS[1:], "not there")))
        loaded = await store.load("id")

        assert loaded is not None
        assert list(STEPS[:1]) == list(loaded.cache)

    @pytest.mark.asyncio
    @pytest.mark.parametrize("step", ["", "__reserved__", "\ud800", "x" * 1600], ids=["empty", "__x__", "half", "long"])
    async def test_a_step_that_some_layouts_cannot_hold_is_passed_over(
        self, store: VersionedFlowStateStore, step: str
    ) -> None:
        """It is not there, as any other step that is not there."""
        await store.save("id", with_steps("a", "b"))
        await store.update("id", remove=[step])
        await store.update("id", cache={"c": CacheEntry(value=1)}, remove=["a", step])
        loaded = await store.load("id")

        assert loaded is not None
        assert ["b", "c"] == list(loaded.cache)

    @pytest.mark.asyncio
    async def test_writes_any_step_and_value(self, store: VersionedFlowStateStore) -> None:
        """Odd names and values are kept as a whole save keeps them."""
        await store.save("id", started())
        cache = {
            **{step: CacheEntry(value=step) for step in STEPS},
            **{k: CacheEntry(value=v) for k, v in VALUES.items()},
        }
        await store.update("id", cache=cache, events_triggered=VALUES)
        state = started()
        state.cache, state.events_triggered = cache, dict(VALUES)

        assert exactly(state) == exactly(await store.load("id"))

    @pytest.mark.asyncio
    async def test_returns_the_new_version(self, store: VersionedFlowStateStore) -> None:
        """`update` returns the version that load finds. The next write may be on top of it, without a read between."""
        await store.save("id", started())
        version = await store.update("id")
        for step in ("a", "b", "c"):
            version = await store.update("id", cache={step: CacheEntry(value=step)}, if_version=version)
        loaded = await store.load("id")

        assert loaded is not None
        assert version == loaded.version
        assert list(loaded.cache) == ["a", "b", "c"]
        await store.save("id", started(), if_version=version)

    @pytest.mark.asyncio
    async def test_of_two_writers_with_one_version_the_second_conflicts(self, store: VersionedFlowStateStore) -> None:
        """A version is good for one write."""
        state = started()
        await store.save("id", state)
        assert state.version is not None
        await store.update("id", cache={"a": CacheEntry(value=1)}, if_version=state.version)
        with pytest.raises(FlowStateConflictError):
            await store.update("id", cache={"b": CacheEntry(value=2)}, if_version=state.version)
        loaded = await store.load("id")

        assert loaded is not None
        assert list(loaded.cache) == ["a"]

    @pytest.mark.asyncio
    async def test_missing_state_is_not_found(self, store: VersionedFlowStateStore) -> None:
        """A partial write to an id without a state is an error, with a version or without, and creates nothing."""
        state = started()
        await store.save("id", state)
        await store.delete("id")
        assert state.version is not None
        with pytest.raises(FlowStateNotFoundError) as refusal:
            await store.update("id", cache={"a": CacheEntry()})
        assert refusal.value.flow_id == "id"
        with pytest.raises(FlowStateNotFoundError):
            await store.update("id", cache={"a": CacheEntry()}, if_version=state.version)

        assert await store.load("id") is None

    @pytest.mark.asyncio
    async def test_writes_things_as_they_are_at_the_call(self, store: VersionedFlowStateStore) -> None:
        """Changing an entry afterwards changes nothing in the store."""
        await store.save("id", started())
        entry, operation = CacheEntry(value=[1]), Operation(name="op", metadata=[1])
        await store.update("id", cache={"a": entry}, operation=operation)
        entry.value.append(2)
        operation.metadata.append(2)
        loaded = await store.load("id")

        assert loaded is not None
        assert (loaded.cache["a"].value, loaded.operation.metadata) == ([1], [1])

    @pytest.mark.asyncio
    async def test_keeps_the_status_in_step(self, store: VersionedFlowStateStore) -> None:
        """After each partial write the summary has the status that the state has."""
        await store.save("id", started())
        seen = []
        for write in (
            store.update("id", executions=[FlowStateExecution(trace_ids=[])]),
            store.update("id", blocked_on_step=BlockedOnStep(name="wait")),
            store.update("id", operation=Operation(name="op", done=True)),
            store.update("id", operation=Operation(name="op", done=True, result=FlowResult(error="no"))),
            store.update("id", operation=Operation(name="op", done=False)),
            store.update("id", blocked_on_step=None, cache={"a": CacheEntry()}),
            store.update("id", executions=[]),
        ):
            await write
            loaded = await store.load("id")
            [summary] = (await store.list_summaries()).summaries
            assert loaded is not None
            assert loaded.status == summary.status
            seen.append(summary.status)

        assert seen == ["running", "blocked", "done", "failed", "blocked", "running", "scheduled"]

    @pytest.mark.asyncio
    @pytest.mark.parametrize("parameters", UNSTORABLE.values(), ids=UNSTORABLE)
    async def test_refuses_what_cannot_be_stored(
        self, store: VersionedFlowStateStore, parameters: dict[str, Any]
    ) -> None:
        """A wrong type, or a value without a JSON form, is refused with its path, and nothing is written."""
        state = with_steps("step")
        await store.save("id", state)
        with pytest.raises(FlowStateEncodeError) as refusal:
            await store.update("id", **parameters)

        assert (refusal.value.path or "").startswith(next(iter(parameters)))
        assert refusal.value.flow_id == "id"
        loaded = await store.load("id")
        assert loaded is not None
        assert state.version == loaded.version

    @pytest.mark.asyncio
    @pytest.mark.parametrize("base", ["no version", "a version of this process", "the text of a version"])
    @pytest.mark.parametrize("removes", [False, True], ids=["sets keys", "removes a key"])
    async def test_writes_its_values_as_they_are_at_the_call(
        self, store: VersionedFlowStateStore, base: str, removes: bool
    ) -> None:
        """Changing them while the write is under way changes nothing in the store, nor what the next write stores."""
        stored = FlowState.model_validate({**started().model_dump(by_alias=True), "tags": ["a"], "owner": "bo"})
        await store.save("id", stored)
        assert stored.version is not None
        known: str | Unset = UNSET
        if base != "no version":
            known = stored.version if base == "a version of this process" else "".join([*stored.version])
        rows, payload, metadata = [1], {"list": [1]}, {"by": ["me"]}
        parameters: dict[str, Any] = {
            "cache": {"step": CacheEntry(value=rows)},
            "remove": ["none"],
            "events_triggered": {"event": payload},
            "operation": Operation(name="op", done=False, metadata=metadata),
            "blocked_on_step": BlockedOnStep(name="wait"),
            "executions": [FlowStateExecution(start_time=1.5, trace_ids=["a"])],
            "extra": {"owner": UNSET if removes else "al"},
        }
        updating = asyncio.ensure_future(store.update("id", **parameters, if_version=known))
        await asyncio.sleep(0)  # it runs up to the first point at which it waits
        rows.append(2)
        payload["list"].append(2)
        metadata["by"].append("you")
        parameters["operation"].done, parameters["operation"].name = True, "other"
        parameters["operation"].result = FlowResult(error="failed")
        parameters["blocked_on_step"].name = "other"
        parameters["executions"][0].trace_ids.append("b")
        parameters["executions"][0].end_time = 2.5
        parameters["executions"].append(FlowStateExecution(trace_ids=[]))
        parameters["extra"]["new"] = 1
        parameters["cache"]["new"] = CacheEntry(value=1)
        parameters["remove"].append("step")
        version = await updating
        [updated] = (await store.list_summaries()).summaries
        await store.update("id", blocked_on_step=None, if_version=version)
        [summary] = (await store.list_summaries(FlowStateQuery(status="running"))).summaries

        wire = {**stored.model_dump(by_alias=True), "owner": "al"}
        if removes:
            del wire["owner"]
        expected = FlowState.model_validate(wire)
        expected.cache, expected.events_triggered = {"step": CacheEntry(value=[1])}, {"event": {"list": [1]}}
        expected.operation = Operation(name="op", done=False, metadata={"by": ["me"]})
        expected.executions, expected.blocked_on_step = [FlowStateExecution(start_time=1.5, trace_ids=["a"])], None
        assert exactly(expected) == exactly(await store.load("id"))
        assert ("blocked", "wait") == (updated.status, updated.blocked_on)
        assert (updated.last_end_time, updated.error_line, updated.expire_at) == (None, None, None)
        assert ("running", None) == (summary.status, summary.expire_at)

    @pytest.mark.asyncio
    async def test_refuses_invalid_ids(self, store: VersionedFlowStateStore) -> None:
        """Ids have the same rules as in every method."""
        for id in ("", "a/b", "..", "__a__"):
            with pytest.raises(InvalidFlowIdError):
                await store.update(id)
            with pytest.raises(InvalidFlowIdError):
                await store.create(id, FlowState.start())
            with pytest.raises(InvalidFlowIdError):
                await store.delete(id)
