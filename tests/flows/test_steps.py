"""Steps: their results are recorded, once, and each result is durable before the next step begins."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import BaseModel

from firestore_flowstate.flows import (
    FlowFailedError,
    Flows,
    Retry,
    Run,
    StepFailedError,
    current_run,
    current_step,
    step_threads,
)
from firestore_flowstate.flows.record import record_of
from firestore_flowstate.testing.durability.host import PAST_THE_LEASE, HostClock
from tests.flows.counting_store import CountingStore
from tests.flows.test_background import given_up as cut_off
from tests.flows.test_closing import NoTasks
from tests.flows.test_waits import blocked


class Outline(BaseModel):
    parts: list[str]


@dataclass
class Part:
    title: str
    words: int


async def make_outline(topic: str) -> Outline:
    return Outline(parts=[f"{topic} {number}" for number in range(3)])


def count_words(title: str) -> Part:
    return Part(title, len(title.split()))


async def test_a_flow_returns_what_its_steps_make(flows: Flows) -> None:
    """Steps may be async or sync functions, and return models and dataclasses."""

    @flows.flow
    async def write(run: Run, topic: str) -> list[Part]:
        outline = await run.step("outline", make_outline, topic)
        return [await run.step("part", count_words, part) for part in outline.parts]

    assert [Part("cats 0", 2), Part("cats 1", 2), Part("cats 2", 2)] == await flows.run(write, "cats")


async def test_n_steps_in_sequence_are_n_plus_1_writes(flows: Flows, store: CountingStore) -> None:
    """The create claims, each result goes before the next step, and the last one with the end. Nothing is read."""

    @flows.flow
    async def add(run: Run) -> int:
        total = 0
        for _ in range(5):
            total = await run.step("add", lambda x: x + 1, total)
        return total

    assert 5 == await flows.run(add)
    assert 6 == len(store.writes)
    assert {} == dict(store.reads)


async def test_results_that_come_together_are_one_write(flows: Flows, store: CountingStore) -> None:
    """Fifty parallel steps are one. With one more, and with the start and the end of the run, they are at most four."""

    async def one(number: int) -> int:
        return number

    @flows.flow
    async def many(run: Run) -> int:
        numbers = await asyncio.gather(*(run.step("one", one, number) for number in range(50)))
        return await run.step("sum", sum, numbers)

    assert 1225 == await flows.run(many)
    written = [set(write.changes.get("cache", {})) for write in store.writes]
    assert [50] == [len(steps) for steps in written if "one" in steps or "one-49" in steps]
    assert len(store.writes) <= 4


async def test_32_sync_steps_run_at_once(flows: Flows) -> None:
    """The others wait for one of their threads."""
    go_on, inside = threading.Event(), threading.Semaphore(0)

    def wait() -> None:
        inside.release()
        assert go_on.wait(60)

    @flows.flow
    async def many(run: Run) -> None:
        await asyncio.gather(*(run.step("wait", wait) for _ in range(40)))

    await flows.start(many, id="x")
    await asyncio.to_thread(lambda: [inside.acquire(timeout=60) for _ in range(32)])
    pool = flows._engine.pool
    [places] = pool._places.values()

    assert (32, 8) == (len(pool.here()._threads), len(places._waiting))
    go_on.set()
    await flows.result("x", timeout=60)


async def test_keys_are_counted_when_a_method_is_called(flows: Flows, store: CountingStore) -> None:
    """Genkit's rule holds: the key is the name, then name-1, name-2 and so on, the next free one."""

    @flows.flow
    async def named(run: Run) -> None:
        later = run.step("a", str, 1)
        await run.step("a-1", str, 2)
        await run.step("a", str, 3)
        await later

    await flows.run(named, id="x")
    state = await store.load("x")

    assert {"a": "1", "a-1": "2", "a-2": "3"} == {key: entry.value for key, entry in state.cache.items()}


