"""Versions: every write makes one, and a write that names one is made on top of that version or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timezone
from typing import Any, Final

import pytest

from ...errors import FlowStateConflictError, FlowStateExistsError, FlowStateNotFoundError
from ...models import CacheEntry
from ...store import VersionedFlowStateStore
from ..comparison import exactly
from .states import started, with_everywhere, with_steps
from .suite import Suite

WRITES: Final[dict[str, Callable[[VersionedFlowStateStore, Any], Awaitable[object]]]] = {
    "save": lambda store, version: store.save("id", with_steps("mine"), if_version=version),
    "update": lambda store, version: store.update("id", cache={"mine": CacheEntry(value=1)}, if_version=version),
    "empty update": lambda store, version: store.update("id", if_version=version),
    "delete": lambda store, version: store.delete("id", if_version=version),
}
"""Each way to write on top of a version."""


class _Lying(str):
    """A text of an application's own type, whose methods say other things than the text."""

    __slots__ = ()

    def __len__(self) -> int:
        return 1

    def __str__(self) -> str:
        return "lie"

    def __eq__(self, other: object) -> bool:
        return False

    def __ne__(self, other: object) -> bool:
        return True

    def __add__(self, other: str) -> str:
        return "lie"

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        return b"lie"

    __hash__ = str.__hash__


