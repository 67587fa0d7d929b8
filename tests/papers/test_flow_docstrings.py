"""What a user of durable flows hovers over: the methods tell of their arguments, and their examples run."""

from __future__ import annotations

import asyncio
import inspect
import re
import textwrap
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

import firestore_flowstate.flows
from firestore_flowstate import MemoryFlowStateStore
from firestore_flowstate.flows import BlockingFlows, Flows, Run

EXAMPLE = re.compile(r"^::\n\n((?:    .*\n|\n)+)", re.MULTILINE)
LISTED = (
    *("Flows.flow", "Flows.start", "Flows.resume", "Flows.cancel", "Flows.retry", "Flows.result", "Flows.drive"),
    *("Flows.sweep", "Flows.worker", "Flows.app", "FlowHandle.result", "Retry", "Dispatcher.dispatch"),
    *("Run.step", "Run.options", "Run.map", "Run.interrupt", "Run.sleep", "Run.child"),
)
IN_A_RUN = ("Run", "Retry", "current_run")
IN_A_STEP = ("current_step",)


def documented() -> dict[str, Any]:
    """Return the public names of durable flows, and of the classes their own public members."""
    found: dict[str, Any] = {}
    for name in firestore_flowstate.flows.__all__:
        value = found[name] = getattr(firestore_flowstate.flows, name)
        for member, one in vars(value).items() if inspect.isclass(value) else ():
            if not member.startswith("_") and (inspect.isfunction(one) or isinstance(one, property)):
                found[f"{name}.{member}"] = one
    return found


DOCUMENTED = documented()
EXAMPLES = {
    name: textwrap.dedent(code)
    for name, value in DOCUMENTED.items()
    for code in EXAMPLE.findall(f"{inspect.getdoc(value) or ''}\n")
    if value is not getattr(Flows, name.removeprefix("BlockingFlows."), None) or name.startswith("Flows.")
}


async def make_outline(topic: str) -> str:
    """Return the outline of an article."""
    return f"the {topic}"


async def ask(prompt: str) -> str:
    """Return an answer."""
    return f"{prompt}?"


def write_part(title: str) -> str:
    """Return a part of an article."""
    return f"of the {title}"


async def scene() -> dict[str, Any]:
    """Return what the examples name: flows, functions, a run that waits, one that failed and one that is done."""
    flows = Flows(MemoryFlowStateStore())

    @flows.flow
    async def publish(run: Run, topic: str) -> str:
        await run.step("outline", make_outline, topic)
        await run.interrupt("approve", bool)
        return topic

    @flows.flow
    async def write(run: Run, topic: str) -> str:
        return await run.step("outline", make_outline, topic)

    @flows.flow
    async def review_article(run: Run, topic: str) -> str:
        return topic

    @flows.flow
    async def broken(run: Run) -> None:
        await run.step("outline", make_outline, "rivers")
        raise ValueError

    await flows.start(publish, "rivers", id="order-17")
    async for state in flows.handle("order-17").watch():
        if state.blocked_on_step is not None:
            break
    await flows.run(write, "rivers", id="done-17")
    with pytest.raises(firestore_flowstate.flows.FlowFailedError):
        await flows.run(broken, id="failed-17")
    functions = {"make_outline": make_outline, "ask": ask, "write_part": write_part}
    made = {"publish": publish, "write": write, "review_article": review_article}
    return {**vars(firestore_flowstate), **vars(firestore_flowstate.flows), **functions, **made, "flows": flows} | {
        "asyncio": asyncio,
        "timedelta": timedelta,
    }


def function_of(code: str, parameters: str, names: dict[str, Any], *, is_async: bool = True) -> Callable[..., Any]:
    """Return a function with the code as its body."""
    source = f"{'async ' if is_async else ''}def example({parameters}):\n{textwrap.indent(code, '    ')}"
    exec(compile(source, __file__, "exec", dont_inherit=True), names)  # noqa: S102  # what our own docstrings show
    function: Callable[..., Any] = names["example"]
    return function


async def drive(flows: Flows, function: Callable[..., Any]) -> None:
    """Run a flow with this function, and answer whatever it waits for."""
    handle = await flows.start(flows.flow(function), id="example")
    async for state in handle.watch():
        if state.blocked_on_step is not None:
            await handle.resume(True, step=state.blocked_on_step.name, key=state.blocked_on_step.name)
    await handle.result(timeout=0)


@pytest.mark.parametrize("name", EXAMPLES)
async def test_an_example_runs(name: str) -> None:
    """One of a run runs in a flow, one of a step in a step, one that blocks on a thread, and any other as it stands."""
    names = await scene()
    flows, code = names["flows"], EXAMPLES[name]
    if name.split(".", maxsplit=1)[0] in IN_A_RUN:
        await drive(flows, function_of(code, "run", names))
    elif name in IN_A_STEP:
        step = function_of(code, "", names)

        async def example(run: Run) -> None:
            await run.step("example", step)

        await drive(flows, example)
    elif DOCUMENTED[name] is BlockingFlows:
        await asyncio.to_thread(function_of(code, "", names, is_async=False))
        await asyncio.to_thread(flows.blocking.close)
    else:
        await function_of(code, "", names)()
    await flows.close()


@pytest.mark.parametrize("name", LISTED)
def test_a_docstring_tells_of_each_argument(name: str) -> None:
    """Each argument is named below Args."""
    docstring = inspect.getdoc(DOCUMENTED[name]) or ""
    arguments = [one for one in inspect.signature(DOCUMENTED[name]).parameters if one not in ("self", "_")]

    assert [] == [one for one in arguments if not re.search(rf"^    {one}: ", docstring, re.MULTILINE)]


def test_what_is_called_has_an_example() -> None:
    """So have each method that starts, answers, ends, awaits or drives a run, and each operation of a run."""
    without = {"FlowHandle.result", "Dispatcher.dispatch"}

    assert set() == set(LISTED) - without - set(EXAMPLES)