@pytest.mark.parametrize("name", ["", "a/b", "__a__"])
async def test_a_name_that_cannot_be_a_key_is_refused(flows: Flows, name: str) -> None:
    """The call of the method raises the error."""

    @flows.flow
    async def named(run: Run) -> None:
        await run.step(name, str)

    with pytest.raises(FlowFailedError, match="ValueError"):
        await flows.run(named)


async def test_a_step_inside_a_step_has_its_key_inside(flows: Flows, store: CountingStore) -> None:
    """Its key is outer/inner, counted within the outer step."""

    @flows.flow
    async def nested(run: Run) -> str:
        async def outer() -> str:
            await run.step("inner", str, 1)
            return await current_run().step("inner", str, 2)

        await run.step("inner", str, 0)
        return await run.step("outer", outer)

    assert "2" == await flows.run(nested, id="x")
    assert ["inner", "outer/inner", "outer/inner-1", "outer"] == list((await store.load("x")).cache)


async def test_a_step_that_fails_for_good_raises_what_is_recorded(flows: Flows) -> None:
    """The error is the same the first time and on a replay."""

    async def fail() -> None:
        raise LookupError("nothing there")

    @flows.flow
    async def failing(run: Run) -> list[object]:
        with pytest.raises(StepFailedError) as caught:
            await run.step("fail", fail)
        error = caught.value
        return [error.step, error.attempts, error.error_type, error.error, error.flow_id == run.id]

    assert ["fail", 1, "LookupError", "nothing there", True] == await flows.run(failing)


async def test_retries_begin_after_the_failure_is_durable(flows: Flows, store: CountingStore) -> None:
    """An attempt is one more than the recorded failures, and its idempotency key stays."""
    seen: list[tuple[int, str, int]] = []

    async def flaky() -> str:
        seen.append((current_step().attempt, current_step().idempotency_key, len(store.writes)))
        if len(seen) < 3:
            raise ConnectionError
        return "there"

    @flows.flow
    async def trying(run: Run) -> str:
        return await run.options(retry=Retry(3, first=0)).step("flaky", flaky)

    assert "there" == await flows.run(trying, id="x")
    assert [1, 2, 3] == [attempt for attempt, _, _ in seen]
    assert 1 == len({key for _, key, _ in seen})
    assert [1, 2, 3] == [writes for _, _, writes in seen]
    assert 3 == (await store.load("x")).cache["flaky"].attempts


async def test_an_idempotency_key_is_the_same_in_every_process(store: CountingStore) -> None:
    """It is so after a crash and with a new release too: else a service that does a thing once a key does it again."""
    clock, began, keys = HostClock(), asyncio.Event(), list[str]()
    processes = [Flows(store, dispatcher=NoTasks()) for _ in range(3)]

    async def charge() -> str:
        keys.append(current_step().idempotency_key)
        if len(keys) == 1:
            began.set()
            await asyncio.Event().wait()  # until its process dies
        if len(keys) == 2:
            raise ConnectionError
        return "charged"

    for process in processes:
        process._engine.clock = clock

        @process.flow
        async def paying(run: Run) -> str:
            return await run.options(retry=Retry(2, first=3600, jitter=False)).step("charge", charge)

    first, second, third = processes
    await first.start("paying", id="x")
    await cut_off(first.drive("x"), began)
    clock.move(PAST_THE_LEASE)
    assert "waiting" == await second.drive("x")
    clock.move(3600)

    assert "done" == await third.drive("x")
    assert ["3a945da1-886a-5a01-8586-61f2981e478d"] * 3 == keys


