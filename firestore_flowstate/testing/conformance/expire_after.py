"""A flow's own duration: `expire_after`, which a write gives to one flow state over the store's own setting."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any, TypeVar

import pytest
from pydantic import ConfigDict

from ...errors import FlowStateConflictError, FlowStateEncodeError, FlowStateExistsError
from ...models import CacheEntry, FlowState
from ...store import VersionedFlowStateStore
from ...unset import UNSET
from ..comparison import exactly
from .states import expires_in, finished, started
from .suite import IN_AN_HOUR, ExpiringSuite

_State = TypeVar("_State", bound=FlowState)


class WithExpireAfter(FlowState):
    """A flow state of an application that declares the flow's own duration."""

    expire_after: int | None = None


class Owning(FlowState):
    """A flow state with a field that has the name of the TTL field of this package."""

    expireAt: str = "soon"  # noqa: N815  # a name on the wire


class OfHours(FlowState):
    """A flow state with a field of another type under the name of the flow's own duration."""

    expire_after: timedelta = IN_AN_HOUR


class Closed(FlowState):
    """A flow state without unknown keys."""

    model_config = ConfigDict(extra="forbid")


class Frozen(FlowState):
    """A flow state that is frozen."""

    model_config = ConfigDict(frozen=True)


class ExpireAfterTests(ExpiringSuite):
    """A store in which a flow may expire after a time of its own, or never."""

    @pytest.mark.asyncio
    async def test_an_expiry_millennia_ahead_is_exact(self, store: VersionedFlowStateStore) -> None:
        """A state tells to the microsecond what its summary tells, after each kind of write as after a load."""
        for number, days in enumerate([365 * 1000, 365 * 4000, 365 * 6000, 365 * 7000]):
            id, own = f"flow-{number}", timedelta(days=days, microseconds=123_457)
            saved = finished()
            await store.save(id, saved, expire_after=own)
            assert [saved.expire_at] == [summary.expire_at for summary in (await store.list_summaries()).summaries]
            await store.update(id, cache={"step": CacheEntry(value=1)}, if_version=saved.version or "")
            async with store.edit(id, expire_after=own * 1.01) as edited:
                edited.operation.done = True
            loaded = await store.load(id)
            [summary] = (await store.list_summaries()).summaries
            await store.delete(id)

            assert loaded is not None
            assert loaded.expire_at is not None
            assert [loaded.expire_at] * 2 == [summary.expire_at, edited.expire_at]

    @pytest.mark.asyncio
    @pytest.mark.parametrize("by", ["save", "create", "update", "edit", "update and end", "modify the key"])
    async def test_a_flow_may_expire_after_a_time_of_its_own(self, store: VersionedFlowStateStore, by: str) -> None:
        """Any write may set that time, in place of the store's setting. It is kept with the state, in milliseconds."""
        state, own = finished(), timedelta(days=7)
        if by == "save":
            await store.save("id", state, expire_after=own)
        elif by == "create":
            await store.create("id", state, expire_after=own)
        else:
            await store.save("id", started() if by == "update and end" else state)
        if by == "update":
            await store.update("id", expire_after=own)
        if by == "update and end":
            await store.update("id", operation=finished().operation, expire_after=own)
        if by == "edit":
            async with store.edit("id", expire_after=own):
                pass
        if by == "modify the key":
            await store.modify("id", lambda state: setattr(state, "expireAfter", 7 * 86_400_000))
        loaded = await store.load("id")
        [summary] = (await store.list_summaries()).summaries

        assert loaded is not None
        assert {"expireAfter": 7 * 86_400_000} == loaded.model_extra
        assert expires_in(own, loaded)
        assert loaded.expire_at == summary.expire_at
        if by in ("save", "create"):
            assert loaded.model_extra == state.model_extra
            assert loaded.expire_at == state.expire_at

    @pytest.mark.asyncio
    @pytest.mark.parametrize("version", ["of the save", "of an update", "of a load", "none"])
    async def test_the_time_of_its_own_is_kept_until_a_write_says_otherwise(
        self, store: VersionedFlowStateStore, version: str
    ) -> None:
        """The write that ends the flow uses that time, whatever it knows of the state. So do later writes."""
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
        await store.update("id", operation=finished().operation, if_version=given)
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
        assert expires_in(own, ended)
        assert expires_in(own, saved)
        assert expires_in(timedelta(days=2), changed)
        assert expires_in(IN_AN_HOUR, back)

    @pytest.mark.asyncio
    @pytest.mark.parametrize("by", ["save", "save_many"])
    async def test_a_save_without_the_time_of_its_own_drops_it(self, store: VersionedFlowStateStore, by: str) -> None:
        """A save replaces the whole state, so that the store's own setting counts again."""
        await store.save("id", finished(), expire_after=timedelta(days=7))
        await _write(store, by, finished())
        loaded = await store.load("id")

        assert loaded is not None
        assert {} == loaded.model_extra
        assert expires_in(IN_AN_HOUR, loaded)

    @pytest.mark.asyncio
    @pytest.mark.parametrize("by", ["save", "create", "save_many"])
    async def test_a_declared_time_of_its_own_is_one(self, store: VersionedFlowStateStore, by: str) -> None:
        """A field of a subclass counts as an unknown key does, also for a write on top of the version of the save."""
        state, own = _of(WithExpireAfter, started()), timedelta(days=7)
        state.expire_after = 7 * 86_400_000
        await _write(store, by, state)
        await store.update("id", operation=finished().operation, if_version=state.version or "")
        ended = await store.load("id")
        await store.save("id", state, expire_after=timedelta(days=2))
        assert 2 * 86_400_000 == state.expire_after
        await store.update("id", operation=finished().operation, if_version=state.version or "")
        with pytest.raises(FlowStateExistsError):
            await store.create("id", state, expire_after=timedelta(days=3))

        assert expires_in(own, ended)
        assert expires_in(timedelta(days=2), await store.load("id"))
        assert 2 * 86_400_000 == state.expire_after

    @pytest.mark.asyncio
    @pytest.mark.parametrize("by", ["save", "create", "save_many"])
    async def test_a_declared_key_of_the_name_of_the_expiry_stays(
        self, store: VersionedFlowStateStore, by: str
    ) -> None:
        """A field `expireAt` of a subclass belongs to the state, and no write takes it for the expiry."""
        state = _of(Owning, started())
        await _write(store, by, state)
        await store.update("id", operation=finished().operation, if_version=state.version or "")
        loaded = await store.load("id")

        assert loaded is not None
        assert {"expireAt": "soon"} == loaded.model_extra

    @pytest.mark.asyncio
    @pytest.mark.parametrize("kind", [OfHours, Closed, Frozen])
    async def test_a_state_that_cannot_keep_the_time(
        self, store: VersionedFlowStateStore, kind: type[FlowState]
    ) -> None:
        """The write is refused with the field, and the state is neither stored nor changed."""
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
        """None removes the expiry, and every later write leaves it removed."""
        state = finished()
        await store.save("id", state)
        if by == "save":
            await store.save("id", state, expire_after=None)
        elif by == "update":
            await store.update("id", expire_after=None)
        else:
            async with store.edit("id", expire_after=None):
                pass
        await store.update("id", operation=finished(error="no").operation)
        loaded = await store.load("id")

        assert loaded is not None
        assert (None, {"expireAfter": -1}) == (loaded.expire_at, loaded.model_extra)

    @pytest.mark.asyncio
    @pytest.mark.parametrize("value", ["7", True, None, [5], float("nan"), float("inf")], ids=ascii)
    async def test_what_is_not_a_time_of_its_own_counts_for_nothing(
        self, store: VersionedFlowStateStore, value: Any
    ) -> None:
        """If the key has another value, the store's own setting counts."""
        state = finished()
        state.expireAfter = value
        await store.save("id", state)
        assert expires_in(IN_AN_HOUR, state)
        await store.update("id", operation=finished(error="no").operation, if_version=state.version or "")

        assert expires_in(IN_AN_HOUR, await store.load("id"))

    @pytest.mark.asyncio
    @pytest.mark.parametrize(
        ("own", "error"),
        [(timedelta(), ValueError), (timedelta(seconds=-1), ValueError), (5, TypeError), ("P1D", TypeError)],
        ids=str,
    )
    async def test_refuses_what_is_not_a_duration(
        self, store: VersionedFlowStateStore, own: Any, error: type[Exception]
    ) -> None:
        """Nothing is written, also not to the state object."""
        state = started()
        await store.save("id", state)
        version = state.version
        for call in (
            store.save("id", state, expire_after=own),
            store.create("new", state, expire_after=own),
            store.update("id", expire_after=own),
        ):
            with pytest.raises(error, match="expire_after"):
                await call
        with pytest.raises(error, match="expire_after"):
            async with store.edit("id", expire_after=own):
                raise AssertionError("the block was entered")
        loaded = await store.load("id")

        assert loaded is not None
        assert (version, {}, {}) == (loaded.version, loaded.model_extra, state.model_extra)

    @pytest.mark.asyncio
    async def test_a_refused_write_leaves_the_state_object(self, store: VersionedFlowStateStore) -> None:
        """It does not get a version or an expiry that was not stored."""
        state = started()
        await store.save("id", state)
        with pytest.raises(FlowStateExistsError):
            await store.create("id", state, expire_after=timedelta(days=1))
        with pytest.raises(FlowStateConflictError):
            await store.save("id", state, if_version=None, expire_after=timedelta(days=1))

        assert {} == state.model_extra

    @pytest.mark.asyncio
    @pytest.mark.parametrize("days", [(1, 2), (2, 1), (1, 1)], ids=str)
    @pytest.mark.parametrize("declared", [False, True], ids=["unknown key", "field"])
    @pytest.mark.parametrize("refused_first", [True, False], ids=["refused, stored", "stored, refused"])
    async def test_a_refused_write_leaves_what_another_call_has_set_on_the_state_object(
        self, store: VersionedFlowStateStore, days: tuple[int, int], declared: bool, refused_first: bool
    ) -> None:
        """Of two calls at once with one state object, the one that is stored gives it its time."""
        state = _of(WithExpireAfter, finished()) if declared else finished()
        await store.save("there", started())
        ids = ("there", "new") if refused_first else ("new", "there")
        calls = [store.create(id, state, expire_after=timedelta(days=own)) for id, own in zip(ids, days, strict=True)]
        refused = [result for result in await asyncio.gather(*calls, return_exceptions=True) if result is not None]
        loaded, own = await store.load("new"), timedelta(days=days[ids.index("new")])

        assert [FlowStateExistsError] == [type(error) for error in refused]
        assert expires_in(own, loaded)
        assert own / timedelta(milliseconds=1) == state.model_dump(by_alias=True)["expireAfter"]
        await store.save("new", state, if_version=state.version)
        assert expires_in(own, await store.load("new"))


def _of(kind: type[_State], state: FlowState) -> _State:
    return kind.model_validate(state.model_dump(by_alias=True))


async def _write(store: VersionedFlowStateStore, by: str, state: FlowState) -> None:
    if by == "save":
        await store.save("id", state)
    elif by == "create":
        await store.create("id", state)
    else:
        await store.save_many({"id": state})
