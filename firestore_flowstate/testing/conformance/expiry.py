"""Expiry: finished states vanish after their time, and a flow that is resumed stays."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from typing import Any, Final

import pytest

from ...errors import FlowStateConflictError, FlowStateError, FlowStateNotFoundError
from ...models import BlockedOnStep, CacheEntry, FlowState, FlowStateExecution, Operation
from ...query import FlowStateQuery
from ...store import VersionedFlowStateStore
from ...unset import UNSET
from ..comparison import exactly
from .states import finished, started, with_steps
from .suite import IN_AN_HOUR, ExpiringSuite, MakeStore
from .watching import close, soon

AT_ONCE: Final = timedelta(microseconds=1)
WAKE_AT: Final = 5  # milliseconds since the epoch: long due

DURATIONS: Final = (0.4, 1.6, 6.4)  # seconds, of which one is enough for a busy machine to save a state and read it
WATCHED_DURATIONS: Final = (1, 5, 15)  # seconds, in which those who watch are told of it too


Change = Callable[[FlowState], Awaitable[None]]

WHOLE_WRITES: Final[dict[str, Callable[[VersionedFlowStateStore, Any], Awaitable[object]]]] = {
    "save": lambda store, version: store.save("id", with_steps("late"), if_version=version),
    "delete": lambda store, version: store.delete("id", if_version=version),
}
WRITES: Final = {
    **WHOLE_WRITES,
    "update": lambda store, version: store.update("id", cache={"late": CacheEntry(value=1)}, if_version=version),
}
"""Each way to write on top of a version."""


def _rename(state: FlowState) -> None:
    state.name = "renamed"


def _add_a_step(state: FlowState) -> None:
    state.cache["late"] = CacheEntry(value=1)


def _resume(state: FlowState) -> None:
    state.operation = Operation(name="op", done=False)


CHANGES: Final[dict[str, Callable[[FlowState], None]]] = {
    "the name": _rename,
    "a step": _add_a_step,
    "the operation": _resume,
}


def _waking(state: FlowState) -> FlowState:
    setattr(state, "wakeAt", WAKE_AT)  # noqa: B010  # an unknown key, of which no type knows
    return state


async def _ended_too_late(
    make: MakeStore,
    write: Callable[[VersionedFlowStateStore, Change], Awaitable[None]],
    change: Callable[[FlowState], None],
) -> FlowStateError:
    """Return the error of a write that read a state in time and ends when it has expired, which it has to stay."""
    for seconds in DURATIONS:
        store = make(timedelta(seconds=seconds))
        was_read = False

        async def after_its_time(state: FlowState) -> None:
            nonlocal was_read
            was_read = True
            change(state)
            assert state.expire_at is not None
            await asyncio.sleep((state.expire_at - datetime.now(timezone.utc)).total_seconds())

        await store.save("id", finished())
        with pytest.raises(FlowStateError) as error:
            await write(store, after_its_time)
        assert await store.load("id") is None
        if was_read:
            return error.value
    raise AssertionError(f"The state was never read within {DURATIONS[-1]} seconds of its save.")


class ExpiryTests(ExpiringSuite):
    """A store whose finished states expire, and only those."""

    @pytest.mark.asyncio
    @pytest.mark.parametrize("error", [None, "failed"])
    async def test_finished_states_expire(self, store: VersionedFlowStateStore, error: str | None) -> None:
        """A finished state, done or failed, has an expiry, which loads and summaries show."""
        state = finished(error=error)
        before = datetime.now(timezone.utc)
        await store.save("id", state)
        loaded = await store.load("id")
        [summary] = (await store.list_summaries()).summaries

        assert loaded is not None
        assert state.expire_at is not None
        assert before + IN_AN_HOUR <= state.expire_at <= datetime.now(timezone.utc) + IN_AN_HOUR
        assert state.expire_at == loaded.expire_at == summary.expire_at

    @pytest.mark.asyncio
    async def test_unfinished_states_stay(self, store: VersionedFlowStateStore) -> None:
        """Scheduled, running and blocked states have no expiry."""
        state = started()
        await store.save("id", state)
        assert state.expire_at is None
        state.executions = [FlowStateExecution(trace_ids=[])]
        await store.save("id", state)
        assert state.expire_at is None
        state.blocked_on_step = BlockedOnStep(name="wait")
        await store.save("id", state)

        assert state.expire_at is None

    @pytest.mark.asyncio
    async def test_a_flow_that_ends_gets_its_expiry(self, store: VersionedFlowStateStore) -> None:
        """The partial write that ends a flow sets the expiry, by update, edit and modify."""

        def finish(state: FlowState) -> None:
            state.operation.done = True

        for id in ("update", "edit", "modify"):
            await store.save(id, started())
        await store.update("update", operation=Operation(name="op", done=True))
        async with store.edit("edit") as edited:
            finish(edited)
        modified = await store.modify("modify", finish)
        loaded = await store.load_many(["update", "edit", "modify"])

        assert None not in {state.expire_at for state in loaded.values()}
        assert edited.expire_at == loaded["edit"].expire_at
        assert modified.expire_at == loaded["modify"].expire_at

    @pytest.mark.asyncio
    async def test_what_ends_after_the_call_gets_no_expiry(self, store: VersionedFlowStateStore) -> None:
        """Neither a write nor the next one on top of it goes by an operation as the caller has changed it since."""
        state = started()
        await store.save("id", state)
        operation = Operation(name="op", done=False)
        updating = asyncio.ensure_future(store.update("id", operation=operation, if_version=state.version or UNSET))
        await asyncio.sleep(0)  # it runs up to the first point at which it waits
        operation.done = True
        version = await updating
        await store.update("id", blocked_on_step=None, if_version=version)
        loaded = await store.load("id")

        assert loaded is not None
        assert (False, None) == (loaded.operation.done, loaded.expire_at)
        assert ["scheduled"] == [summary.status for summary in (await store.list_summaries()).summaries]

    @pytest.mark.asyncio
    async def test_a_flow_that_is_resumed_loses_its_expiry(self, store: VersionedFlowStateStore) -> None:
        """The write that makes the flow unfinished clears the expiry: update, edit, or a whole save."""

        def resume(state: FlowState) -> None:
            state.operation = Operation(name="op", done=False)

        for id in ("update", "edit", "save"):
            await store.save(id, finished())
        await store.update("update", operation=Operation(name="op", done=False))
        async with store.edit("edit") as state:
            resume(state)
        await store.save("save", started())
        loaded = await store.load_many(["update", "edit", "save"])

        assert {None} == {state.expire_at for state in loaded.values()}

    @pytest.mark.asyncio
    async def test_a_step_alone_leaves_the_expiry(self, store: VersionedFlowStateStore) -> None:
        """A partial write of cache or events does not know the status, and leaves the expiry as it is."""
        state = finished()
        await store.save("id", state)
        await store.update("id", cache={"step": CacheEntry()}, events_triggered={"event": 1}, trace_context="trace")
        loaded = await store.load("id")

        assert loaded is not None
        assert state.expire_at == loaded.expire_at

    @pytest.mark.asyncio
    async def test_an_expired_state_is_gone_at_once(self, store_expiring_after: MakeStore) -> None:
        """It is neither loaded nor listed, edited nor due, though it may still be stored. A count may include it."""
        store = store_expiring_after(AT_ONCE)
        await store.save("stays", _waking(started(flow_id="stays")))
        await store.save_many({"gone": _waking(finished()), "gone too": _waking(finished(error="failed"))})

        assert await store.load("gone") is None
        assert list(await store.load_many(["gone", "stays", "gone too"])) == ["stays"]
        assert [state.flow_id for state in (await store.list()).flow_states] == ["stays"]
        assert [state.flow_id async for state in store.iterate()] == ["stays"]
        assert [summary.id for summary in (await store.list_summaries()).summaries] == ["stays"]
        assert [summary.id for summary in await store.due(WAKE_AT)] == ["stays"]
        assert [summary.id for summary in await store.due(WAKE_AT, limit=1)] == ["stays"]
        assert await store.count() in (1, 3)
        with pytest.raises(FlowStateNotFoundError):
            await store.update("gone", cache={"step": CacheEntry()})
        with pytest.raises(FlowStateNotFoundError):
            await store.modify("gone", lambda state: None)
        with pytest.raises(FlowStateNotFoundError):
            async with store.edit("gone"):
                raise AssertionError("the block was entered")

    @pytest.mark.asyncio
    async def test_whoever_watches_sees_a_state_expire(self, store_expiring_after: MakeStore) -> None:
        """Watches of it, and of lists, see it go at its time, though nobody writes. A new state is seen again."""
        for seconds in WATCHED_DURATIONS:
            store = store_expiring_after(timedelta(seconds=seconds))
            state = finished()
            watch, pages = store.watch("id"), store.watch_list()
            seen: list[Any] = [await soon(watch)]
            shown = [await soon(pages)]
            with suppress(asyncio.TimeoutError):
                for _ in range(2):
                    await store.save("id", state)
                    for _ in range(2):
                        seen.append(await soon(watch))
                        shown.append(await soon(pages))
            await close(watch)
            await close(pages)
            if len(seen) + len(shown) not in (2, 3, 6, 7):
                break  # else the state may have expired before somebody was told of it

        assert [False, True, False, True, False] == [state is not None for state in seen]
        assert [0, 1, 0, 1, 0] == [len(page) for page in shown]

    @pytest.mark.asyncio
    async def test_an_expired_state_leaves_its_id_free(self, store_expiring_after: MakeStore) -> None:
        """`create`, and a save with ``if_version=None``, replace it."""
        store = store_expiring_after(AT_ONCE)
        await store.save_many({"create": finished(), "save": finished()})
        state = with_steps("new")
        await store.create("create", state)
        await store.save("save", state, if_version=None)

        assert exactly({"create": state, "save": state}) == exactly(await store.load_many(["create", "save"]))
        with pytest.raises(FlowStateConflictError):
            await store.save("save", started(), if_version=None)

    @pytest.mark.asyncio
    @pytest.mark.parametrize("write", WHOLE_WRITES.values(), ids=WHOLE_WRITES)
    async def test_an_expired_version_is_not_a_version(self, store_expiring_after: MakeStore, write: Any) -> None:
        """To save on top of it or to delete it is a conflict with an absent state, and brings nothing back."""
        store = store_expiring_after(AT_ONCE)
        state = finished()
        await store.save("id", state)
        with pytest.raises(FlowStateConflictError) as conflict:
            await write(store, state.version)

        assert (state.version, None) == (conflict.value.expected, conflict.value.found)
        assert await store.load("id") is None

    @pytest.mark.asyncio
    async def test_an_expired_version_is_not_updated(self, store_expiring_after: MakeStore) -> None:
        """An update of it is FlowStateNotFoundError."""
        store = store_expiring_after(AT_ONCE)
        state = finished()
        await store.save("id", state)
        for change in ({"cache": {"step": CacheEntry()}}, {"operation": Operation(name="op")}):
            with pytest.raises(FlowStateNotFoundError):
                await store.update("id", if_version=state.version or "", **change)

        assert await store.load("id") is None

    @pytest.mark.asyncio
    @pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
    async def test_an_expired_version_that_another_has_replaced(
        self, store_expiring_after: MakeStore, write: Any
    ) -> None:
        """If another has resumed the flow, a write on top of the expired version is a conflict like any other."""
        store = store_expiring_after(AT_ONCE)
        state = finished()
        await store.save("id", state)
        resumed = started()
        await store.create("id", resumed)
        with pytest.raises(FlowStateConflictError) as conflict:
            await write(store, state.version)

        assert (state.version, resumed.version) == (conflict.value.expected, conflict.value.found)
        loaded = await store.load("id")
        assert loaded is not None
        assert resumed.version == loaded.version

    @pytest.mark.asyncio
    @pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
    async def test_what_expires_while_it_is_edited_stays_gone(
        self, store_expiring_after: MakeStore, change: Callable[[FlowState], None]
    ) -> None:
        """An edit that ends too late is a conflict, and a modify finds no state, whatever they change."""

        async def edit(store: VersionedFlowStateStore, change: Change) -> None:
            async with store.edit("id") as state:
                await change(state)

        async def modify(store: VersionedFlowStateStore, change: Change) -> None:
            await store.modify("id", change)

        conflict = await _ended_too_late(store_expiring_after, edit, change)
        assert isinstance(conflict, FlowStateConflictError)
        assert conflict.found is None
        assert isinstance(await _ended_too_late(store_expiring_after, modify, change), FlowStateNotFoundError)

    @pytest.mark.asyncio
    async def test_deleting_an_expired_state_does_nothing(self, store_expiring_after: MakeStore) -> None:
        """The state counts as absent, and deleting an absent state is not an error."""
        store = store_expiring_after(AT_ONCE)
        await store.save("id", finished())
        await store.delete("id")
        await store.delete_many(["id"])

        assert await store.load("id") is None

    @pytest.mark.asyncio
    async def test_expired_states_leave_no_gaps_in_pages(self, store_expiring_after: MakeStore) -> None:
        """Pages are filled with live states, and a token is given only if a live one follows."""
        store = store_expiring_after(AT_ONCE)
        states = {}
        for place in range(30):
            state = finished() if place % 5 else started(flow_id=f"id-{place:02}")
            state.start_time = place
            states[f"id-{place:02}"] = state
        await store.save_many(states)
        first = await store.list(FlowStateQuery(limit=4))
        last = await store.list(FlowStateQuery(limit=4, continuation_token=first.continuation_token))

        assert [state.flow_id for state in first.flow_states] == ["id-25", "id-20", "id-15", "id-10"]
        assert [state.flow_id for state in last.flow_states] == ["id-05", "id-00"]
        assert (await store.list(FlowStateQuery(limit=6))).continuation_token is None
        assert last.continuation_token is None