@pytest.mark.parametrize(
    ("retry", "attempts"),
    [(None, {"plain": 1, "of its own": 2, "once": 1, "item": 1, "inner": 1, "outer": 1}),
     (Retry(3, first=0), {"plain": 3, "of its own": 2, "once": 1, "item": 3, "inner": 3, "outer": 3})],
)  # fmt: skip
async def test_steps_without_a_retry_of_their_own_have_that_of_the_flows(
    store: CountingStore, retry: Retry | None, attempts: dict[str, int]
) -> None:
    """By default there is none. A step with ``at_most_once`` is never begun again, whatever the flows say."""
    flows = Flows(store) if retry is None else Flows(store, retry=retry)
    begun = Counter[str]()

    async def fail(name: str) -> None:
        begun[name] += 1
        if name == "outer":
            await current_run().step("inner", fail, "inner")
        raise ConnectionError(name)

    @flows.flow
    async def failing(run: Run) -> None:
        for name in attempts:
            options: dict[str, Any] = {"of its own": {"retry": Retry(2, first=0)}, "once": {"at_most_once": True}}
            with suppress(StepFailedError):
                if name == "item":
                    await run.map(name, fail, [name])
                elif name != "inner":
                    await run.options(**options.get(name, {})).step(name, fail, name)

    await flows.run(failing)
    await flows.close()

    assert attempts == begun


async def test_a_step_is_not_tried_again_after_errors_that_its_retry_leaves_out(flows: Flows) -> None:
    """Those are errors of `unless`, though `on` has them too, and errors that `on` does not have."""
    begun = list[str]()

    async def fail(kind: str) -> None:
        begun.append(kind)
        raise {"reset": ConnectionResetError, "missing": FileNotFoundError, "value": ValueError}[kind]

    @flows.flow
    async def failing(run: Run, retry: int) -> None:
        for kind in ("reset", "missing", "value"):
            with suppress(StepFailedError):
                await run.options(retry=RETRIES[retry]).step(kind, fail, kind)

    for number in range(len(RETRIES)):
        await flows.run(failing, number)

    assert ["reset", "reset", "missing", "value"] * 2 == begun


RETRIES = (
    Retry(2, first=0, on=OSError, unless=FileNotFoundError),
    Retry(2, first=0, on=(OSError, ValueError), unless=(FileNotFoundError, ValueError)),
)


def test_pauses_grow_by_the_factor_up_to_the_longest() -> None:
    """Without other words the first is 1 s, each is twice as long as the one before, and none is longer than 5 min."""
    growing = Retry(first=2, factor=3, most=50, jitter=False)

    assert [2, 6, 18, 50, 50] == [growing.pause(failed) for failed in range(1, 6)]
    assert [1, 2, 4] == [Retry(jitter=False).pause(failed) for failed in range(1, 4)]
    assert [256, 300, 300] == [Retry(jitter=False).pause(failed) for failed in (9, 10, 10_000)]


