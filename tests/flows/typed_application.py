"""An application as mypy --strict reads it: no cast, and what is wrong is an error. It is checked, and never run."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta

from pydantic import BaseModel
from typing_extensions import assert_type

from firestore_flowstate import FlowState, MemoryFlowStateStore
from firestore_flowstate.flows import BlockingFlowHandle, DriveOutcome, Flow, FlowHandle, Flows, Retry, Run


class Topic(BaseModel):
    title: str


@dataclass
class Article:
    text: str


class Approval(BaseModel):
    ok: bool


flows = Flows(MemoryFlowStateStore())


async def make_outline(topic: Topic, *, parts: int = 3) -> list[str]:
    return [topic.title] * parts


def write_part(title: str) -> Article:
    return Article(title)


@flows.flow
async def publish(run: Run, topic: Topic) -> Article:
    outline = await run.options(retry=Retry(5), timeout=30).step("outline", make_outline, topic, parts=2)
    assert_type(outline, list[str])
    articles = await run.map("draft", write_part, outline, at_once=4)
    assert_type(articles, list[Article])
    both = await asyncio.gather(run.step("one", write_part, "a"), run.step("two", write_part, "b"))
    assert_type(both, tuple[Article, Article])
    assert_type(await run.interrupt("approve", Approval, show=articles, timeout=timedelta(days=3)), Approval)
    await run.sleep("embargo", timedelta(days=1))
    assert_type(await run.child("nap", nap), int)
    assert_type(await run.step("part", write_part, "a"), Article)
    await run.step("outline", make_outline, "no topic")  # type: ignore[call-overload]
    await run.child("publish", publish)  # type: ignore[arg-type]
    return articles[0]


@flows.flow(name="nap", timeout=timedelta(hours=1))
async def nap(run: Run) -> int:
    return 1


assert_type(publish, Flow[Topic, Article])
assert_type(nap, Flow[None, int])


async def application() -> None:
    handle = await flows.start(publish, Topic(title="a"), id="x", extra={"owner": "me"})
    assert_type(handle, FlowHandle[Article])
    assert_type(await handle.result(), Article)
    assert_type(await handle.state(), FlowState | None)
    assert_type(await flows.run(publish, Topic(title="a")), Article)
    assert_type(await flows.run(nap), int)
    assert_type(await flows.drive("x", budget=60), DriveOutcome)
    await flows.start("elsewhere", {"any": "thing"})
    await flows.start(publish)  # type: ignore[arg-type]
    await flows.start(publish, 1)  # type: ignore[misc]
    await flows.run(publish)  # type: ignore[arg-type]
    async with flows, flows.worker(at_once=4):
        pass


def blocking() -> None:
    assert_type(flows.blocking.start(publish, Topic(title="a")).result(), Article)
    assert_type(flows.blocking.run(nap), int)
    assert_type(flows.blocking.drive("x"), DriveOutcome)
    handle = flows.blocking.start(publish, Topic(title="a"), id="x", delay=timedelta(seconds=1))
    assert_type(handle, BlockingFlowHandle[Article])
    assert_type(handle.state(), FlowState | None)
    assert_type(handle.result(timeout=5), Article)
    assert_type(next(handle.watch()), FlowState)
    handle.resume({"ok": True}, step="approve", key="mine")
    handle.cancel("reason")
    handle.retry(from_step="draft")
    assert_type(flows.blocking.sweep(limit=5), int)
    flows.blocking.resume("x", {"ok": True}, step="approve")
    flows.blocking.retry("x", from_step="draft")
    flows.blocking.start(publish)  # type: ignore[arg-type]
    flows.blocking.run(publish)  # type: ignore[arg-type]
    flows.blocking.drive(1)  # type: ignore[arg-type]
    flows.blocking.resume("x", stop="approve")  # type: ignore[call-arg]
    handle.cancel(1)  # type: ignore[arg-type]
