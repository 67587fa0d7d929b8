"""Reading, changing and writing back the difference: `edit` and `modify`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import pytest
from pydantic import PrivateAttr

from ...errors import (
    FlowStateConflictError,
    FlowStateEncodeError,
    FlowStateError,
    FlowStateNotFoundError,
    InvalidFlowIdError,
)
from ...memory import MemoryFlowStateStore
from ...models import BlockedOnStep, CacheEntry, FlowResult, FlowState, FlowStateExecution, Operation
from ...store import VersionedFlowStateStore
from ..comparison import exactly
from .states import started, with_everywhere, with_steps
from .suite import Suite, by_another

# Seconds: less than the 30 that a store waits by default, and more than a busy machine needs for what does not wait.
AT_ONCE: Final = 20


def _rename(state: FlowState) -> None:
    state.name = "another name"


def _forget_everything(state: FlowState) -> None:
    state.cache, state.events_triggered = {}, {}


def _reorder(state: FlowState) -> None:
    state.cache = dict(reversed(list(state.cache.items())))


def _reach_into_a_value(state: FlowState) -> None:
    state.cache["b"].value["deep"].append(float("nan"))


def _replace_a_type(state: FlowState) -> None:
    state.cache["a"].value = True  # equal to the 1 that is there, for Python


def _make_null(state: FlowState) -> None:
    state.input = None


def _leave_out(state: FlowState) -> None:
    state.cache["a"] = CacheEntry()
    del state.events_triggered["event"]


def _add_unknown(state: FlowState) -> None:
    state.owner = "me"


def _finish(state: FlowState) -> None:
    state.operation.done = True
    state.operation.result = FlowResult(response=0)
    state.blocked_on_step = None
    state.executions.append(FlowStateExecution(trace_ids=["t"]))


def _all_of_update(state: FlowState) -> None:
    del state.cache["b"]
    state.cache["z"] = CacheEntry(value=[[1]])
    state.cache["b"] = CacheEntry(value="again")
    state.events_triggered["event"] = None
    state.operation = Operation(name="op")
    state.blocked_on_step = BlockedOnStep(name="wait")
    state.trace_context = "trace"


EDITS: Final[tuple[Callable[[FlowState], None], ...]] = (
    _rename,
    _forget_everything,
    _reorder,
    _reach_into_a_value,
    _replace_a_type,
    _make_null,
    _leave_out,
    _add_unknown,
    _finish,
    _all_of_update,
)


async def _edit(store: VersionedFlowStateStore) -> None:
    async with store.edit("id") as state:
        state.name = "edited"


NESTED: Final[Mapping[str, Callable[[VersionedFlowStateStore], Awaitable[object]]]] = {
    "update": lambda store: store.update("id", cache={"nested": CacheEntry()}),
    "save": lambda store: store.save("id", started()),
    "save_many": lambda store: store.save_many({"id": started()}),
    "edit": _edit,
    "modify": lambda store: store.modify("id", _rename),
    "delete": lambda store: store.delete("id"),
    "delete_many": lambda store: store.delete_many(["id"]),
}


ELSEWHERE: Final[Mapping[str, Callable[[VersionedFlowStateStore, FlowState], Awaitable[object]]]] = {
    "under another id": lambda store, state: store.save("copy", state),
    "under other ids": lambda store, state: store.save_many({f"copy {i}": state for i in range(3)}),
    "in another store": lambda _, state: MemoryFlowStateStore().save("id", state),
}


def _add_a_step(state: FlowState) -> None:
    state.cache["more"] = CacheEntry(value=2)


def _change_its_mind(state: FlowState) -> None:
    del state.cache["step"]


def _leave_as_saved(state: FlowState) -> None:
    assert "step" in state.cache


AFTER_ITS_SAVE: Final = (_leave_as_saved, _change_its_mind, _add_a_step, _rename)


class _WithMemo(FlowState):
    """A state of an application, which keeps something beside what is stored."""

    _memo: dict[str, int] = PrivateAttr(default_factory=dict)


def _to_edit() -> FlowState:
    state = with_everywhere({"deep": [1.0]})
    state.cache = {"a": CacheEntry(value=1), "b": CacheEntry(value={"deep": []}), "c": CacheEntry(value=None)}
    return state


class EditingTests(Suite):
    """The methods `edit` and `modify`."""

    @pytest.mark.asyncio
    @pytest.mark.parametrize("change", EDITS, ids=lambda change: change.__name__[1:])
    async def test_edit_writes_whatever_the_block_changed(
        self, store: VersionedFlowStateStore, change: Callable[[FlowState], None]
    ) -> None:
        """A change of any part is stored, and the state of the block has the stored version afterwards."""
        expected = _to_edit()
        await store.save("id", expected)
        change(expected)
        async with store.edit("id") as state:
            change(state)
        loaded = await store.load("id")

        assert loaded is not None
        assert exactly(expected) == exactly(loaded)
        assert state.version == loaded.version
        assert state.updated_at == loaded.updated_at

    @pytest.mark.asyncio
    @pytest.mark.parametrize("change", EDITS, ids=lambda change: change.__name__[1:])
    async def test_modify_writes_whatever_was_changed(
        self, store: VersionedFlowStateStore, change: Callable[[FlowState], None]
    ) -> None:
        """A function may make the same changes. The state that is returned is the stored one."""
        expected = _to_edit()
        await store.save("id", expected)
        change(expected)
        state = await store.modify("id", change)
        loaded = await store.load("id")

        assert loaded is not None
        assert exactly(expected) == exactly(state) == exactly(loaded)
        assert state.version == loaded.version

    @pytest.mark.asyncio
    async def test_edit_writes_nothing_if_nothing_changed(self, store: VersionedFlowStateStore) -> None:
        """A block that leaves the state as it was makes no version, though values were set to what they were."""
        before = _to_edit()
        before.input = float("nan")
        await store.save("id", before)
        async with store.edit("id") as state:
            state.cache["a"] = CacheEntry(value=1)
            state.input = float("nan")
        unchanged = await store.modify("id", lambda state: None)
        loaded = await store.load("id")

        assert loaded is not None
        assert before.version == loaded.version == state.version == unchanged.version

    @pytest.mark.asyncio
    async def test_edit_leaves_the_store_alone_if_the_block_raises(self, store: VersionedFlowStateStore) -> None:
        """The exception of the block is raised, and nothing is written."""
        before = _to_edit()
        await store.save("id", before)
        with pytest.raises(RuntimeError, match="of the block"):
            async with store.edit("id") as state:
                _all_of_update(state)
                raise RuntimeError("of the block")
        loaded = await store.load("id")

        assert loaded is not None
        assert exactly(before) == exactly(loaded)
        assert before.version == loaded.version

    @pytest.mark.asyncio
    @pytest.mark.parametrize("change", EDITS, ids=lambda change: change.__name__[1:])
    async def test_edit_conflicts_if_another_wrote_meanwhile(
        self, store: VersionedFlowStateStore, change: Callable[[FlowState], None]
    ) -> None:
        """The end of the block raises the conflict, and the other writer's state stays."""
        await store.save("id", _to_edit())
        other = with_steps("other")
        with pytest.raises(FlowStateConflictError) as conflict:
            async with store.edit("id") as state:
                change(state)
                await store.save("id", other)

        assert conflict.value.flow_id == "id"
        assert exactly(other) == exactly(await store.load("id"))

    @pytest.mark.asyncio
    async def test_edit_conflicts_if_another_deleted_meanwhile(self, store: VersionedFlowStateStore) -> None:
        """A state that was deleted during the block does not come back."""
        for change in (_all_of_update, _rename):
            await store.save("id", _to_edit())
            with pytest.raises(FlowStateConflictError):
                async with store.edit("id") as state:
                    change(state)
                    await store.delete("id")

        assert await store.load("id") is None

    @pytest.mark.asyncio
    async def test_an_edit_without_change_never_conflicts(self, store: VersionedFlowStateStore) -> None:
        """If the block changed nothing, it does not matter that another wrote meanwhile."""
        await store.save("id", started())
        async with store.edit("id"):
            await store.save("id", with_steps("other"))

    @pytest.mark.asyncio
    @pytest.mark.parametrize("save_elsewhere", ELSEWHERE.values(), ids=ELSEWHERE)
    @pytest.mark.parametrize("change", [_add_a_step, _rename, None], ids=["a step", "whole", "nothing"])
    async def test_the_state_of_an_edit_may_be_saved_elsewhere_too(
        self,
        store: VersionedFlowStateStore,
        change: Callable[[FlowState], None] | None,
        save_elsewhere: Callable[[VersionedFlowStateStore, FlowState], Awaitable[object]],
    ) -> None:
        """The block's change is stored under its id all the same, and the state has the version stored there."""
        before = with_steps("a")
        await store.save("id", before)
        async with store.edit("id") as state:
            if change is not None:
                change(state)
            await save_elsewhere(store, state)
        loaded = await store.load("id")

        assert loaded is not None
        assert exactly(state) == exactly(loaded)
        assert state.version == loaded.version
        assert (loaded.version == before.version) == (change is None)

    @pytest.mark.asyncio
    @pytest.mark.parametrize("save_elsewhere", ELSEWHERE.values(), ids=ELSEWHERE)
    @pytest.mark.parametrize("change", [_add_a_step, _rename, None], ids=["a step", "whole", "nothing"])
    async def test_the_state_that_modify_changes_may_be_saved_elsewhere_too(
        self,
        store: VersionedFlowStateStore,
        change: Callable[[FlowState], None] | None,
        save_elsewhere: Callable[[VersionedFlowStateStore, FlowState], Awaitable[object]],
    ) -> None:
        """The function's change is stored under its id all the same, and the state has the version stored there."""
        before = with_steps("a")
        await store.save("id", before)

        async def change_and_save(state: FlowState) -> None:
            if change is not None:
                change(state)
            await save_elsewhere(store, state)

        modified = await store.modify("id", change_and_save, attempts=1)
        loaded = await store.load("id")

        assert loaded is not None
        assert exactly(modified) == exactly(loaded)
        assert modified.version == loaded.version
        assert (loaded.version == before.version) == (change is None)

    @pytest.mark.asyncio
    @pytest.mark.parametrize("also_elsewhere", [False, True], ids=["here", "and elsewhere"])
    @pytest.mark.parametrize("change", AFTER_ITS_SAVE, ids=lambda change: change.__name__[1:])
    async def test_an_edit_goes_on_from_what_its_block_has_saved(
        self, store: VersionedFlowStateStore, change: Callable[[FlowState], None], also_elsewhere: bool
    ) -> None:
        """What is stored in the end is the state as the block leaves it, also if that is how it found the state."""
        await store.save("id", with_steps("a"))
        async with store.edit("id") as state:
            state.cache["step"] = CacheEntry(value=1)
            await store.save("id", state)
            for save_elsewhere in ELSEWHERE.values() if also_elsewhere else ():
                await save_elsewhere(store, state)
            change(state)
        loaded = await store.load("id")

        assert loaded is not None
        assert exactly(state) == exactly(loaded)
        assert state.version == loaded.version

    @pytest.mark.asyncio
    @pytest.mark.parametrize("change", AFTER_ITS_SAVE, ids=lambda change: change.__name__[1:])
    async def test_an_edit_conflicts_if_another_wrote_after_its_block_had_saved(
        self, store: VersionedFlowStateStore, change: Callable[[FlowState], None]
    ) -> None:
        """What the block leaves goes on top of its own save alone, and the other writer's state stays."""
        await store.save("id", with_steps("a"))
        other = with_steps("other")
        with pytest.raises(FlowStateConflictError) as conflict:
            async with store.edit("id") as state:
                state.cache["step"] = CacheEntry(value=1)
                await store.save("id", state)
                await store.save("id", other)
                change(state)

        assert "id" == conflict.value.flow_id
        assert (state.version, other.version) == (conflict.value.expected, conflict.value.found)
        assert exactly(other) == exactly(await store.load("id"))

    @pytest.mark.asyncio
    async def test_missing_state_is_not_edited(self, store: VersionedFlowStateStore) -> None:
        """The block and the function are not run."""
        with pytest.raises(FlowStateNotFoundError) as refusal:
            async with store.edit("id"):
                raise AssertionError("the block was entered")
        assert refusal.value.flow_id == "id"
        with pytest.raises(FlowStateNotFoundError):
            await store.modify("id", _finish)
        with pytest.raises(InvalidFlowIdError):
            await store.modify("a/b", _finish)
        with pytest.raises(InvalidFlowIdError):
            async with store.edit("a/b"):
                raise AssertionError("the block was entered")

    @pytest.mark.asyncio
    async def test_refuses_to_write_back_what_cannot_be_stored(self, store: VersionedFlowStateStore) -> None:
        """A value without a JSON form is refused with its path, and the rest of the edit is not written either."""
        await store.save("id", started())
        for name, value in (("step", CacheEntry(value=object())), ("no entry", 5)):
            with pytest.raises(FlowStateEncodeError, match=name) as refusal:
                async with store.edit("id") as state:
                    state.name = "written by halves"
                    state.cache[name] = value  # type: ignore[assignment]  # as an app without a type checker may do
            assert refusal.value.flow_id == "id"

        assert exactly(started()) == exactly(await store.load("id"))

    @pytest.mark.asyncio
    async def test_modify_runs_again_on_a_conflict(self, store: VersionedFlowStateStore) -> None:
        """After another writer's write the function is called with the new state."""
        await store.save("id", with_steps("a"))
        seen = []

        async def add(state: FlowState) -> None:
            seen.append(list(state.cache))
            if len(seen) < 3:
                await by_another(store.update("id", cache={f"other {len(seen)}": CacheEntry()}))
            state.cache["mine"] = CacheEntry(value=1)

        modified = await store.modify("id", add)

        assert seen == [["a"], ["a", "other 1"], ["a", "other 1", "other 2"]]
        assert list(modified.cache) == ["a", "other 1", "other 2", "mine"]

    @pytest.mark.asyncio
    async def test_modify_gives_up_after_its_attempts(self, store: VersionedFlowStateStore) -> None:
        """The last conflict is raised after as many attempts as were asked for."""
        await store.save("id", started())
        calls = 0

        async def always_late(state: FlowState) -> None:
            nonlocal calls
            calls += 1
            await by_another(store.update("id"))
            state.name = "late"

        with pytest.raises(FlowStateConflictError):
            await store.modify("id", always_late, attempts=3)

        assert calls == 3

    @pytest.mark.asyncio
    @pytest.mark.parametrize("attempts", [1, 2])
    @pytest.mark.parametrize("order", ["ab", "ba"])
    async def test_modify_of_a_state_that_is_deleted_meanwhile(
        self, store: VersionedFlowStateStore, order: str, attempts: int
    ) -> None:
        """There is nothing to try again on: that is not a conflict, whatever of the state was changed."""
        await store.save("id", with_steps("a", "b"))
        await store.delete("never there")

        async def too_late(state: FlowState) -> None:
            await by_another(store.delete("id"))
            state.cache = {step: state.cache[step] for step in order}  # another order takes a write of the whole state
            state.name = "late"

        with pytest.raises(FlowStateNotFoundError) as refusal:
            await store.modify("id", too_late, attempts=attempts)

        assert "id" == refusal.value.flow_id
        assert await store.load("id") is None

    @pytest.mark.asyncio
    async def test_modify_writes_the_state_that_is_returned(self, store: VersionedFlowStateStore) -> None:
        """A function may return another state, which is then written. What else it returns is ignored."""
        await store.save("id", with_steps("a"))
        modified = await store.modify("id", lambda state: state.model_copy(update={"name": "copied"}))
        assert "copied" == modified.name

        async def another(state: FlowState) -> FlowState:
            return FlowState.model_validate({**state.model_dump(by_alias=True), "owner": "me"})

        modified = await store.modify("id", another)
        await store.modify("id", lambda state: state.cache.pop("a"))  # type: ignore[arg-type,return-value]  # ignored
        loaded = await store.load("id")

        assert loaded is not None
        assert ("copied", {}, {"owner": "me"}) == (loaded.name, loaded.cache, loaded.model_extra)
        assert {"owner": "me"} == modified.model_extra
        assert modified.version != loaded.version

    @pytest.mark.asyncio
    @pytest.mark.parametrize("copy", [False, True], ids=["another", "a copy"])
    async def test_the_state_that_the_function_returns_keeps_its_private_attributes(
        self, store: VersionedFlowStateStore, copy: bool
    ) -> None:
        """What an application keeps in them is not stored, and stays its own. The version is that of the write."""
        await store.save("id", with_steps("a"))
        given: list[FlowState] = []

        def change(state: FlowState) -> FlowState:
            given.append(state)
            changed = _WithMemo.model_validate(state.model_dump(by_alias=True))
            changed.name = "changed"
            changed._memo["calls"] = len(given)
            return changed.model_copy() if copy else changed

        modified = await store.modify("id", change)
        loaded = await store.load("id")

        assert loaded is not None
        assert isinstance(modified, _WithMemo)
        assert {"calls": 1} == modified._memo
        assert ("changed", loaded.version) == (loaded.name, modified.version)

    @pytest.mark.asyncio
    @pytest.mark.parametrize("write", NESTED.values(), ids=NESTED)
    async def test_a_write_inside_modify_that_could_only_wait_for_itself_is_refused(
        self, store: VersionedFlowStateStore, write: Callable[[VersionedFlowStateStore], Awaitable[object]]
    ) -> None:
        """The write is refused at once, with the id. Another state may be written, and this one read."""
        before = with_steps("a")
        await store.save("id", before)

        async def change(state: FlowState) -> None:
            state.name = "changed"
            assert await store.load("id") is not None
            await store.save("another", started())
            await asyncio.gather(write(store))

        with pytest.raises(FlowStateError, match="modify") as refusal:
            await asyncio.wait_for(store.modify("id", change), AT_ONCE)

        assert "id" == refusal.value.flow_id
        assert exactly(before) == exactly(await store.load("id"))
        await write(store)  # the same write is allowed outside of modify

    @pytest.mark.asyncio
    async def test_modify_passes_on_what_the_function_raises(self, store: VersionedFlowStateStore) -> None:
        """An exception of the function is not a conflict, and nothing is written."""

        def fail(state: FlowState) -> None:
            state.name = "changed"
            raise RuntimeError("of the function")

        state = started()
        await store.save("id", state)
        with pytest.raises(RuntimeError, match="of the function"):
            await store.modify("id", fail)

        assert exactly(state) == exactly(await store.load("id"))

    @pytest.mark.asyncio
    async def test_concurrent_modifications_lose_nothing(self, store: VersionedFlowStateStore) -> None:
        """16 writers, each adding a step and one to a counter in a step's value, all arrive."""
        state = with_steps("counter")
        await store.save("id", state)

        def adding(step: str) -> Callable[[FlowState], Awaitable[None]]:
            async def add(state: FlowState) -> None:
                counted = state.cache["counter"].value
                await asyncio.sleep(0)
                state.cache["counter"].value = counted + 1
                state.cache[step] = CacheEntry(value=step)

            return add

        await asyncio.gather(*(store.modify("id", adding(f"step {writer}")) for writer in range(16)))
        loaded = await store.load("id")

        assert loaded is not None
        assert loaded.cache["counter"].value == 16
        assert {"counter", *(f"step {writer}" for writer in range(16))} == set(loaded.cache)
