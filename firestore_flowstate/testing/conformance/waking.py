"""What is due: the states whose `wakeAt` has come, in order."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone
from typing import Any, Final

import pytest

from ...errors import InvalidQueryError
from ...models import CacheEntry, FlowState
from ...store import VersionedFlowStateStore
from ...unset import UNSET
from .states import started
from .suite import Suite

NEVER: Final[dict[str, Any]] = {
    "text": "5",
    "true": True,
    "null": None,
    "NaN": float("nan"),
    "list": [5],
    "object": {"at": 5},
}
"""Values of `wakeAt` that are not moments."""


def waking(wake_at: Any, flow_id: str = "id") -> FlowState:
    """Return a state with this moment as its ``wakeAt``."""
    state = started(flow_id=flow_id)
    state.wakeAt = wake_at
    return state


async def save_waking(store: VersionedFlowStateStore, moments: dict[str, Any]) -> None:
    """Save a state for each moment, by its id."""
    await store.save_many({id: waking(moment, id) for id, moment in moments.items()})


async def due_ids(store: VersionedFlowStateStore, before: Any = None, **given: Any) -> list[str]:
    """Return the ids of the states that are due."""
    return [summary.id for summary in await store.due(before, **given)]


class DueTests(Suite):
    """The method `due`."""

    @pytest.mark.asyncio
    async def test_due_is_what_has_come_earliest_first(self, store: VersionedFlowStateStore) -> None:
        """It returns states up to the moment and at it, by value and not by type. Ties go by the bytes of the id."""
        moments = {"z": 1, "B": 2, "a": 2.0, "é": 2, "🙂": 2, "\uff5e": 2, "past": -1.5, "later": 2.5, "zero": 0}
        await save_waking(store, moments)

        assert ["past", "zero", "z", "B", "a", "é", "\uff5e", "🙂"] == await due_ids(store, 2)
        assert ["past", "zero", "z"] == await due_ids(store, 1)
        assert [] == await due_ids(store, -2)

    @pytest.mark.asyncio
    async def test_due_without_a_moment_is_due_now(self, store: VersionedFlowStateStore) -> None:
        """None stands for now. A datetime with a time zone is a moment too."""
        now = datetime.now(timezone.utc)
        hour = 3_600_000
        await save_waking(store, {"past": time.time() * 1000 - hour, "future": time.time_ns() // 1_000_000 + hour})

        assert ["past"] == await due_ids(store)
        assert ["past", "future"] == await due_ids(store, now + timedelta(hours=2))
        assert [] == await due_ids(store, now - timedelta(hours=2))

    @pytest.mark.asyncio
    async def test_due_shows_the_moment(self, store: VersionedFlowStateStore) -> None:
        """Each summary has the moment in its exact type, and all the rest of a summary."""
        await save_waking(store, {"float": 1.0, "int": 2})
        found = await store.due(2)

        assert [("float", float, 1), ("int", int, 2)] == [
            (s.id, type(s.extra["wakeAt"]), s.extra["wakeAt"]) for s in found
        ]
        assert ["float", "int"] == [summary.flow_id for summary in found]

    @pytest.mark.asyncio
    @pytest.mark.parametrize("value", NEVER.values(), ids=NEVER)
    async def test_without_a_number_nothing_is_due(self, store: VersionedFlowStateStore, value: Any) -> None:
        """A state whose ``wakeAt`` is absent, or not a number, is never due."""
        await store.save_many({"absent": started(), "other": waking(value), "due": waking(1)})

        assert ["due"] == await due_ids(store, 2**62)

    @pytest.mark.asyncio
    async def test_due_follows_every_write(self, store: VersionedFlowStateStore) -> None:
        """A moment that a partial write, a save or a deletion has set, moved or removed counts at once."""
        await store.create("id", waking(5))
        seen = [await due_ids(store, 5)]
        await store.update("id", extra={"wakeAt": 6})
        seen.append(await due_ids(store, 5))
        await store.update("id", cache={"a": CacheEntry()}, extra={"wakeAt": 4})
        seen.append(await due_ids(store, 5))
        await store.update("id", extra={"wakeAt": UNSET})
        seen.append(await due_ids(store, 5))
        async with store.edit("id") as state:
            state.wakeAt = 1
        seen.append(await due_ids(store, 5))
        await store.save("id", started())
        seen.append(await due_ids(store, 5))
        await store.save("id", waking(1))
        await store.delete("id")
        seen.append(await due_ids(store, 5))

        assert [["id"], [], ["id"], [], ["id"], [], []] == seen

    @pytest.mark.asyncio
    async def test_due_goes_on_behind_a_summary(self, store: VersionedFlowStateStore) -> None:
        """Page by page each state comes once, ties too, also if the last one of a page is not due any more."""
        await save_waking(store, {f"id-{place:02}": place // 4 for place in range(20)})
        found: list[str] = []
        page = await store.due(10, limit=3)
        while page:
            found += [summary.id for summary in page]
            await store.update(page[-1].id, extra={"wakeAt": UNSET})
            page = await store.due(10, limit=3, after=page[-1])

        assert [f"id-{place:02}" for place in range(20)] == found

    @pytest.mark.asyncio
    async def test_due_returns_no_more_than_it_may(self, store: VersionedFlowStateStore) -> None:
        """It returns the earliest, at most `limit`, which is 100 by default."""
        await save_waking(store, {f"id-{place:03}": place for place in range(105)})

        assert ["id-000"] == await due_ids(store, 200, limit=1)
        assert [f"id-{place:03}" for place in range(100)] == await due_ids(store, 200)
        assert 105 == len(await due_ids(store, 200, limit=300))

    @pytest.mark.asyncio
    @pytest.mark.parametrize(
        "given",
        [
            {"limit": 0},
            {"limit": 301},
            {"limit": True},
            {"limit": None},
            {"before": "now"},
            {"before": True},
            {"before": float("nan")},
            {"before": 2**63},
            {"before": datetime(2026, 1, 1)},  # noqa: DTZ001  # that is what is refused
            {"after": "id"},
        ],
        ids=str,
    )
    async def test_due_refuses_what_it_cannot_ask(self, store: VersionedFlowStateStore, given: dict[str, Any]) -> None:
        """It refuses a limit out of range, a `before` that is not a moment, and an `after` that is not a summary."""
        with pytest.raises(InvalidQueryError):
            await store.due(**given)

    @pytest.mark.asyncio
    async def test_due_refuses_a_summary_without_the_moment(self, store: VersionedFlowStateStore) -> None:
        """Such a summary has no place in the order, nor has one that no store could have returned."""
        await store.save("id", started())
        [summary] = (await store.list_summaries()).summaries
        wrong: list[dict[str, Any]] = [{}, {"extra": None}]
        wrong += [{"extra": {"wakeAt": moment}} for moment in (2**63, 10**5_000, float("nan"), True, "5", None)]
        wrong += [{"extra": {"wakeAt": 5}, "id": id} for id in ("", "a/b", "__x__", "\ud800", "x" * 1501, 5, None)]
        for update in wrong:
            with pytest.raises(InvalidQueryError, match="after is a summary"):
                await store.due(after=summary.model_copy(update=update))
