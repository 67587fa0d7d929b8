"""Sample flows of many shapes, whose possible ends are known.

All take as their input how many seconds an hour is. A simulation sleeps for hours in no time. Processes that are really
killed need shorter hours.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ...flows import Flow, FlowFailedError, Flows, Retry, Run, StepFailedError, StepInterruptedError, current_run
from ...memory import MemoryFlowStateStore
from ...settings import FlowStateSettings
from .effects import ask, saw, step, work

FLOWS: Final = Flows(MemoryFlowStateStore(FlowStateSettings.model_construct()))  # which reads no variable
"""The flows that define the samples. Those that drive them are others, over a store of the test."""


@FLOWS.flow
async def sequential(run: Run, hour: float) -> int:
    """One step after the other."""
    total = 0
    for number in range(4):
        total = await step(run, f"add-to-{number}", total + number)
    return total


@FLOWS.flow
async def mapped(run: Run, hour: float) -> list[int]:
    """The same step for each item, and one behind them."""
    squares: list[int] = await run.map("square", work, [number**2 for number in range(5)], at_once=2)
    for number, square in enumerate(squares):
        saw(run, f"square-{number}" if number else "square", square, ordered=False)
    await step(run, "last", sum(squares))
    return squares


@FLOWS.flow
async def racing(run: Run, hour: float) -> bool:
    """Branches that append to one list, whose order must be the same on each replay."""
    order: list[str] = []

    async def branch(name: str, pause: float) -> None:
        for key in (f"{name}0", f"{name}1", f"{name}2"):
            result = await step(run, key, key, pause)
            order.append(result)

    await asyncio.gather(branch("a", 0.003), branch("b", 0.001), branch("c", 0.002))
    return bool(order == await step(run, "order", order))


@FLOWS.flow
async def queued(run: Run, hour: float) -> bool:
    """A branch that works on what other branches put into a queue."""
    queue: asyncio.Queue[str] = asyncio.Queue()
    consumed: list[str] = []

    async def produce(name: str, pause: float) -> None:
        for number in range(2):
            await queue.put(await step(run, f"produce-{name}{number}", f"{name}{number}", pause))

    async def consume() -> None:
        for key in ("consume-0", "consume-1", "consume-2", "consume-3"):
            item = await queue.get()
            consumed.append(await step(run, key, item))

    await asyncio.gather(produce("a", 0.002), produce("b", 0.001), consume())
    return len(set(consumed)) == 4


@FLOWS.flow
async def completed(run: Run, hour: float) -> list[int]:
    """Steps whose results are taken as they come."""
    pauses = (0.004, 0.0, 0.002)
    steps = [step(run, f"s{number}", number, pause) for number, pause in enumerate(pauses)]
    return sorted([await each for each in asyncio.as_completed(steps)])


@FLOWS.flow
async def first_wins(run: Run, hour: float) -> str:
    """A branch that loses is cancelled."""
    tasks = [asyncio.ensure_future(step(run, "slow", "s", 0.05)), asyncio.ensure_future(step(run, "fast", "f"))]
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    await step(run, "last", sorted(task.result() for task in done))
    return "won"


@FLOWS.flow
async def nested(run: Run, hour: float) -> list[str]:
    """Steps inside of a step."""

    async def outer() -> list[str]:
        inside = current_run()
        return [await inside.step("inner", work, "one"), await inside.step("inner", work, "two")]

    first = await step(run, "first", "zero")
    return [first, *saw(run, "outer", await run.step("outer", outer)), await step(run, "last", "three")]


@FLOWS.flow
async def asking(run: Run, hour: float) -> list[Any]:
    """Ask between two steps."""
    return [await step(run, "first", 1), await ask(run, "approve", int), await step(run, "last", 3)]


@FLOWS.flow
async def asking_together(run: Run, hour: float) -> list[int]:
    """Ask two at once, while a third branch works."""

    async def branch(name: str) -> int:
        answer = await ask(run, name)
        done: int = await step(run, f"add-{name}", answer)
        return done

    return list(await asyncio.gather(branch("a"), branch("b"), step(run, "work", 7, 0.002)))


@FLOWS.flow
async def asking_each(run: Run, hour: float) -> list[int]:
    """Ask inside of the steps of a map."""

    async def one(number: int) -> int:
        answer: int = await current_run().interrupt("ask")
        done: int = await current_run().step("add", work, answer + number)
        return done

    return await run.map("item", one, range(3))


@FLOWS.flow
async def impatient(run: Run, hour: float) -> str:
    """Ask with a timeout."""
    answer = await ask(run, "approve", patience=2 * hour)
    await step(run, "then", answer)
    return "late" if answer == "late" else "in time"


@FLOWS.flow
async def sleepy(run: Run, hour: float) -> bool:
    """Sleep, once as a branch of several."""
    began = await run.now("began")
    await run.sleep("nap", hour)
    await asyncio.gather(run.sleep("side", 2 * hour), step(run, "meanwhile", 1))
    return (await run.now("woke") - began).total_seconds() >= 3 * hour


@FLOWS.flow
async def double(run: Run, number: int) -> int:
    """A child that works at once."""
    doubled: int = await step(run, "double", 2 * number)
    return doubled


@FLOWS.flow
async def slow_double(run: Run, numbers: list[float]) -> float:
    """A child that sleeps before it works."""
    await run.sleep("nap", numbers[1])
    doubled: float = await step(run, "double", 2 * numbers[0])
    return doubled


@FLOWS.flow
async def broken(run: Run, number: int) -> None:
    """A child that fails."""
    raise ValueError(await step(run, "why", f"no {number}"))


@FLOWS.flow
async def parental(run: Run, hour: float) -> list[int]:
    """One child, and a step behind it."""
    return [saw(run, "one", await run.child("one", double, 1)), await step(run, "last", 5)]


@FLOWS.flow
async def family(run: Run, hour: float) -> list[Any]:
    """Children, one after the other and at once, one of which fails."""
    one = saw(run, "one", await run.child("one", double, 1))
    rest = await asyncio.gather(run.child("two", slow_double, [2, hour]), run.child("three", double, 3))
    try:
        await run.child("four", broken, 4)
    except FlowFailedError as error:
        why = error.error
    return [one, *rest, why, await step(run, "last", 5)]


@FLOWS.flow
async def trying(run: Run, hour: float) -> list[int]:
    """Retries after a pause in the process, and after one for which the run is suspended."""
    near = Retry(3, first=0.02 * hour / 3600, jitter=False)
    far = Retry(3, first=hour, factor=1, jitter=False)
    return [await step(run, "near", 1, fails=2, retry=near), await step(run, "far", 2, fails=2, retry=far)]


@FLOWS.flow
async def once(run: Run, hour: float) -> list[str]:
    """Steps that must not happen twice."""
    seen = []
    for number in range(3):
        try:
            name = f"once-{number}"
            seen.append(saw(run, name, await run.options(at_most_once=True).step(name, work, "done", once=True)))
        except StepInterruptedError:
            seen.append("interrupted")
    return seen


@FLOWS.flow
async def failing(run: Run, hour: float) -> None:
    """Fail for good, behind a step."""
    await step(run, "first", 1)
    try:
        await step(run, "never", 2, fails=99, retry=Retry(2, first=0))
    except StepFailedError as error:
        raise ValueError(error.error) from error


@FLOWS.flow
async def late(run: Run, hour: float) -> str:
    """Use the run after it was suspended, as only mistakes do."""

    async def background() -> None:
        while True:
            try:
                await asyncio.sleep(0)
                run.progress(beats=1)
                await run.step("beat", work, 1)
            except asyncio.CancelledError:
                if run._drive.late_calls > 3:
                    raise

    try:
        return str(await ask(run, "approve"))
    finally:
        run.progress(cleaned=True)
        task = asyncio.ensure_future(background()) if run._drive.is_over else None
        if task is not None:
            await asyncio.wait([task], timeout=0.2)


@dataclass(frozen=True)
class Sample:
    """A flow, the answers that it needs, and how it may end.

    Attributes:
        flow: The flow.
        results: What it may return.
        answers: The answers by the key of the interrupt.
        error: What the error that ends it says; None: it returns.
    """

    flow: Flow[Any, Any]
    results: tuple[Any, ...] = ()
    answers: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None

    @property
    def name(self) -> str:
        """The name of the flow."""
        return self.flow.name

    def accepts(self, result: Any, error: BaseException | None) -> bool:
        """Return whether a run may end so."""
        if self.error is not None:
            return error is not None and self.error in str(error)
        return error is None and result in self.results


SAMPLES: Final = (
    Sample(sequential, (6,)),
    Sample(mapped, ([0, 1, 4, 9, 16],)),
    Sample(racing, (True,)),
    Sample(queued, (True,)),
    Sample(completed, ([0, 1, 2],)),
    Sample(first_wins, ("won",)),
    Sample(nested, (["zero", "one", "two", "three"],)),
    Sample(asking, ([1, 2, 3],), {"approve": 2}),
    Sample(asking_together, ([1, 2, 7],), {"a": 1, "b": 2}),
    Sample(asking_each, ([1, 2, 3],), {"item/ask": 1, "item-1/ask": 1, "item-2/ask": 1}),
    Sample(impatient, ("in time", "late"), {"approve": "yes"}),
    Sample(sleepy, (True,)),
    Sample(parental, ([2, 5],)),
    Sample(family, ([2, 4, 6, "ValueError: no 4", 5],)),
    Sample(trying, ([1, 2],)),
    Sample(
        once,
        tuple(
            [a, b, c] for a in ("done", "interrupted") for b in ("done", "interrupted") for c in ("done", "interrupted")
        ),
    ),
    Sample(failing, error="attempt 2 of never"),
    Sample(late, ("5",), {"approve": 5}),
)
"""All samples that can be run by themselves, and are not children of others."""
