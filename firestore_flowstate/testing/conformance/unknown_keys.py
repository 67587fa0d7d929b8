"""Unknown keys in a partial write: `update(extra=)` sets and removes them one by one."""

from __future__ import annotations

from typing import Any, Final

import pytest

from ...errors import FlowStateConflictError, FlowStateEncodeError, FlowStateNotFoundError
from ...models import CacheEntry, FlowState
from ...query import FlowStateQuery
from ...store import VersionedFlowStateStore
from ...unset import UNSET
from ..comparison import exactly
from .states import started, with_everywhere
from .suite import Suite

SCALARS: Final[dict[str, Any]] = {
    "text": "text",
    "empty text": "",
    "longest text": "é" * 749,
    "true": True,
    "false": False,
    "zero": 0,
    "largest": 2**63 - 1,
    "smallest": -(2**63),
    "float": 1.0,
    "minus zero": -0.0,
    "NaN": float("nan"),
    "infinity": float("inf"),
}
"""Values that a partial write can set by themselves."""

NAMES: Final = ("wakeAt", "a.b", "`", "\\", "a\rb", "é", " ", "10", "flow_id", "k" * 700)
"""Names of unknown keys that a partial write can set by themselves."""

UNSTORABLE_EXTRA: Final[dict[str, Any]] = {
    "null": {"key": None},
    "list": {"key": []},
    "object": {"key": {}},
    "bytes": {"key": b"bytes"},
    "text too long": {"key": "é" * 750},
    "lone surrogate": {"key": "\ud800"},
    "integer beyond 64 bits": {"key": 2**63},
    "empty name": {"": 1},
    "reserved name": {"__key__": 1},
    "name too long": {"k" * 1500: 1},
    "name with a lone surrogate": {"\ud800": 1},
    "name of the schema": {"startTime": 1},
    "name of the document": {"status": "done"},
    "field of ours": {"_flowstate": UNSET},
    "name that is not a string": {5: 1},
    "no mapping": [("key", 1)],
}
"""Parameters `extra` of `update` that no store can take."""