def test_a_pause_with_jitter_is_drawn_evenly_from_zero_to_the_longest() -> None:
    """Each tenth of the time has a tenth of 10,000 pauses, give or take 6 standard deviations: 180."""
    retry = Retry(first=1, factor=10, most=50)
    drawn = [retry.pause(3) for _ in range(10_000)]
    tenths = Counter(int(pause // 5) for pause in drawn if pause < 50)

    assert 0 <= min(drawn)
    assert max(drawn) <= 50
    assert [] == [number for number in range(10) if abs(tenths[number] - 1000) > 180]


async def test_a_timeout_is_a_failed_attempt(flows: Flows) -> None:
    """The attempt fails with TimeoutError, and is tried again like any other."""
    attempts: list[int] = []

    async def slow() -> None:
        attempts.append(current_step().attempt)
        await asyncio.sleep(10)

    @flows.flow
    async def trying(run: Run) -> str:
        try:
            await run.options(retry=Retry(2, first=0), timeout=0.02).step("slow", slow)
        except StepFailedError as error:
            return error.error_type
        return ""

    assert "TimeoutError" == await flows.run(trying)
    assert [1, 2] == attempts


@pytest.mark.parametrize(
    ("before", "waits", "after", "ending"),
    [(0, 1.2, 0.5, "worked"), (0.8, 0.8, 0.8, "TimeoutError")],
    ids=["wait does not count", "work before and after adds up"],
)
async def test_a_timeout_counts_what_an_attempt_works(
    flows: Flows, before: float, waits: float, after: float, ending: str
) -> None:
    """The time that the step spends in a wait inside of it is left out, and no more than that."""

    @flows.flow
    async def working(run: Run) -> str:
        async def work() -> str:
            await asyncio.sleep(before)
            await run.sleep("pause", waits)
            await asyncio.sleep(after)
            return "worked"

        try:
            return await run.options(timeout=1.5).step("work", work)
        except StepFailedError as error:
            return error.error_type

    assert ending == await flows.run(working)


async def test_a_timeout_does_not_count_the_wait_for_a_thread(flows: Flows, monkeypatch: pytest.MonkeyPatch) -> None:
    """A function that is not async and has not begun has not taken any time, whatever run keeps the threads busy."""
    monkeypatch.setattr(step_threads, "_THREADS", 1)
    began, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        began.set()
        go_on.wait(60)

    @flows.flow
    async def holding(run: Run) -> None:
        await run.step("hold", hold)

    @flows.flow
    async def working(run: Run) -> list[int]:
        return await run.options(timeout=2).map("work", int, ["1", "2"])

    held = await flows.start(holding)
    assert await asyncio.to_thread(began.wait, 20)
    handle = await flows.start(working)
    await asyncio.sleep(3)  # longer than the timeout
    go_on.set()

    assert [1, 2] == await handle.result(timeout=30)
    await held.result(timeout=30)


async def test_map_keeps_the_order_of_its_items(flows: Flows, store: CountingStore) -> None:
    """At most at_once are executed at a time. The keys are by index."""
    now, most = 0, 0

    async def square(number: int) -> int:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.01 if number % 2 else 0.002)
        now -= 1
        return number**2

    @flows.flow
    async def squares(run: Run) -> list[int]:
        return await run.map("square", square, range(10), at_once=3)

    assert [number**2 for number in range(10)] == await flows.run(squares, id="x")
    assert 3 == most
    assert {"square", *(f"square-{n}" for n in range(1, 10))} == set((await store.load("x")).cache)


async def test_a_value_without_a_json_form_ends_the_run(flows: Flows) -> None:
    """The error names the step. A retry after a mend runs it again."""
    made: object = object()

    @flows.flow
    async def wrong(run: Run) -> object:
        return await run.step("make", lambda: made)

    with pytest.raises(FlowFailedError, match="'make'"):
        await flows.run(wrong, id="x")
    made = 1
    await flows.retry("x")

    assert 1 == await flows.result("x", timeout=5)


async def test_a_step_in_flight_is_joined_by_the_next_attempt_around_it(flows: Flows, store: CountingStore) -> None:
    """An attempt of the outer step fails while a step inside goes on. It is not begun again, and has one result."""
    begun, seen, again = list[int](), list[int](), asyncio.Event()

    async def pick() -> int:
        begun.append(len(begun) + 1)
        number = begun[-1]
        await again.wait()
        return number

    async def fail() -> None:
        if current_step().attempt == 1:
            raise ConnectionError("a passing fault")
        again.set()

    async def outer() -> int:
        _, offer = await asyncio.gather(fail(), current_run().step("pick", pick))
        seen.append(offer)
        return offer

    @flows.flow
    async def choosing(run: Run) -> int:
        return await run.options(retry=Retry(3, first=0)).step("outer", outer)

    assert 1 == await asyncio.wait_for(flows.run(choosing, id="x"), 30)
    assert ([1], [1]) == (begun, seen)
    assert 1 == (await store.load("x")).cache["outer/pick"].value


async def test_a_step_that_others_wait_for_is_not_cancelled_by_one(flows: Flows) -> None:
    """An attempt that has failed cancels what it waited for, which the next attempt waits for too by then."""
    go_on, begun = asyncio.Event(), list[int]()
    left: list[asyncio.Task[int]] = []

    async def pick() -> int:
        begun.append(1)
        await go_on.wait()
        return 7

    async def outer() -> int:
        picking = asyncio.ensure_future(current_run().step("pick", pick))
        left.append(picking)
        await asyncio.sleep(0.01)
        if len(left) == 1:
            raise ConnectionError("a passing fault")
        left[0].cancel()
        await asyncio.sleep(0.01)
        go_on.set()
        return await picking

    @flows.flow
    async def choosing(run: Run) -> int:
        return await run.options(retry=Retry(3, first=0)).step("outer", outer)

    assert 7 == await asyncio.wait_for(flows.run(choosing), 30)
    assert [1] == begun


async def given_up(step: Awaitable[int], when: asyncio.Event) -> int:
    """Await the step until then, and let its attempt fail without it."""
    waiting = asyncio.ensure_future(step)
    await when.wait()
    waiting.cancel()
    await asyncio.sleep(0)
    raise TimeoutError


async def test_nothing_is_recorded_of_a_step_that_was_cancelled(flows: Flows, store: CountingStore) -> None:
    """Its function lets the cancellation pass by and returns. The next attempt around it begins the step again."""
    begun, has_begun = list[int](), asyncio.Event()

    async def stubborn() -> int:
        begun.append(len(begun) + 1)
        number = begun[-1]
        has_begun.set()
        if number == 1:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                await asyncio.sleep(0.1)
        return number

    async def outer() -> int:
        step = current_run().step("stubborn", stubborn)
        return await (given_up(step, has_begun) if not begun else step)

    @flows.flow
    async def choosing(run: Run) -> int:
        return await run.options(retry=Retry(3, first=0)).step("outer", outer)

    assert 2 == await flows.run(choosing, id="x")
    assert 2 == (await store.load("x")).cache["outer/stubborn"].value


async def test_a_step_that_was_cancelled_before_it_began_leaves_no_intent(flows: Flows, store: CountingStore) -> None:
    """The intent of a step with ``at_most_once`` was being written. A later drive may begin the step."""
    drives, begun = list[int](), list[int]()
    charging: asyncio.Task[str] | None = None

    async def charge() -> str:
        begun.append(len(drives))
        return "charged"

    async def cancel_meanwhile(update: Callable[[], Awaitable[str]]) -> str:
        assert charging is not None
        charging.cancel()
        await asyncio.sleep(0)
        return await update()

    @flows.flow
    async def paying(run: Run) -> str:
        nonlocal charging
        drives.append(1)
        if len(drives) == 1:
            store.faults[store.updates + 1] = cancel_meanwhile
        charging = asyncio.ensure_future(run.options(at_most_once=True).step("charge", charge))
        if len(drives) == 1:
            await asyncio.wait([charging])
            await run.interrupt("later")
        return await charging

    handle = await flows.start(paying, id="x")
    await blocked(store, "x")
    assert [] == record_of(await store.load("x")).intents
    await handle.resume(1)

    assert "charged" == await handle.result(timeout=30)
    assert [2] == begun


async def test_two_who_wait_for_a_cancelled_step_to_end_begin_it_once(flows: Flows, store: CountingStore) -> None:
    """The first attempt around it has cancelled it, the second has failed while it waited, the third waits too."""
    begun, has_begun = list[int](), asyncio.Event()

    async def stubborn() -> int:
        begun.append(len(begun) + 1)
        number = begun[-1]
        has_begun.set()
        try:
            await asyncio.sleep(60 if number == 1 else 0.05)
        except asyncio.CancelledError:
            await asyncio.sleep(0.3)  # in which the second and third attempt come
        return number

    async def fail() -> None:
        if current_step().attempt < 3:
            await asyncio.sleep(0.02)
            raise ConnectionError("a passing fault")

    async def outer() -> int:
        step = current_run().step("stubborn", stubborn)
        if current_step().attempt == 1:
            return await given_up(step, has_begun)
        _, number = await asyncio.gather(fail(), step)
        return number

    @flows.flow
    async def choosing(run: Run) -> int:
        return await run.options(retry=Retry(3, first=0)).step("outer", outer)

    assert 2 == await asyncio.wait_for(flows.run(choosing, id="x"), 30)
    assert [1, 2] == begun
    assert 2 == (await store.load("x")).cache["outer/stubborn"].value
