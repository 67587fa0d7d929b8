"""An application whose flows the command drives: a shop that asks before it pays back."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from pydantic import BaseModel

from firestore_flowstate import FirestoreFlowStateStore
from firestore_flowstate.flows import Flows, Retry, Run, current_step

flows = Flows(FirestoreFlowStateStore(), lease=timedelta(seconds=20), version="v1")


class Order(BaseModel):
    number: int
    fails: bool = False


class Approval(BaseModel):
    ok: bool


def weigh(order: Order) -> int:
    """Succeed at the second attempt."""
    if current_step().attempt == 1:
        raise ConnectionError("the scales are busy")
    return 3 * order.number


async def pay(order: Order) -> str:
    if order.fails:
        raise RuntimeError("no money\nat all")
    return f"paid {order.number}"


@flows.flow
async def refund(run: Run, order: Order) -> str:
    weight = await run.options(retry=Retry(first=0.01)).step("weigh", weigh, order)
    answer = await run.interrupt("approve", Approval, show={"weight": weight}, timeout=timedelta(days=3))
    if not answer.ok:
        return "refused"
    return await run.step("pay", pay, order)


@flows.flow
async def broke(run: Run) -> str:
    return await run.step("pay", pay, Order(number=1, fails=True))


def hide() -> None:
    """Fail with a text that would clear a terminal, go back to the beginning of its line, and add lines of its own."""
    raise ValueError("\x1b[2J\rflowstate: done\u2028second\x85third\nfourth")


@flows.flow(name="hidden\x1b[8m")
async def hidden(run: Run) -> None:
    await run.step("hide", hide)


async def wait_long() -> None:
    await asyncio.sleep(3600)


@flows.flow
async def stuck(run: Run) -> None:
    await run.step("wait", wait_long)


@flows.flow
async def apart(run: Run) -> None:
    await asyncio.gather(run.interrupt("approve", Approval), run.step("wait", wait_long))


@flows.flow
async def nap(run: Run) -> str:
    await run.sleep("nap", timedelta(days=1))
    return "awake"