class UnknownKeyTests(Suite):
    """The parameter `extra` of `update`, and edits that come to the same."""

    @pytest.mark.asyncio
    @pytest.mark.parametrize("value", SCALARS.values(), ids=SCALARS)
    async def test_extra_sets_a_scalar_exactly(self, store: VersionedFlowStateStore, value: Any) -> None:
        """The scalar is loaded with its type, and all else is as it was, with a version and without."""
        state = with_everywhere({"list": [None, 1.0]})
        state.other = value
        await store.save("id", state)
        await store.update("id", extra={"key": value}, if_version=state.version or "")
        await store.update("id", extra={"again": value})
        state.key, state.again = value, value

        assert exactly(state) == exactly(await store.load("id"))

    @pytest.mark.asyncio
    async def test_extra_takes_any_name_that_a_query_can_ask_for(self, store: VersionedFlowStateStore) -> None:
        """A character that separates or quotes in a field path is part of the name."""
        state = started()
        await store.save("id", state)
        version = await store.update("id", extra=dict.fromkeys(NAMES, 1))
        await store.update("id", extra={**dict.fromkeys(NAMES[1:], UNSET), NAMES[0]: 2}, if_version=version)
        loaded = await store.load("id")

        assert loaded is not None
        assert {NAMES[0]: 2} == loaded.model_extra

    @pytest.mark.asyncio
    async def test_extra_changes_only_what_it_names(self, store: VersionedFlowStateStore) -> None:
        """Other keys stay. UNSET removes a key, and one that is not there is passed over."""
        wire = {**started().model_dump(by_alias=True), "a": 1, "b": "b", "c": {"x": [None]}, "e": 1.0, "f": "stays"}
        state = FlowState.model_validate(wire)
        await store.save("id", state)
        await store.update("id", extra={"a": 2, "b": UNSET, "d": True, "not there": UNSET})
        del wire["b"]

        assert exactly(FlowState.model_validate({**wire, "a": 2, "d": True})) == exactly(await store.load("id"))

    @pytest.mark.asyncio
    async def test_extra_goes_with_all_else_in_one_write(self, store: VersionedFlowStateStore) -> None:
        """Steps and unknown keys are stored together, under the version that is returned."""
        state = started()
        await store.save("id", state)
        version = await store.update(
            "id", cache={"a": CacheEntry(value=1)}, extra={"wakeAt": 5}, if_version=state.version or ""
        )
        loaded = await store.load("id")

        assert loaded is not None
        assert (version, ["a"], {"wakeAt": 5}) == (loaded.version, list(loaded.cache), loaded.model_extra)

    @pytest.mark.asyncio
    async def test_extra_is_seen_by_lists_at_once(self, store: VersionedFlowStateStore) -> None:
        """A filter on the key sees it, whether the key was set, set anew or removed."""
        await store.save("id", started())
        seen = []
        for value in (1, 2, "2", UNSET):
            await store.update("id", extra={"key": value})
            found = [
                [s.extra for s in (await store.list_summaries(FlowStateQuery(where={"key": w}))).summaries]
                for w in (1, 2, "2")
            ]
            seen.append(found)

        one, two, text = {"key": 1}, {"key": 2}, {"key": "2"}
        assert [[[one], [], []], [[], [two], []], [[], [], [text]], [[], [], []]] == seen

    @pytest.mark.asyncio
    async def test_extra_comes_before_what_was_saved_under_the_name(self, store: VersionedFlowStateStore) -> None:
        """A key that was saved as an object is a scalar when it was set as one, and lists find it."""
        state = started()
        state.key = {"an": "object"}
        await store.save("id", state)
        version = await store.update("id", extra={"key": "scalar"}, if_version=state.version or "")
        version = await store.update("id", cache={"a": CacheEntry()}, if_version=version)
        found = await store.list(FlowStateQuery(where={"key": "scalar"}))
        loaded = await store.load("id")

        assert loaded is not None
        assert {"key": "scalar"} == loaded.model_extra
        assert [version] == [state.version for state in found.flow_states]

    @pytest.mark.asyncio
    @pytest.mark.parametrize("by", ["a version that was loaded", "a version that was written", "no version"])
    async def test_extra_cannot_take_out_what_was_not_saved_as_a_scalar(
        self, store: VersionedFlowStateStore, by: str
    ) -> None:
        """UNSET is refused with the key, also if a scalar was set since. An edit can remove the key."""
        state = started()
        state.key, state.other = [1], "scalar"
        await store.save("id", state)
        version = await store.update("id", extra={"other": UNSET})
        given = {"a version that was loaded": (await store.load("id")).version, "no version": UNSET}.get(by, version)  # type: ignore[union-attr]  # it is there
        with pytest.raises(FlowStateEncodeError) as refusal:
            await store.update("id", extra={"key": UNSET, "new": 1}, if_version=given or UNSET)
        loaded = await store.load("id")

        assert ("id", 'extra["key"]') == (refusal.value.flow_id, refusal.value.path)
        assert loaded is not None
        assert (version, {"key": [1]}) == (loaded.version, loaded.model_extra)

        await store.update("id", extra={"key": 1})
        with pytest.raises(FlowStateEncodeError):
            await store.update("id", extra={"key": UNSET})
        async with store.edit("id") as edited:
            del edited.key  # type: ignore[attr-defined]  # an unknown key
        await store.update("id", extra={"key": UNSET})
        loaded = await store.load("id")
        assert loaded is not None
        assert {} == loaded.model_extra

    @pytest.mark.asyncio
    @pytest.mark.parametrize("extra", UNSTORABLE_EXTRA.values(), ids=UNSTORABLE_EXTRA)
    async def test_extra_refuses_what_cannot_be_set_by_itself(self, store: VersionedFlowStateStore, extra: Any) -> None:
        """The key is named, and nothing is written."""
        state = started()
        await store.save("id", state)
        with pytest.raises(FlowStateEncodeError) as refusal:
            await store.update("id", cache={"a": CacheEntry()}, extra=extra)
        loaded = await store.load("id")

        assert refusal.value.flow_id == "id"
        assert (refusal.value.path or "").startswith("extra")
        assert loaded is not None
        assert state.version == loaded.version

    @pytest.mark.asyncio
    async def test_extra_is_refused_like_any_partial_write(self, store: VersionedFlowStateStore) -> None:
        """A write is refused if there is no state under the id, and so is one on top of an old version."""
        state = started()
        await store.save("id", state)
        await store.update("id", extra={"key": 1})
        with pytest.raises(FlowStateConflictError):
            await store.update("id", extra={"key": 2}, if_version=state.version or "")
        with pytest.raises(FlowStateNotFoundError):
            await store.update("missing", extra={"key": 2})
        loaded = await store.load("id")

        assert loaded is not None
        assert {"key": 1} == loaded.model_extra

    @pytest.mark.asyncio
    @pytest.mark.parametrize("by", ["edit", "modify"])
    async def test_unknown_keys_of_an_edit(self, store: VersionedFlowStateStore, by: str) -> None:
        """Lists find scalars that an edit has set, changed or removed. So do loads any other change of unknown keys."""
        state = started()
        state.a, state.b, state.c, state.d, state.e = 1, "b", True, {"x": 1}, 1
        await store.save("id", state)

        def change(state: Any) -> None:
            state.a, state.new = 1.0, 0
            del state.b
            if state.c is True:
                state.d, state.e = 1, [1]

        if by == "edit":
            async with store.edit("id") as edited:
                change(edited)
        else:
            edited = await store.modify("id", change)
        change(state)
        loaded = await store.load("id")

        assert loaded is not None
        assert exactly(state) == exactly(loaded)
        assert edited.version == loaded.version
