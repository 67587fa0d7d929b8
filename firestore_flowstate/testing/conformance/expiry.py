"""Expiry: finished states vanish after their time, and a flow that is resumed stays."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta, timezone
from typing import Any, Final, TypeVar

import pytest
from pydantic import ConfigDict

from ...errors import (
    FlowStateConflictError,
    FlowStateEncodeError,
    FlowStateExistsError,
    FlowStateNotFoundError,
)
from ...models import BlockedOnStep, CacheEntry, FlowResult, FlowState, FlowStateExecution, Operation
from ...query import FlowStateQuery
from ...store import VersionedFlowStateStore
from ...unset import UNSET
from ..comparison import exactly
from .states import started, with_steps
from .suite import Suite
from .watching import close, soon

AT_ONCE: Final = timedelta(microseconds=1)
IN_AN_HOUR: Final = timedelta(hours=1)

WAKE_AT: Final = 5

SOON: Final = timedelta(seconds=0.4)

MakeStore = Callable[[timedelta], VersionedFlowStateStore]


class WithExpireAfter(FlowState):
    """A flow state of an application that declares the flow's own duration."""

    expire_after: int | None = None


class Owning(FlowState):
    """One with a field that is named as Firestore's TTL field is here."""

    expireAt: str = "soon"  # noqa: N815  # a name on the wire


class OfHours(FlowState):
    """One with a field of another type under the name of the flow's own duration."""

    expire_after: timedelta = IN_AN_HOUR


class Closed(FlowState):
    """One without unknown keys."""

    model_config = ConfigDict(extra="forbid")


class Frozen(FlowState):
    """One that does not change."""

    model_config = ConfigDict(frozen=True)


WHOLE_WRITES: Final[dict[str, Callable[[VersionedFlowStateStore, Any], Awaitable[object]]]] = {
    "save": lambda store, version: store.save("id", with_steps("late"), if_version=version),
    "delete": lambda store, version: store.delete("id", if_version=version),
}
WRITES: Final = {
    **WHOLE_WRITES,
    "update": lambda store, version: store.update("id", cache={"late": CacheEntry(value=1)}, if_version=version),
}
"""Each way to write to a version."""


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


def _finished(*, error: str | None = None) -> FlowState:
    state = started()
    state.operation = Operation(name="op", done=True, result=FlowResult(error=error))
    return state


