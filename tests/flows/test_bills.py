"""What a run of a durable flow bills in document reads and writes, as docs/costs.md says: here it is counted."""

from __future__ import annotations

import asyncio
import base64
import gc
import random
import time
import tracemalloc
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Final

import pytest

from firestore_flowstate import FirestoreFlowStateStore, FlowStateSettings
from firestore_flowstate.flows import Flows, Retry, Run
from firestore_flowstate.flows.record import Inbox, metadata_of, record_of
from tests.support.meter import Bill, Meter, meter, metered, written_bills

__all__ = ["meter", "metered"]  # fixtures

STEPS: Final = 20
WAITING: Final = 10_000


class Nobody:
    """A dispatcher that wakes nobody: each drive is called by the test."""

    async def dispatch(self, id: str, *, wake: str, at: datetime | None = None) -> None:
        """Do nothing."""

    async def close(self) -> None:
        """Do nothing."""


async def one(number: int) -> int:
    return number


async def in_sequence(store: FirestoreFlowStateStore, meter: Meter) -> None:
    flows = Flows(store)

    @flows.flow
    async def sums(run: Run) -> int:
        return sum([await run.step("one", one, number) for number in range(STEPS)])

    assert 190 == await flows.run(sums)
    await flows.close()


async def waiting(store: FirestoreFlowStateStore, meter: Meter) -> Flows:
    """Return flows with a run "x" that has just been started, and is not driven yet."""
    flows = Flows(store, dispatcher=Nobody())

    @flows.flow
    async def asks(run: Run) -> bool:
        return await run.interrupt("approve", bool)

    await flows.start(asks, id="x")
    return flows


async def first_drive(store: FirestoreFlowStateStore, meter: Meter) -> None:
    flows = await waiting(store, meter)
    meter.take()
    assert "waiting" == await flows.drive("x")


async def answer(store: FirestoreFlowStateStore, meter: Meter) -> None:
    flows = await waiting(store, meter)
    await flows.drive("x")
    meter.take()
    await flows.resume("x", True)


async def resumption(store: FirestoreFlowStateStore, meter: Meter) -> None:
    flows = await waiting(store, meter)
    await flows.drive("x")
    await flows.resume("x", True)
    meter.take()
    assert "done" == await flows.drive("x")


async def too_early(store: FirestoreFlowStateStore, meter: Meter) -> None:
    """What a task looks at that comes each 29 days, of a run that waits for longer."""
    flows = Flows(store, dispatcher=Nobody())

    @flows.flow
    async def sleeps(run: Run) -> None:
        await run.sleep("long", timedelta(days=60))

    await flows.start(sleeps, id="x")
    assert "waiting" == await flows.drive("x")
    meter.take()
    assert "waiting" == await flows.drive("x")


async def look_at_a_child(store: FirestoreFlowStateStore, meter: Meter) -> None:
    """The child could have been deleted, and would tell nobody."""
    flows = Flows(store, dispatcher=Nobody())

    @flows.flow
    async def asks(run: Run) -> bool:
        return await run.interrupt("approve", bool)

    @flows.flow
    async def parent(run: Run) -> bool:
        return await run.child("ask", asks, id="child")

    await flows.start(parent, id="x")
    assert "waiting" == await flows.drive("x")
    state = await store.load("x")
    assert state is not None
    record, now = record_of(state), round(time.time() * 1000)
    record.waits["ask"].until = now
    operation = state.operation.model_copy(update={"metadata": metadata_of(state.operation, record, Inbox())})
    await store.update("x", operation=operation, extra={"wakeAt": now})
    meter.take()
    assert "waiting" == await flows.drive("x")


async def month_of_one(store: FirestoreFlowStateStore, meter: Meter) -> None:
    """A run of the worked bill: ten steps, an answer after the fifth, each drive by another process."""
    flows = Flows(store, dispatcher=Nobody())

    @flows.flow
    async def article(run: Run) -> int:
        first = sum([await run.step("one", one, number) for number in range(5)])
        await run.interrupt("approve", bool)
        return first + sum([await run.step("two", one, number) for number in range(5)])

    await flows.start(article, id="x")
    assert "waiting" == await flows.drive("x")
    await flows.resume("x", True)
    assert "done" == await flows.drive("x")


ROWS: Final[dict[str, Callable[[FirestoreFlowStateStore, Meter], Awaitable[object]]]] = {
    f"a run of {STEPS} steps in sequence, started by the process that drives it": in_sequence,
    "the first drive of a run that waits at once, by another process": first_drive,
    "`resume`": answer,
    "the drive after that, to the end": resumption,
    "a drive of a run that is not due yet": too_early,
    "a look at a child that goes on": look_at_a_child,
    "all of a run of 10 steps that waits for an answer after the fifth": month_of_one,
}


