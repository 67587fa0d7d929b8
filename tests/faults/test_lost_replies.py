"""A write whose request or reply is lost: the caller hears of success exactly when it is stored."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from functools import partial
from itertools import pairwise

import pytest
import time_machine

from firestore_flowstate import CacheEntry
from firestore_flowstate._commit.history import _times_after
from tests.faults.commits import lose_reply, lose_request, on_commit
from tests.faults.relay import Call, Refusal, Relay
from tests.faults.writes import (
    CREATE,
    SAVE_FIRST,
    SAVE_NEW,
    UPDATE_VERSION,
    WRITES,
    Store,
    Troubled,
    Write,
    a_state,
    in_layout,
    incompressible,
    marks,
    others_compact,
    others_create,
    others_delete,
    others_delete_and_create,
    others_save,
    others_save_twice,
    others_save_version,
    others_update,
    others_update_and_compact,
    others_update_delete_and_create,
    outcome_of,
)
from tests.rpc.tcp_proxy import TcpProxy

Others = Callable[[Store, str], Awaitable[None]]
Outcomes = Mapping[str, tuple[str, str]]

ON_SOMETHING = (
    others_update,
    others_save_version,
    others_save,
    others_save_twice,
    others_delete,
    others_delete_and_create,
    others_update_delete_and_create,
    others_compact,
    others_update_and_compact,
)
ON_NOTHING = (others_create, others_save)
AS_IT_WAS = (None, others_compact)
OF_SERIALIZED = (others_compact, others_update_and_compact)
LARGE = incompressible(800_000)  # into one part
HUGE = incompressible(6_000_000)  # into so many that they do not fit one request of the emulator


@pytest.fixture
async def lose(direct: Store, through_a_proxy: Troubled):  # type: ignore[no-untyped-def]
    """Runs a write whose request or reply is lost, once for each of what others do meanwhile."""

    async def one(lost: str, write: Write, others: Others | None, layout: str, value: object) -> tuple[str, str]:
        id = f"{write.name} {_name(others)} {lost}"
        read = a_state(id)
        as_written = in_layout(direct, layout)
        async with through_a_proxy(layout=layout, timeout=20.0) as (proxy, store):
            if not write.creates:
                await as_written.save(id, read)
            before = read.version
            await store.load(id)  # so that there is a connection to cut

            async def is_stored() -> bool:
                state = await direct.load(id)
                return (None if state is None else state.version) != before

            async def then() -> None:
                if others is not None:
                    await others(as_written, id)

            running = write.run(store, id, read, value)
            if lost == "reply":
                running = lose_reply(proxy, running, root=id, is_stored=is_stored, then=then)
            else:
                running = lose_request(proxy, running, root=id, then=then)
            return await outcome_of(running), await marks(direct, id)

    async def many(
        lost: str, write: Write, while_others: Sequence[Others | None], layout: str = "serialized", value: object = 1
    ) -> Outcomes:
        if layout == "native":
            while_others = [others for others in while_others if others not in OF_SERIALIZED]
        results = await asyncio.gather(*(one(lost, write, others, layout, value) for others in while_others))
        return {_name(others): result for others, result in zip(while_others, results, strict=True)}

    return many


@pytest.mark.parametrize("write", [write for write in WRITES if not write.deletes], ids=str)
@pytest.mark.parametrize("layout", ["serialized", "native"])
async def test_a_stored_write_is_a_success(lose, write: Write, layout: str) -> None:  # type: ignore[no-untyped-def]
    """Whatever others did on top of a write whose reply was lost, it is a success, and theirs is not undone."""
    expected = {
        "nobody": ("stored", "ours"),
        "others_update": ("stored", "ours theirs"),
        "others_save_version": ("stored", "ours theirs"),
        "others_save": ("stored", "theirs"),
        "others_save_twice": ("stored", "theirs"),
        "others_delete": ("stored", "gone"),
        "others_delete_and_create": ("stored", "theirs"),
        "others_update_delete_and_create": ("stored", "theirs"),
        "others_compact": ("stored", "ours"),
        "others_update_and_compact": ("stored", "ours theirs"),
    }

    outcomes = await lose("reply", write, [None, *ON_SOMETHING], layout)
    assert {name: expected[name] for name in outcomes} == outcomes


@pytest.mark.parametrize("write", [write for write in WRITES if write.deletes], ids=str)
@pytest.mark.parametrize("layout", ["serialized", "native"])
async def test_a_delete_is_not_done_twice(lose, write: Write, layout: str) -> None:  # type: ignore[no-untyped-def]
    """A delete whose reply was lost is a success, and what others stored afterwards is left alone."""
    expected = {
        "nobody": ("stored", "gone"),
        "others_create": ("stored", "theirs"),
        "others_save": ("stored", "theirs"),
    }

    assert expected == await lose("reply", write, [None, *ON_NOTHING], layout)


@pytest.mark.parametrize("write", [write for write in WRITES if write.versioned and not write.deletes], ids=str)
@pytest.mark.parametrize("layout", ["serialized", "native"])
async def test_a_lost_versioned_write_conflicts(lose, write: Write, layout: str) -> None:  # type: ignore[no-untyped-def]
    """A write to a version that never arrived conflicts with what others wrote before it is sent again."""
    outcomes = await lose("request", write, [None, *ON_SOMETHING], layout)
    expected = dict.fromkeys(outcomes, ("conflict", "theirs"))
    expected["others_delete"] = ("not found" if write is UPDATE_VERSION else "conflict", "gone")
    for others in AS_IT_WAS:
        expected[_name(others)] = ("stored", "ours")

    assert {name: expected[name] for name in outcomes} == outcomes


@pytest.mark.parametrize("write", [write for write in WRITES if write.creates], ids=str)
@pytest.mark.parametrize("layout", ["serialized", "native"])
async def test_a_lost_first_write(lose, write: Write, layout: str) -> None:  # type: ignore[no-untyped-def]
    """A create that never arrived finds what others created before it is sent again. A save replaces it."""
    if write in (CREATE, SAVE_NEW):
        of_others = ("exists" if write is CREATE else "conflict", "theirs")
    else:
        of_others = ("stored", "ours")
    expected = {"nobody": ("stored", "ours"), "others_create": of_others, "others_save": of_others}

    assert expected == await lose("request", write, [None, *ON_NOTHING], layout)


@pytest.mark.parametrize("write", [w for w in WRITES if not w.versioned and not w.creates and not w.deletes], ids=str)
@pytest.mark.parametrize("layout", ["serialized", "native"])
async def test_a_lost_write_to_whatever_is_stored(lose, write: Write, layout: str) -> None:  # type: ignore[no-untyped-def]
    """A write that asks for no version and never arrived goes on top of what others wrote. A save replaces it."""
    outcomes = await lose("request", write, [None, *ON_SOMETHING], layout)
    expected = dict.fromkeys(outcomes, ("stored", "ours" if write.whole else "ours theirs"))
    for others in AS_IT_WAS:
        expected[_name(others)] = ("stored", "ours")
    if not write.whole:
        expected["others_delete"] = ("not found", "gone")

    assert {name: expected[name] for name in outcomes} == outcomes


@pytest.mark.parametrize("write", [write for write in WRITES if write.deletes], ids=str)
@pytest.mark.parametrize("layout", ["serialized", "native"])
async def test_a_lost_delete(lose, write: Write, layout: str) -> None:  # type: ignore[no-untyped-def]
    """A delete that never arrived is sent again unless others deleted the state. One to a version conflicts."""
    outcomes = await lose("request", write, [None, *ON_SOMETHING], layout)
    expected = dict.fromkeys(outcomes, ("conflict", "theirs") if write.versioned else ("stored", "gone"))
    for others in AS_IT_WAS:
        expected[_name(others)] = ("stored", "gone")
    # Nothing tells one deletion from another: what was to be deleted is gone, and others' new state is left alone.
    expected["others_delete"] = ("stored", "gone")
    expected["others_delete_and_create"] = ("stored", "theirs")
    if not write.versioned:
        expected["others_update_delete_and_create"] = ("stored", "theirs")

    assert {name: expected[name] for name in outcomes} == outcomes


@pytest.mark.parametrize("write", [write for write in WRITES if write.creates], ids=str)
async def test_a_reply_lost_long_after_a_request(direct: Store, troubled: Store, proxy: TcpProxy, write: Write) -> None:
    """A write that is sent again after a while, is stored then and deleted by others, is not stored once more."""
    id, read = "id", a_state("id")
    await troubled.load(id)  # so that there is a connection to cut

    async def is_stored() -> bool:
        return await direct.load(id) is not None

    lost = on_commit(proxy, id, proxy.refuse)
    writing = asyncio.ensure_future(outcome_of(write.run(troubled, id, read, 1)))
    await lost
    await asyncio.sleep(1.0)
    again = lose_reply(proxy, writing, root=id, is_stored=is_stored, then=partial(others_delete, direct, id))
    losing = asyncio.ensure_future(again)
    await asyncio.sleep(0)  # it looks for the commit from now on
    proxy.listen()

    assert ("stored", "gone") == (await losing, await marks(direct, id))


def test_the_times_at_which_a_write_is_looked_for() -> None:
    """For a second they are some 40, of which each is a fifth later than the one before: no longer time is missed."""
    second = 1_000_000  # microseconds
    times = [*_times_after(0, second), second]

    assert 35 <= len(times) <= 45
    assert times[0] <= 1_000
    assert max(later / earlier for earlier, later in pairwise(times)) < 1.201  # they are whole microseconds


@pytest.mark.parametrize("write", [write for write in WRITES if not write.deletes], ids=str)
@pytest.mark.parametrize("value", [LARGE, HUGE], ids=["in a part", "in several requests"])
async def test_states_in_parts(lose, direct: Store, write: Write, value: str) -> None:  # type: ignore[no-untyped-def]
    """All of this holds for values in parts too, and no part is left over."""
    on_top = [None] if value is HUGE else [None, others_update, others_save_version, others_delete_and_create]
    before = [None] if value is HUGE else [None, others_create if write.creates else others_update]

    replies = await lose("reply", write, on_top, value=value)
    requests = await lose("request", write, before, value=value)
    assert {"stored"} == {outcome for outcome, _ in replies.values()}
    assert ("stored", "ours") == requests["nobody"]
    report = await direct.gc(dry_run=True)
    assert (0, 0) == (report.orphans, report.young)


@pytest.mark.parametrize("after", [0, 1], ids=["request", "reply"])
async def test_parts_that_go_ahead(direct: Store, relayed: Store, relay: Relay, after: int) -> None:
    """If a request of parts alone or its reply is lost, it is sent once more without a look at what is stored.

    No part is left over.
    """
    lost: list[Call] = []

    def refusal(call: Call) -> Refusal | None:
        if call.method != "Commit" or lost:
            return None
        lost.append(call)
        return Refusal("INTERNAL", after=after)

    relay.refusal = refusal
    large = a_state("id")
    large.cache["huge"] = CacheEntry(value=HUGE)
    await relayed.save("id", large)

    _, ahead, again, last = relay.calls  # it reads first what it replaces, and has two requests
    assert ahead == again == lost[0]
    assert "Commit" == last.method
    assert large == await direct.load("id")
    report = await direct.gc(dry_run=True)
    assert (0, 0) == (report.orphans, report.young)


@pytest.mark.parametrize("ahead", [timedelta(days=1), timedelta(days=-1)], ids=["fast", "slow"])
async def test_a_machine_whose_clock_is_wrong(lose, ahead: timedelta) -> None:  # type: ignore[no-untyped-def]
    """What is under the write of another is found all the same: history goes by Firestore's clock."""
    with time_machine.travel(datetime.now(timezone.utc) + ahead):
        outcomes = await lose("reply", SAVE_FIRST, [others_save])

    assert {"others_save": ("stored", "theirs")} == outcomes


def _name(others: Others | None) -> str:
    return "nobody" if others is None else others.__name__
