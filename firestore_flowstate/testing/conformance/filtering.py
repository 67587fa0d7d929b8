"""Filters: which states a query asks for, in lists, counts and iteration alike."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any, Final, get_args

import pytest

from ...errors import InvalidContinuationTokenError, InvalidQueryError
from ...models import BlockedOnStep, FlowResult, FlowState, FlowStateExecution, FlowStatus, Operation
from ...query import FlowStateQuery
from ...store import VersionedFlowStateStore
from ..comparison import exactly
from .paging import fill, flat, flow_ids, pages
from .states import started
from .suite import Suite


def _population() -> dict[str, FlowState]:
    """Return states of every status, under two names, of two owners, with starts of 0 to 19."""
    states = {}
    for place in range(20):
        state = started(place, flow_id=f"id-{place:02}")
        state.name = "even" if place % 2 == 0 else "odd"
        state.owner = f"user {place % 3}"
        if place % 5 >= 1:
            state.executions = [FlowStateExecution(trace_ids=[])]
        if place % 5 == 2:
            state.blocked_on_step = BlockedOnStep(name=f"step {place % 4}")
        if place % 5 >= 3:
            error = "failed" if place % 5 == 4 else None
            done = place % 10 != 4  # an error says that a flow has failed, whatever else
            state.operation = Operation(name="op", done=done, result=FlowResult(error=error))
        states[f"id-{place:02}"] = state
    return states


async def _next(states: AsyncIterator[FlowState]) -> FlowState | None:
    return await anext(states, None)


QUERIES: Final[tuple[tuple[FlowStateQuery, Callable[[FlowState, int], bool]], ...]] = (
    (FlowStateQuery(), lambda state, place: True),
    (FlowStateQuery(name="even"), lambda state, place: place % 2 == 0),
    (FlowStateQuery(name="nobody"), lambda state, place: False),
    (FlowStateQuery(status="scheduled"), lambda state, place: place % 5 == 0),
    (FlowStateQuery(status="running"), lambda state, place: place % 5 == 1),
    (FlowStateQuery(status="blocked"), lambda state, place: place % 5 == 2),
    (FlowStateQuery(status="done"), lambda state, place: place % 5 == 3),
    (FlowStateQuery(status="failed"), lambda state, place: place % 5 == 4),
    (FlowStateQuery(status=["running", "failed"]), lambda state, place: place % 5 in (1, 4)),
    (FlowStateQuery(status={"scheduled", "blocked"}), lambda state, place: place % 5 in (0, 2)),
    (FlowStateQuery(status=get_args(FlowStatus)), lambda state, place: True),
    (
        FlowStateQuery(status=("done", "blocked"), name="odd", where={"owner": "user 0"}, started_before=16),
        lambda state, place: place % 5 in (2, 3) and place % 2 == 1 and place % 3 == 0 and place < 16,
    ),
    (FlowStateQuery(blocked_on="step 2"), lambda state, place: place % 5 == 2 and place % 4 == 2),
    (FlowStateQuery(blocked_on="step 9"), lambda state, place: False),
    (FlowStateQuery(started_after=5), lambda state, place: place >= 5),
    (FlowStateQuery(started_before=5), lambda state, place: place < 5),
    (FlowStateQuery(started_after=4.5, started_before=12.0), lambda state, place: 4.5 <= place < 12),
    (FlowStateQuery(started_after=7, started_before=7), lambda state, place: False),
    (FlowStateQuery(where={"owner": "user 1"}), lambda state, place: place % 3 == 1),
    (FlowStateQuery(where={"owner": "user 1", "missing": "x"}), lambda state, place: False),
    (FlowStateQuery(name="odd", status="blocked"), lambda state, place: place % 2 == 1 and place % 5 == 2),
    (
        FlowStateQuery(name="odd", where={"owner": "user 0"}, started_after=3, started_before=16),
        lambda state, place: place % 2 == 1 and place % 3 == 0 and 3 <= place < 16,
    ),
    (
        FlowStateQuery(name="even", status="done", started_after=1),
        lambda state, place: place % 2 == 0 and place % 5 == 3,
    ),
    (
        FlowStateQuery(status="blocked", blocked_on="step 3", where={"owner": "user 1"}),
        lambda state, place: place % 5 == 2 and place % 4 == 3 and place % 3 == 1,
    ),
)
"""Queries, and the indexes of the states that they ask for."""


def _shown(query: Any) -> str:
    given = {name: value for name, value in vars(query).items() if value not in (None, {}, "raise")}
    return " ".join(f"{name}={value}" for name, value in given.items()) or "all"


class FilterTests(Suite):
    """Filters in `list`, `count`, `iterate` and `list_summaries`."""

    @pytest.mark.asyncio
    @pytest.mark.parametrize(("query", "wanted"), QUERIES, ids=[_shown(query) for query, _ in QUERIES])
    async def test_finds_the_states_that_match(
        self, store: VersionedFlowStateStore, query: FlowStateQuery, wanted: Callable[[FlowState, int], bool]
    ) -> None:
        """A state must match all filters. Pages, counts, iteration and summaries agree, newest first."""
        states = _population()
        await store.save_many(states)
        expected = [id for place, (id, state) in enumerate(states.items()) if wanted(state, place)][::-1]
        paged = await pages(store, replace(query, limit=3))

        assert expected == flat(paged)
        assert all(len(page) == 3 for page in paged[:-1])
        assert expected == [state.flow_id async for state in store.iterate(query)]
        assert len(expected) == await store.count(query)
        summaries = (await store.list_summaries(replace(query, limit=300))).summaries
        assert expected == [summary.id for summary in summaries]

    @pytest.mark.asyncio
    async def test_a_filter_without_limit_gives_whole_pages(self, store: VersionedFlowStateStore) -> None:
        """A page of a filtered list is filled with states that match, if there are enough."""
        await store.save_many(_population())
        page = await store.list(FlowStateQuery(name="even", limit=10))

        assert len(page.flow_states) == 10
        assert page.continuation_token is None

    @pytest.mark.asyncio
    async def test_filters_see_the_last_write(self, store: VersionedFlowStateStore) -> None:
        """After a partial write a state is found by its new fields."""
        await store.save("id", started())
        await store.update("id", blocked_on_step=BlockedOnStep(name="wait"))
        assert await store.count(FlowStateQuery(status="blocked", blocked_on="wait")) == 1
        await store.update("id", blocked_on_step=BlockedOnStep(name="more"))
        assert await store.count(FlowStateQuery(blocked_on="wait")) == 0
        await store.update("id", blocked_on_step=None, operation=Operation(name="op", done=True))
        async with store.edit("id") as state:
            state.name = "renamed"

        assert await store.count(FlowStateQuery(status="done", name="renamed")) == 1
        assert await store.count(FlowStateQuery(blocked_on="more")) == 0

    @pytest.mark.asyncio
    @pytest.mark.parametrize(
        ("asked", "expected"),
        [
            ("1", ["text"]),
            (1, ["float", "int"]),
            (True, ["true"]),
            (0, ["zero"]),
            (False, ["false"]),
            ("", ["empty"]),
            ("naïve 🙂", ["odd"]),
            (2**53 + 1, ["large"]),
        ],
        ids=repr,
    )
    async def test_where_tells_types_apart(
        self, store: VersionedFlowStateStore, asked: Any, expected: list[str]
    ) -> None:
        """Numbers are equal by value. A boolean is not a number, nor is a text. Null and lists equal nothing."""
        values = {
            "text": "1", "int": 1, "float": 1.0, "true": True, "false": False, "zero": 0, "null": None, "empty": "",
            "list": [1], "map": {"a": 1}, "odd": "naïve 🙂", "large": 2**53 + 1, "near": 2**53, "NaN": float("nan"),
        }  # fmt: skip
        for place, (id, value) in enumerate(values.items()):
            state = started(-place, flow_id=id)
            state.key = value
            await store.save(id, state)
        await store.save("without", started())

        assert expected == sorted(flat(await pages(store, FlowStateQuery(where={"key": asked}, limit=2))))

    @pytest.mark.asyncio
    @pytest.mark.parametrize("key", ["a.b", "a b", "a\rb", "naïve", "`", "1st", "\\", "a/b", "x" * 1000], ids=ascii)
    async def test_where_takes_any_key(self, store: VersionedFlowStateStore, key: str) -> None:
        """A key is one key, also if it has dots, quotes or other signs of a query language."""
        state = FlowState.model_validate({**started().model_dump(by_alias=True), key: "yes"})
        await store.save("id", state)

        assert await store.count(FlowStateQuery(where={key: "yes"})) == 1
        assert await store.count(FlowStateQuery(where={key: "no"})) == 0

    @pytest.mark.asyncio
    async def test_where_sees_unknown_keys_alone(self, store: VersionedFlowStateStore) -> None:
        """A field of Genkit's schema is not an unknown key: it has a filter of its own, or none."""
        state = started(flow_id="id")
        state.name = "name"
        await store.save("id", state)
        for key in ("flowId", "startTime", "input", "blockedOnStep", "status", "_flowstate", "__name__"):
            try:
                found = await store.count(FlowStateQuery(where={key: "id"}))
            except InvalidQueryError:
                continue  # a store may refuse to look
            assert found == 0, key

    @pytest.mark.asyncio
    @pytest.mark.parametrize("size", [1485, 1486, 1487, 1499, 1500, 1501, 5000])
    async def test_long_names_and_keys_are_kept(self, store: VersionedFlowStateStore, size: int) -> None:
        """Names and keys may have any length. Filters take those that an index can hold, and refuse the others.

        So they do if the text is of an enumeration, which Python prints as the name of the member.
        """
        text = "x" * size
        member: str = enum.Enum("Text", {"IT": text}, type=str).IT  # type: ignore[attr-defined]  # mypy does not see the members
        state = started(flow_id="id")
        state.name, state.owner, state.blocked_on_step = text, text, BlockedOnStep(name=text)
        setattr(state, text, 1)
        await store.save("id", state)
        await store.update("id", blocked_on_step=BlockedOnStep(name=text))

        assert exactly(state) == exactly(await store.load("id"))
        assert ["id"] == [summary.id for summary in (await store.list_summaries()).summaries]
        asked: dict[str, Any]
        for asked, longest in (
            ({"name": text}, 1499),
            ({"blocked_on": text}, 1499),
            ({"where": {"owner": text}}, 1499),
            ({"where": {text: 1}}, 1486),
            ({"name": member}, 1499),
            ({"blocked_on": member}, 1499),
            ({"where": {"owner": member}}, 1499),
            ({"where": {member: 1}}, 1486),
        ):
            try:
                found = await store.count(FlowStateQuery(**asked))
            except InvalidQueryError:
                found = -1
            assert (1 if size <= longest else -1) == found, asked.keys()

    @pytest.mark.asyncio
    async def test_datetimes_are_milliseconds(self, store: VersionedFlowStateStore) -> None:
        """A datetime with a time zone stands for its milliseconds since the epoch."""
        moment = datetime(2024, 5, 1, 12, 0, 0, 500_000, tzinfo=timezone.utc)
        await fill(store, [("before", 1_714_564_800_499), ("at", 1_714_564_800_500), ("after", 1_714_564_800_501)])

        assert await pages(store, FlowStateQuery(started_after=moment, limit=9)) == [["after", "at"]]
        assert await pages(store, FlowStateQuery(started_before=moment, limit=9)) == [["before"]]

    @pytest.mark.asyncio
    async def test_a_token_is_bound_to_its_filters(self, store: VersionedFlowStateStore) -> None:
        """A token of other filters is refused, since it stands for a place in another list."""
        await store.save_many(_population())
        queries = [replace(query, limit=1) for query, _ in QUERIES]
        tokens = {place: (await store.list(query)).continuation_token for place, query in enumerate(queries)}
        for place, token in tokens.items():
            for other, query in enumerate(queries):
                if token is not None and other != place:
                    with pytest.raises(InvalidContinuationTokenError):
                        await store.list(replace(query, continuation_token=token))

        assert sum(token is not None for token in tokens.values()) >= 12

    @pytest.mark.asyncio
    async def test_states_deleted_between_pages_move_nothing(self, store: VersionedFlowStateStore) -> None:
        """Each state that stays is listed exactly once, whatever is inserted and deleted meanwhile."""
        ids = [f"id-{place:02}" for place in range(30)]
        await store.save_many({id: started(place // 7, flow_id=id) for place, id in enumerate(ids)})
        goes, stays = ids[::3], [id for id in ids if id not in ids[::3]]
        found: list[str] = []
        token = None
        while goes:
            page = await store.list(FlowStateQuery(limit=3, continuation_token=token))
            found += flow_ids(page.flow_states)
            token = page.continuation_token
            if token is None:
                break
            for id in (goes.pop(), goes.pop(0)) if len(goes) > 1 else goes:  # one behind the page, one before it
                await store.delete(id)
                await store.save(f"{id}!", started(int(id[3:]) // 7, flow_id=f"{id}!"))

        rest = await pages(store, FlowStateQuery(limit=3, continuation_token=token)) if token is not None else []
        found += flat(rest)
        assert stays[::-1] == [id for id in found if id in stays]
        assert len(found) == len(set(found))

    @pytest.mark.asyncio
    async def test_a_token_outlives_the_state_it_points_to(self, store: VersionedFlowStateStore) -> None:
        """The last state of a page may be deleted or moved: the next page begins at its former place."""
        await fill(store, [(f"id-{place}", 0) for place in range(6)])
        first = await store.list(FlowStateQuery(limit=2))
        await store.delete("id-4")
        rest = await pages(store, FlowStateQuery(limit=2, continuation_token=first.continuation_token))

        assert rest == [["id-3", "id-2"], ["id-1", "id-0"]]

    @pytest.mark.asyncio
    async def test_count_ignores_limit_and_token(self, store: VersionedFlowStateStore) -> None:
        """A count is that of all states that match."""
        await fill(store, [(f"id-{place}", place) for place in range(12)])
        token = (await store.list(FlowStateQuery(limit=5))).continuation_token

        assert await store.count() == 12
        assert await store.count(FlowStateQuery(limit=5, continuation_token=token)) == 12

    @pytest.mark.asyncio
    async def test_iterate_follows_all_pages(self, store: VersionedFlowStateStore) -> None:
        """`iterate` yields what the pages hold, from the query's token on, whatever their size."""
        states = {f"id-{place:02}": started(place // 3, flow_id=f"id-{place:02}") for place in range(23)}
        await store.save_many(states)
        expected = list(states.values())[::-1]
        assert exactly(expected) == exactly([state async for state in store.iterate()])
        for limit in (1, 7, 23, 300):
            assert exactly(expected) == exactly([state async for state in store.iterate(FlowStateQuery(limit=limit))])
        token = (await store.list(FlowStateQuery(limit=20))).continuation_token

        rest = [state async for state in store.iterate(FlowStateQuery(limit=2, continuation_token=token))]
        assert exactly(expected[20:]) == exactly(rest)

    @pytest.mark.asyncio
    async def test_iterate_goes_on_after_a_step_that_is_given_up(self, store: VersionedFlowStateStore) -> None:
        """A timeout around a step does not end it: whoever stops waiting goes on later, and misses nothing."""
        await fill(store, [(f"id-{place}", place) for place in range(5)])
        for number in range(40):
            states, seen = store.iterate(FlowStateQuery(limit=2)), list[str]()
            while True:
                step = asyncio.ensure_future(_next(states))
                for _ in range(number):  # at another moment of its way each time
                    await asyncio.sleep(0)
                step.cancel()
                await asyncio.wait([step])
                state = await _next(states) if step.cancelled() else step.result()
                if state is None:
                    break
                seen.append(state.flow_id)
            assert ["id-4", "id-3", "id-2", "id-1", "id-0"] == seen, f"given up after {number} turns of the loop"

    @pytest.mark.asyncio
    async def test_refuses_what_is_not_a_query(self, store: VersionedFlowStateStore) -> None:
        """Only a FlowStateQuery, or None, can be asked."""
        for query in ({"limit": 5}, 5, "query"):
            for ask in (store.list, store.count, store.list_summaries):
                with pytest.raises(InvalidQueryError):
                    await ask(query)  # type: ignore[arg-type]  # as an app without a type checker may do
            with pytest.raises(InvalidQueryError):
                async for _ in store.iterate(query):  # type: ignore[arg-type]  # likewise
                    pass