class VersionTests(Suite):
    """Versions and compare-and-swap: save, create, delete. Update has a suite of its own."""

    @pytest.mark.asyncio
    async def test_a_new_state_has_no_version(self, store: VersionedFlowStateStore) -> None:
        """A state has none until it is stored."""
        state = started()

        assert (state.version, state.updated_at, state.expire_at) == (None, None, None)

    @pytest.mark.asyncio
    async def test_save_and_load_tell_the_stored_version(self, store: VersionedFlowStateStore) -> None:
        """After a save the state at hand has the version that load finds."""
        state = started()
        await store.save("id", state)
        loaded = await store.load("id")
        [listed] = (await store.list()).flow_states

        assert loaded is not None
        assert isinstance(state.version, str)
        assert [state.version] * 2 == [loaded.version, listed.version]

    @pytest.mark.asyncio
    @pytest.mark.parametrize("base", ["a version of this process", "the text of a version"])
    async def test_stores_a_state_as_it_is_at_the_call(self, store: VersionedFlowStateStore, base: str) -> None:
        """Changing a state while the save on top of a version is under way changes nothing in the store."""
        stored = with_steps("step")
        await store.save("id", stored)
        assert stored.version is not None
        known = stored.version if base == "a version of this process" else "".join([*stored.version])
        state = with_everywhere({"list": [1]})
        before = exactly(state)
        saving = asyncio.ensure_future(store.save("id", state, if_version=known))
        await asyncio.sleep(0)  # it runs up to the first point at which it waits
        state.input["list"].append(2)
        state.operation.done = True
        state.cache["later"] = CacheEntry(value=1)
        await saving

        assert before == exactly(await store.load("id"))

    @pytest.mark.asyncio
    async def test_states_tell_when_they_were_written(self, store: VersionedFlowStateStore) -> None:
        """updated_at is in UTC, set by save and load, and never goes back."""
        state = started()
        await store.save("id", state)
        first = state.updated_at
        await store.save("id", state)
        loaded = await store.load("id")

        assert first is not None
        assert loaded is not None
        assert state.updated_at is not None
        assert timezone.utc.utcoffset(None) == first.utcoffset()
        assert first <= state.updated_at
        assert state.updated_at == loaded.updated_at

    @pytest.mark.asyncio
    async def test_every_write_makes_a_version(self, store: VersionedFlowStateStore) -> None:
        """A write that changes nothing makes one too: another writer must notice that somebody wrote."""
        state = started()
        seen = set()
        for _ in range(3):
            await store.save("id", state)
            seen.add(state.version)
        for _ in range(3):
            seen.add(await store.update("id"))
        await store.delete("id")
        await store.save("id", state)
        seen.add(state.version)

        assert len(seen) == 7

    @pytest.mark.asyncio
    async def test_loading_makes_no_version(self, store: VersionedFlowStateStore) -> None:
        """Reading leaves the version alone."""
        state = started()
        await store.save("id", state)
        await store.load("id")
        await store.list()
        await store.save("id", state, if_version=state.version)

    @pytest.mark.asyncio
    async def test_version_counts_neither_in_dumps_nor_in_equality(self, store: VersionedFlowStateStore) -> None:
        """Two states are equal if their fields are, whenever they were stored."""
        state = started()
        before = state.model_copy(deep=True)
        await store.save("id", state)

        assert before == state
        assert before.model_dump(by_alias=True) == state.model_dump(by_alias=True)

    @pytest.mark.asyncio
    @pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
    async def test_writes_to_the_stored_version(self, store: VersionedFlowStateStore, write: Any) -> None:
        """A write on top of the stored version succeeds."""
        state = started()
        await store.save("id", state)
        await write(store, state.version)

        loaded = await store.load("id")
        assert loaded is None or loaded.version != state.version

    @pytest.mark.asyncio
    @pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
    async def test_refuses_a_version_that_was_overwritten(self, store: VersionedFlowStateStore, write: Any) -> None:
        """A write on top of an older version is a conflict that tells both versions, and writes nothing."""
        state = started()
        await store.save("id", state)
        old = state.version
        await store.save("id", state)
        with pytest.raises(FlowStateConflictError) as conflict:
            await write(store, old)

        assert conflict.value.flow_id == "id"
        assert old == conflict.value.expected
        assert conflict.value.found in (state.version, None)
        loaded = await store.load("id")
        assert loaded is not None
        assert exactly(state) == exactly(loaded)
        assert state.version == loaded.version

    @pytest.mark.asyncio
    @pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
    async def test_refuses_what_is_not_a_version_of_this_state(
        self, store: VersionedFlowStateStore, write: Any
    ) -> None:
        """Another state's version, or any text, is not the stored version."""
        state, other = started(), started()
        await store.save("id", state)
        await store.save("other", other)
        for version in (other.version, "nonsense", ""):
            with pytest.raises(FlowStateConflictError):
                await write(store, version)

        loaded = await store.load("id")
        assert loaded is not None
        assert state.version == loaded.version

    @pytest.mark.asyncio
    @pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
    @pytest.mark.parametrize("is_there", [True, False], ids=["a state", "no state"])
    async def test_what_is_not_a_version_is_a_conflict(
        self, store: VersionedFlowStateStore, write: Any, is_there: bool
    ) -> None:
        """It is one whatever is stored: nothing was ever stored as such a version. Its text is in the error."""
        if is_there:
            await store.save("id", started())
        with pytest.raises(FlowStateConflictError) as conflict:
            await write(store, "nonsense")

        assert ("id", "nonsense") == (conflict.value.flow_id, conflict.value.expected)
        assert is_there == (await store.load("id") is not None)

    @pytest.mark.asyncio
    async def test_an_update_on_the_version_of_a_state_that_is_gone_says_so(
        self, store: VersionedFlowStateStore
    ) -> None:
        """There is nothing that a conflict could be with."""
        gone = started()
        await store.save("id", gone)
        await store.delete("id")
        with pytest.raises(FlowStateNotFoundError) as refusal:
            await store.update("id", cache={"a": CacheEntry(value=1)}, if_version=gone.version or "")

        assert "id" == refusal.value.flow_id
        assert await store.load("id") is None

    @pytest.mark.asyncio
    @pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
    async def test_of_a_version_the_text_counts(self, store: VersionedFlowStateStore, write: Any) -> None:
        """It may be of an application's own subclass of str: a false conflict would make callers try for ever."""
        state = started()
        await store.save("id", state)
        old = _Lying(state.version)
        await write(store, old)
        with pytest.raises(FlowStateConflictError) as conflict:
            await write(store, old)

        assert str(state.version) == conflict.value.expected

    @pytest.mark.asyncio
    async def test_a_version_does_not_outlive_deletion(self, store: VersionedFlowStateStore) -> None:
        """The version of a deleted state conflicts, also if a state was stored under the id again."""
        state = started()
        await store.save("id", state)
        old = state.version
        await store.delete("id")
        with pytest.raises(FlowStateConflictError) as conflict:
            await store.save("id", started(), if_version=old)
        assert conflict.value.found is None
        assert await store.load("id") is None
        with pytest.raises(FlowStateConflictError):
            await store.delete("id", if_version=old or "")
        await store.save("id", started())
        with pytest.raises(FlowStateConflictError):
            await store.save("id", started(), if_version=old)

    @pytest.mark.asyncio
    async def test_a_failed_save_leaves_the_version_at_hand(self, store: VersionedFlowStateStore) -> None:
        """After a conflict the state still has the version that it was loaded with."""
        state = started()
        await store.save("id", state)
        old = state.version
        await store.save("id", started())
        with pytest.raises(FlowStateConflictError):
            await store.save("id", state, if_version=state.version)

        assert old == state.version

    @pytest.mark.asyncio
    async def test_if_version_none_stores_new_states_only(self, store: VersionedFlowStateStore) -> None:
        """None is the version of a state that was never stored: the first save succeeds, the second conflicts."""
        state = started()
        await store.save("id", state, if_version=state.version)
        with pytest.raises(FlowStateConflictError) as conflict:
            await store.save("id", started(), if_version=None)

        assert conflict.value.expected is None
        assert conflict.value.found in (state.version, None)
        loaded = await store.load("id")
        assert loaded is not None
        assert state.version == loaded.version

    @pytest.mark.asyncio
    async def test_create_stores_new_states_only(self, store: VersionedFlowStateStore) -> None:
        """Creating what is there is FlowStateExistsError and changes nothing."""
        state = started()
        await store.create("id", state)
        with pytest.raises(FlowStateExistsError) as refusal:
            await store.create("id", with_steps("other"))

        assert refusal.value.flow_id == "id"
        loaded = await store.load("id")
        assert loaded is not None
        assert exactly(state) == exactly(loaded)
        assert state.version == loaded.version

    @pytest.mark.asyncio
    async def test_create_after_delete_stores_again(self, store: VersionedFlowStateStore) -> None:
        """A deleted state leaves its id free."""
        await store.create("id", started())
        await store.delete("id")
        state = with_steps("again")
        await store.create("id", state)

        assert exactly(state) == exactly(await store.load("id"))

    @pytest.mark.asyncio
    async def test_delete_removes_the_state(self, store: VersionedFlowStateStore) -> None:
        """A deleted state is neither loaded nor listed."""
        await store.save("id", started())
        await store.delete("id")

        assert await store.load("id") is None
        assert list((await store.list()).flow_states) == []

    @pytest.mark.asyncio
    async def test_deleting_what_is_not_there_does_nothing(self, store: VersionedFlowStateStore) -> None:
        """Deleting twice without a version is not an error."""
        await store.delete("id")
        await store.save("id", started())
        await store.delete("id")
        await store.delete("id")
