"""Lists: their order, and pages that lose nothing and repeat nothing."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Final

import pytest

from ...errors import InvalidContinuationTokenError
from ...query import FlowStateQuery
from ...store import FlowStateStore
from ..comparison import exactly
from .paging import fill, flat, flow_ids, pages
from .states import started
from .suite import Suite

ODD_STARTS: Final = (
    0,
    0.0,
    -1,
    1,
    1.0,
    1.5,
    -1.5,
    0.1 + 0.2,
    1_700_000_000_000,
    1_700_000_000_000.0,
    1_700_000_000_000.25,
    2**53,
    float(2**53),
    2**53 + 1,
    2**62,
    -(2**62),
    1e300,
    -1e300,
    5e-324,
)
"""Starts that are equal by value in several types, that lie before the epoch, or that are too large for floats."""

DAMAGES: Final[dict[str, Callable[[str], str]]] = {
    "empty": lambda _: "",
    "text": lambda _: "garbage",
    "a number, as Genkit's were": lambda _: "1700000000000",
    "base64 of nothing known": lambda _: base64.urlsafe_b64encode(b'{"startTime":1}').decode(),
    "not ASCII": lambda token: token + "é",
    "one character short": lambda token: token[:-1],
    "half": lambda token: token[: len(token) // 2],
    "one character long": lambda token: token + "A",
    "padded": lambda token: token + "=",
    "with a space": lambda token: token + " ",
    "twice": lambda token: token + token,
    "first character changed": lambda token: ("B" if token[0] != "B" else "C") + token[1:],
    "middle character changed": lambda token: (
        token[: (half := len(token) // 2)] + ("B" if token[half] != "B" else "C") + token[half + 1 :]
    ),
    "other case": lambda token: token.swapcase(),
    "long": lambda _: "A" * 100_000,
}


class ListingTests(Suite):
    """Lists of all states: order, pages, tokens. A store that holds 30 states holds enough."""

    @pytest.mark.asyncio
    async def test_empty_store_has_one_empty_page(self, store: FlowStateStore) -> None:
        """Nothing to list is an empty page without a token."""
        page = await store.list()

        assert list(page.flow_states) == []
        assert page.continuation_token is None

    @pytest.mark.asyncio
    async def test_newest_start_comes_first(self, store: FlowStateStore) -> None:
        """States are ordered by their start, not by when they were saved or by id."""
        await fill(store, [("b", 2), ("d", 10), ("a", 3), ("c", 1)])

        assert await pages(store, FlowStateQuery(limit=10)) == [["d", "a", "b", "c"]]

    @pytest.mark.asyncio
    async def test_equal_starts_are_ordered_by_id_descending(self, store: FlowStateStore) -> None:
        """Ties go by the bytes of the id in UTF-8, which is how Firestore orders names."""
        ids = ["A", "B", "a", "aa", "b", "b!", "é", "日", "\uff5e", "🙂", "0", "_", " "]
        await fill(store, [(id, 7) for id in ids])

        assert [sorted(ids, key=str.encode, reverse=True)] == await pages(store, FlowStateQuery(limit=20))

    @pytest.mark.asyncio
    @pytest.mark.parametrize("limit", [1, 3, 10, 19])
    async def test_orders_starts_by_their_value(self, store: FlowStateStore, limit: int) -> None:
        """Whole numbers and floats are one order. Negative, tiny and huge starts are in it, across pages too."""
        starts = [(f"id-{place:02}", start) for place, start in enumerate(ODD_STARTS)]
        await fill(store, starts)
        expected = [id for id, _ in sorted(starts, key=lambda item: (item[1], item[0]), reverse=True)]

        assert expected == flat(await pages(store, FlowStateQuery(limit=limit)))

    @pytest.mark.asyncio
    @pytest.mark.parametrize("limit", [1, 2, 7, 10, 24, 25, 26, 300])
    async def test_pages_hold_every_state_once(self, store: FlowStateStore, limit: int) -> None:
        """All pages but the last are full, however many states share a start."""
        ids = [f"id-{place:02}" for place in range(25)]
        await fill(store, [(id, place // 12) for place, id in enumerate(ids)])
        found = await pages(store, FlowStateQuery(limit=limit))

        assert ids[::-1] == flat(found)
        assert all(len(page) == limit for page in found[:-1])
        assert 1 <= len(found[-1]) <= limit

    @pytest.mark.asyncio
    async def test_no_tied_state_is_lost_between_pages(self, store: FlowStateStore) -> None:
        """25 states of one start fill pages of 10, 10 and 5."""
        ids = [f"id-{place:02}" for place in range(25)]
        await fill(store, [(id, 0) for id in ids])
        found = await pages(store, FlowStateQuery(limit=10))

        assert [len(page) for page in found] == [10, 10, 5]
        assert ids[::-1] == flat(found)

    @pytest.mark.asyncio
    @pytest.mark.parametrize("count", [1, 5, 10])
    async def test_a_full_last_page_has_no_token(self, store: FlowStateStore, count: int) -> None:
        """A token is given only if more follows."""
        await fill(store, [(f"id-{place}", place) for place in range(10)])
        found = await pages(store, FlowStateQuery(limit=count))

        assert 10 // count == len(found)
        assert all(found)

    @pytest.mark.asyncio
    async def test_one_state_more_than_the_page_gives_a_token(self, store: FlowStateStore) -> None:
        """The eleventh of eleven states is on the second page of ten."""
        await fill(store, [(f"id-{place:02}", place) for place in range(11)])

        assert [len(page) for page in await pages(store, FlowStateQuery(limit=10))] == [10, 1]

    @pytest.mark.asyncio
    async def test_page_size_may_change_between_pages(self, store: FlowStateStore) -> None:
        """A token stands for a place in the order, not for a number of states."""
        ids = [f"id-{place}" for place in range(9)]
        await fill(store, [(id, 5) for id in ids])
        first = await store.list(FlowStateQuery(limit=2))
        rest = await pages(store, FlowStateQuery(limit=4, continuation_token=first.continuation_token))

        assert ids[::-1] == flow_ids(first.flow_states) + flat(rest)

    @pytest.mark.asyncio
    async def test_a_token_may_be_used_again(self, store: FlowStateStore) -> None:
        """The same token gives the same page as often as it is asked for."""
        await fill(store, [(f"id-{place}", place) for place in range(5)])
        token = (await store.list(FlowStateQuery(limit=2))).continuation_token
        query = FlowStateQuery(limit=2, continuation_token=token)

        assert await pages(store, query) == await pages(store, query)

    @pytest.mark.asyncio
    @pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
    async def test_refuses_a_damaged_token(self, store: FlowStateStore, damage: Callable[[str], str]) -> None:
        """Any token but one that was given out is an error, and gives neither a wrong page nor an empty one."""
        await fill(store, [(f"id-{place}", place) for place in range(3)])
        token = (await store.list(FlowStateQuery(limit=1))).continuation_token
        assert token is not None
        with pytest.raises(InvalidContinuationTokenError):
            await store.list(FlowStateQuery(limit=1, continuation_token=damage(token)))

    @pytest.mark.asyncio
    async def test_states_inserted_between_pages_move_nothing(self, store: FlowStateStore) -> None:
        """Each state that was there before is listed once, and so is an inserted one that comes later in the order."""
        ids = [f"id-{place:02}" for place in range(0, 20, 2)]
        await fill(store, [(id, place // 4) for place, id in enumerate(ids)])
        found: list[str] = []
        query = FlowStateQuery(limit=3)
        for place in range(1, 20, 2):
            page = await store.list(query)
            found += flow_ids(page.flow_states)
            if page.continuation_token is None:
                break
            query = FlowStateQuery(limit=3, continuation_token=page.continuation_token)
            await store.save(f"newest-{place}", started(1000, flow_id=f"newest-{place}"))
            await store.save(f"id-{place:02}", started(place // 4, flow_id=f"id-{place:02}"))

        assert ids[::-1] == [id for id in found if id in ids]
        assert len(found) == len(set(found))

    @pytest.mark.asyncio
    async def test_a_state_saved_again_is_listed_once(self, store: FlowStateStore) -> None:
        """Saving under the same id moves the state to its new start and leaves nothing at the old one."""
        await fill(store, [("a", 1), ("b", 2), ("a", 3), ("b", 2)])

        assert await pages(store, FlowStateQuery(limit=10)) == [["a", "b"]]

    @pytest.mark.asyncio
    async def test_the_largest_page_holds_300(self, store: FlowStateStore) -> None:
        """A limit of 300 is honoured."""
        await fill(store, [("a", 1), ("b", 2)])

        assert await pages(store, FlowStateQuery(limit=300)) == [["b", "a"]]

    @pytest.mark.asyncio
    async def test_listed_state_keeps_the_type_of_its_start(self, store: FlowStateStore) -> None:
        """Equal starts of different types stay what they are."""
        await fill(store, [("a", 1), ("b", 1.0)])
        page = await store.list()

        assert exactly([1.0, 1]) == exactly([state.start_time for state in page.flow_states])