class ExpiryTests(Suite):
    """A store whose finished states expire, and only those."""

    @pytest.fixture
    def store_expiring_after(self) -> Any:
        """Return a function that returns an empty store; to be overridden by the subclass.

        Its argument is how long after their last write finished states expire.
        """
        raise NotImplementedError(f"{type(self).__name__} needs a fixture `store_expiring_after`")

    @pytest.fixture
    def store(self, store_expiring_after: MakeStore) -> VersionedFlowStateStore:
        """Return an empty store whose finished states expire in an hour."""
        return store_expiring_after(IN_AN_HOUR)

    @pytest.mark.asyncio
    @pytest.mark.parametrize("error", [None, "failed"])
    async def test_finished_states_expire(self, store: VersionedFlowStateStore, error: str | None) -> None:
        """Whether done or failed, a finished state has its expiry, which load and summaries tell."""
        state = _finished(error=error)
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
        """The partial write that ends a flow sets it, by update, edit and modify."""

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
    async def test_a_flow_that_is_resumed_loses_its_expiry(self, store: VersionedFlowStateStore) -> None:
        """Whatever makes the flow unfinished clears it: update, edit, or a whole save."""

        def resume(state: FlowState) -> None:
            state.operation = Operation(name="op", done=False)

        for id in ("update", "edit", "save"):
            await store.save(id, _finished())
        await store.update("update", operation=Operation(name="op", done=False))
        async with store.edit("edit") as state:
            resume(state)
        await store.save("save", started())
        loaded = await store.load_many(["update", "edit", "save"])

        assert {None} == {state.expire_at for state in loaded.values()}

    @pytest.mark.asyncio
    async def test_a_step_alone_leaves_the_expiry(self, store: VersionedFlowStateStore) -> None:
        """A partial write of cache or events does not know the status, and leaves the expiry as it is."""
        state = _finished()
        await store.save("id", state)
        await store.update("id", cache={"step": CacheEntry()}, events_triggered={"event": 1}, trace_context="trace")
        loaded = await store.load("id")

        assert loaded is not None
        assert state.expire_at == loaded.expire_at

    @pytest.mark.asyncio
    async def test_an_expired_state_is_gone_at_once(self, store_expiring_after: MakeStore) -> None:
        """It is neither loaded nor listed, edited nor due, collected or not; a count may include it."""
        store = store_expiring_after(AT_ONCE)
        await store.save("stays", _waking(started(flow_id="stays")))
        await store.save_many({"gone": _waking(_finished()), "gone too": _waking(_finished(error="failed"))})

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
        """In its time, though nobody writes; so does whoever watches the list, and a new one under its id is there."""
        store = store_expiring_after(timedelta(seconds=1))
        state = _finished()
        watch, pages = store.watch("id"), store.watch_list()
        seen: list[Any] = [await soon(watch)]
        shown = [await soon(pages)]
        for _ in range(2):
            await store.save("id", state)
            for _ in range(2):
                seen.append(await soon(watch))
                shown.append(await soon(pages))
        await close(watch)
        await close(pages)

        assert [False, True, False, True, False] == [state is not None for state in seen]
        assert [0, 1, 0, 1, 0] == [len(page) for page in shown]

    @pytest.mark.asyncio
    async def test_an_expired_state_leaves_its_id_free(self, store_expiring_after: MakeStore) -> None:
        """Create, and a save that asks for nothing there, replace it."""
        store = store_expiring_after(AT_ONCE)
        await store.save_many({"create": _finished(), "save": _finished()})
        state = with_steps("new")
        await store.create("create", state)
        await store.save("save", state, if_version=None)

        assert exactly({"create": state, "save": state}) == exactly(await store.load_many(["create", "save"]))
        with pytest.raises(FlowStateConflictError):
            await store.save("save", started(), if_version=None)

    @pytest.mark.asyncio
    @pytest.mark.parametrize("write", WHOLE_WRITES.values(), ids=WHOLE_WRITES)
    async def test_an_expired_version_is_no_version(self, store_expiring_after: MakeStore, write: Any) -> None:
        """To save on it or to delete it is a conflict with nothing, and brings nothing back."""
        store = store_expiring_after(AT_ONCE)
        state = _finished()
        await store.save("id", state)
        with pytest.raises(FlowStateConflictError) as conflict:
            await write(store, state.version)

        assert (state.version, None) == (conflict.value.expected, conflict.value.found)
        assert await store.load("id") is None

    @pytest.mark.asyncio
    async def test_an_expired_version_is_not_updated(self, store_expiring_after: MakeStore) -> None:
        """There is nothing to change any more."""
        store = store_expiring_after(AT_ONCE)
        state = _finished()
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
        """If another writer has resumed the flow there is a state again: a conflict, as of any older version."""
        store = store_expiring_after(AT_ONCE)
        state = _finished()
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
        """An edit that ends too late is a conflict, a modify finds nothing, whatever part of the state they change."""
        store = store_expiring_after(SOON)

        async def after_its_time(state: FlowState) -> None:
            change(state)
            assert state.expire_at is not None
            await asyncio.sleep((state.expire_at - datetime.now(timezone.utc)).total_seconds())

        await store.save("id", _finished())
        with pytest.raises(FlowStateConflictError) as conflict:
            async with store.edit("id") as state:
                await after_its_time(state)
        assert conflict.value.found is None
        await store.save("id", _finished())
        with pytest.raises(FlowStateNotFoundError):
            await store.modify("id", after_its_time)

        assert await store.load("id") is None

    @pytest.mark.asyncio
    async def test_deleting_an_expired_state_does_nothing(self, store_expiring_after: MakeStore) -> None:
        """It counts as absent, which is not an error."""
        store = store_expiring_after(AT_ONCE)
        await store.save("id", _finished())
        await store.delete("id")
        await store.delete_many(["id"])

        assert await store.load("id") is None

    @pytest.mark.asyncio
    async def test_expired_states_leave_no_gaps_in_pages(self, store_expiring_after: MakeStore) -> None:
        """Pages are filled with live states, and a token is given only if a live one follows."""
        store = store_expiring_after(AT_ONCE)
        states = {}
        for place in range(30):
            state = _finished() if place % 5 else started(flow_id=f"id-{place:02}")
            state.start_time = place
            states[f"id-{place:02}"] = state
        await store.save_many(states)
        first = await store.list(FlowStateQuery(limit=4))
        last = await store.list(FlowStateQuery(limit=4, continuation_token=first.continuation_token))

        assert [state.flow_id for state in first.flow_states] == ["id-25", "id-20", "id-15", "id-10"]
        assert [state.flow_id for state in last.flow_states] == ["id-05", "id-00"]
        assert (await store.list(FlowStateQuery(limit=6))).continuation_token is None
        assert last.continuation_token is None

    @pytest.mark.asyncio
    @pytest.mark.parametrize("by", ["save", "create", "update", "edit", "update and end", "modify the key"])
    async def test_a_flow_may_expire_after_a_time_of_its_own(self, store: VersionedFlowStateStore, by: str) -> None:
        """Whichever write says so, over the store's own setting, and it is kept with the state in milliseconds."""
        state, own = _finished(), timedelta(days=7)
        if by == "save":
            await store.save("id", state, expire_after=own)
        elif by == "create":
            await store.create("id", state, expire_after=own)
        else:
            await store.save("id", started() if by == "update and end" else state)
        if by == "update":
            await store.update("id", expire_after=own)
        if by == "update and end":
            await store.update("id", operation=_finished().operation, expire_after=own)
        if by == "edit":
            async with store.edit("id", expire_after=own):
                pass
        if by == "modify the key":
            await store.modify("id", lambda state: setattr(state, "expireAfter", 7 * 86_400_000))
        loaded = await store.load("id")
        [summary] = (await store.list_summaries()).summaries

        assert loaded is not None
        assert {"expireAfter": 7 * 86_400_000} == loaded.model_extra
        assert _expires_in(own, loaded)
        assert loaded.expire_at == summary.expire_at
        if by in ("save", "create"):
            assert loaded.model_extra == state.model_extra
            assert loaded.expire_at == state.expire_at

    @pytest.mark.asyncio
    @pytest.mark.parametrize("version", ["of the save", "of an update", "of a load", "none"])
    async def test_the_time_of_its_own_is_kept_until_a_write_says_otherwise(
        self, store: VersionedFlowStateStore, version: str
    ) -> None:
        """The write that ends the flow goes by it, whatever it knows of the state; and so on until it is changed."""
        state, own = started(), timedelta(days=7)
        await store.save("id", state, expire_after=own)
        given: Any = state.version
        if version == "of an update":
            given = await store.update("id", cache={"a": CacheEntry()}, if_version=given)
        if version == "of a load":
            given = (await store.load_many(["id"]))["id"].version
        if version == "none":
            given = UNSET
        waiting = await store.load("id")
        await store.update("id", operation=_finished().operation, if_version=given)
        ended = await store.load("id")
        async with store.edit("id") as edited:
            edited.operation.metadata = 1
        await store.save("id", edited)
        saved = await store.load("id")
        await store.update("id", expire_after=timedelta(days=2))
        changed = await store.load("id")
        await store.update("id", extra={"expireAfter": UNSET})
        back = await store.load("id")

        assert waiting is not None
        assert None is waiting.expire_at
        assert _expires_in(own, ended)
        assert _expires_in(own, saved)
        assert _expires_in(timedelta(days=2), changed)
        assert _expires_in(IN_AN_HOUR, back)

    @pytest.mark.asyncio
    @pytest.mark.parametrize("by", ["save", "create", "save_many"])
    async def test_a_declared_time_of_its_own_is_one(self, store: VersionedFlowStateStore, by: str) -> None:
        """A field of a subclass holds as an unknown key does, also on the version that the save has noted."""
        state, own = _of(WithExpireAfter, started()), timedelta(days=7)
        state.expire_after = 7 * 86_400_000
        await _write(store, by, state)
        await store.update("id", operation=_finished().operation, if_version=state.version or "")
        ended = await store.load("id")
        await store.save("id", state, expire_after=timedelta(days=2))
        assert 2 * 86_400_000 == state.expire_after
        await store.update("id", operation=_finished().operation, if_version=state.version or "")
        with pytest.raises(FlowStateExistsError):
            await store.create("id", state, expire_after=timedelta(days=3))

        assert _expires_in(own, ended)
        assert _expires_in(timedelta(days=2), await store.load("id"))
        assert 2 * 86_400_000 == state.expire_after

    @pytest.mark.asyncio
    @pytest.mark.parametrize("by", ["save", "create", "save_many"])
    async def test_a_declared_key_of_the_name_of_the_expiry_stays(
        self, store: VersionedFlowStateStore, by: str
    ) -> None:
        """What a subclass declares as expireAt is the state's own, and no write takes it for the expiry."""
        state = _of(Owning, started())
        await _write(store, by, state)
        await store.update("id", operation=_finished().operation, if_version=state.version or "")
        loaded = await store.load("id")

        assert loaded is not None
        assert {"expireAt": "soon"} == loaded.model_extra

    @pytest.mark.asyncio
    @pytest.mark.parametrize("kind", [OfHours, Closed, Frozen])
    async def test_a_state_that_cannot_keep_the_time(
        self, store: VersionedFlowStateStore, kind: type[FlowState]
    ) -> None:
        """It is refused, with the field, and neither stored nor changed."""
        state = _of(kind, started())
        before = exactly(state.model_dump(by_alias=True))
        for call in (store.save("id", state, expire_after=IN_AN_HOUR), store.create("id", state, expire_after=None)):
            with pytest.raises(FlowStateEncodeError, match=kind.__name__) as refusal:
                await call
            assert ("id", "expire_after" if kind is OfHours else "expireAfter") == (
                refusal.value.flow_id,
                refusal.value.path,
            )

        assert await store.load("id") is None
        assert before == exactly(state.model_dump(by_alias=True))

    @pytest.mark.asyncio
    @pytest.mark.parametrize("by", ["save", "update", "edit"])
    async def test_a_flow_may_never_expire(self, store: VersionedFlowStateStore, by: str) -> None:
        """None takes the expiry away, and every later write leaves it so."""
        state = _finished()
        await store.save("id", state)
        if by == "save":
            await store.save("id", state, expire_after=None)
        elif by == "update":
            await store.update("id", expire_after=None)
        else:
            async with store.edit("id", expire_after=None):
                pass
        await store.update("id", operation=_finished(error="no").operation)
        loaded = await store.load("id")

        assert loaded is not None
        assert (None, {"expireAfter": -1}) == (loaded.expire_at, loaded.model_extra)

    @pytest.mark.asyncio
    @pytest.mark.parametrize("value", ["7", True, None, [5], float("nan"), float("inf")], ids=ascii)
    async def test_what_is_no_time_of_its_own_counts_for_nothing(
        self, store: VersionedFlowStateStore, value: Any
    ) -> None:
        """The store's own setting holds."""
        state = _finished()
        state.expireAfter = value
        await store.save("id", state)
        assert _expires_in(IN_AN_HOUR, state)
        await store.update("id", operation=_finished(error="no").operation, if_version=state.version or "")

        assert _expires_in(IN_AN_HOUR, await store.load("id"))

    @pytest.mark.asyncio
    @pytest.mark.parametrize("own", [timedelta(), timedelta(seconds=-1), 5, "7d"], ids=str)
    async def test_refuses_what_is_no_duration(self, store: VersionedFlowStateStore, own: Any) -> None:
        """And writes nothing, also to the state object."""
        state = started()
        await store.save("id", state)
        version = state.version
        for call in (
            store.save("id", state, expire_after=own),
            store.create("new", state, expire_after=own),
            store.update("id", expire_after=own),
        ):
            with pytest.raises(ValueError, match="expire_after"):
                await call
        with pytest.raises(ValueError, match="expire_after"):
            async with store.edit("id", expire_after=own):
                raise AssertionError("the block was entered")
        loaded = await store.load("id")

        assert loaded is not None
        assert (version, {}, {}) == (loaded.version, loaded.model_extra, state.model_extra)

    @pytest.mark.asyncio
    async def test_a_refused_write_leaves_the_state_object(self, store: VersionedFlowStateStore) -> None:
        """What was not stored is not said of it."""
        state = started()
        await store.save("id", state)
        with pytest.raises(FlowStateExistsError):
            await store.create("id", state, expire_after=timedelta(days=1))
        with pytest.raises(FlowStateConflictError):
            await store.save("id", state, if_version=None, expire_after=timedelta(days=1))

        assert {} == state.model_extra


_State = TypeVar("_State", bound=FlowState)


def _of(kind: type[_State], state: FlowState) -> _State:
    return kind.model_validate(state.model_dump(by_alias=True))


async def _write(store: VersionedFlowStateStore, by: str, state: FlowState) -> None:
    if by == "save":
        await store.save("id", state)
    elif by == "create":
        await store.create("id", state)
    else:
        await store.save_many({"id": state})


def _expires_in(duration: timedelta, state: FlowState | None) -> bool:
    """Return whether the state expires so long after now, or a minute earlier."""
    assert state is not None
    if state.expire_at is None:
        return False
    left = state.expire_at - datetime.now(timezone.utc)
    return duration - timedelta(minutes=1) < left <= duration