async def test_the_article_of_the_page_on_firebase(
    metered: FirestoreFlowStateStore, meter: Meter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """5 reads and 7 writes, whatever `run.progress` tells: see there what they are of.

    What it tells waits a second for another write, which a busy machine may take longer to reach.
    """
    monkeypatch.setattr("firestore_flowstate.flows.checkpoint.SHOW_SECONDS", 60.0)
    flows = Flows(metered, dispatcher=Nobody())

    @flows.flow
    async def publish(run: Run, topic: str) -> str:
        run.progress(stage="writing")
        draft = await run.options(retry=Retry(5)).step("draft", str, topic)
        run.progress(stage="approve?", draft=draft)
        await run.interrupt("approve", bool, show=draft, timeout=timedelta(days=3))
        run.progress(stage="publishing")
        url = await run.options(retry=Retry(5)).step("publish", str, draft)
        run.progress(stage="published", url=url)
        return url

    handle = await flows.start(publish, "cats", id="x", extra={"owner": "someone"})
    assert "waiting" == await flows.drive("x")
    assert await handle.state() is not None  # as `approve` reads whose run it is
    await handle.resume(True, step="approve")
    assert ["done", "done"] == [await flows.drive("x") for _ in range(2)]

    assert Bill(reads=5, writes=7) == meter.take()


@pytest.fixture
def flow_state_settings(request: pytest.FixtureRequest, flow_state_settings: FlowStateSettings) -> FlowStateSettings:
    """Settings of the layout that the test asks for."""
    return flow_state_settings.model_copy(update={"layout": getattr(request, "param", "serialized")})


in_both_layouts: Final = pytest.mark.parametrize("flow_state_settings", ["serialized", "native"], indirect=True)


@in_both_layouts
@pytest.mark.parametrize("name", ROWS)
async def test_a_run_bills_what_the_page_says(metered: FirestoreFlowStateStore, meter: Meter, name: str) -> None:
    """The reads and writes are exactly those. A run of n steps that never suspends is n + 1 writes and no read."""
    await ROWS[name](metered, meter)

    assert written_bills("flows")[name] == meter.take()


def test_the_page_has_no_other_rows() -> None:
    """Each row of the table has its test."""
    assert list(ROWS) == list(written_bills("flows"))


async def test_a_run_in_parts_is_read_once_a_drive(metered: FirestoreFlowStateStore, meter: Meter) -> None:
    """The claim and the end of a state that is too large for a document are writes alone, as those of a small one."""
    flows = Flows(metered, dispatcher=Nobody())

    @flows.flow
    async def asks(run: Run) -> int:
        large = await run.step("large", incompressible)
        await run.interrupt("approve", bool)
        return len(large)

    await flows.start(asks, id="x")
    await flows.drive("x")
    await flows.resume("x", True)
    meter.take()

    assert "done" == await flows.drive("x")
    bill = meter.take()
    assert (2, 2) == (bill.reads, bill.writes)  # the root and its part; the claim and the end


async def incompressible() -> str:
    return base64.b85encode(random.Random(0).randbytes(700_000)).decode()


@in_both_layouts
async def test_a_look_that_finds_nothing_is_one_read(metered: FirestoreFlowStateStore, meter: Meter) -> None:
    """A run that waits is not read by a sweep."""
    flows = await waiting(metered, meter)
    await flows.drive("x")
    meter.take()

    assert 0 == await flows.sweep()
    assert Bill(reads=1) == meter.take()


@in_both_layouts
async def test_steps_that_end_together_are_written_together(metered: FirestoreFlowStateStore, meter: Meter) -> None:
    """50 parallel steps, the last step and the end: at most 4 writes in all, and no read."""
    flows = Flows(metered)
    together = asyncio.Event()
    begun: list[int] = []

    async def wait(number: int) -> int:
        begun.append(number)
        if len(begun) == 50:
            together.set()
        await together.wait()
        return number

    @flows.flow
    async def parallel(run: Run) -> int:
        numbers = await asyncio.gather(*(run.step("wait", wait, number) for number in range(50)))
        return await run.step("sum", lambda: sum(numbers))

    assert 1225 == await flows.run(parallel)
    bill = meter.take()
    await flows.close()

    assert 0 == bill.reads
    assert bill.writes <= 4


@pytest.mark.timeout(180)  # ten thousand states are written first, on a machine that may be busy
async def test_runs_that_wait_cost_nothing(metered: FirestoreFlowStateStore, meter: Meter) -> None:
    """Ten thousand such runs need neither tasks nor timers, and under 10 bytes each. A look of a worker is one read."""
    await (await waiting(metered, meter)).drive("x")
    suspended = await metered.load("x")
    assert suspended is not None
    with_an_end = suspended.model_copy(update={"wakeAt": round(time.time() * 1000) + 86_400_000})
    await metered.save_many({f"run-{number}": (suspended, with_an_end)[number % 2] for number in range(WAITING)})
    flows = Flows(metered)

    @flows.flow
    async def asks(run: Run) -> bool:
        return await run.interrupt("approve", bool)

    looks, due = asyncio.Queue[None](), metered.due
    go_on = asyncio.Semaphore(2)

    async def counted(*arguments: object, **options: object) -> object:
        await go_on.acquire()
        found = await due(*arguments, **options)  # type: ignore[arg-type]  # passed on as they are
        looks.put_nowait(None)
        return found

    metered.due = counted  # type: ignore[method-assign, assignment]  # to know how often it looked
    async with flows, flows.worker(poll=0.05):
        for _ in range(2):
            await looks.get()
        gc.collect()
        meter.take()
        tasks = len(asyncio.all_tasks())
        tracemalloc.start()
        for _ in range(3):
            go_on.release()
            await looks.get()
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()

        assert Bill(reads=3) == meter.take()
        assert tasks == len(asyncio.all_tasks())
        assert not flows._engine.drives
        assert not flows._engine.dispatcher._timers  # type: ignore[attr-defined]  # of the dispatcher in this process
    assert most < 10 * WAITING
