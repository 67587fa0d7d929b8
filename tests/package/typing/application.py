"""An application of durable flows that type checkers accept without a cast. It is checked, and never run."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from pydantic import BaseModel

from firestore_flowstate import FirestoreFlowStateStore
from firestore_flowstate.flows import FlowHandle, Flows, Retry, Run

flows = Flows(FirestoreFlowStateStore())


class Topic(BaseModel):
    title: str


@dataclass
class Approval:
    ok: bool
    why: str = ""


async def make_outline(topic: Topic, *, parts: int) -> list[str]:
    return [topic.title] * parts


def count_words(text: str) -> int:
    return len(text.split())


@flows.flow
async def nightly(run: Run) -> int:
    return 1


@flows.flow(name="publish-article", timeout=timedelta(days=30))
async def publish(run: Run, topic: Topic) -> str:
    outline: list[str] = await run.options(retry=Retry(5)).step("outline", make_outline, topic, parts=3)
    words: list[int] = await run.map("count", count_words, outline)
    answer: Approval = await run.interrupt("approve", Approval, show=outline)
    at: datetime = await run.now()
    await run.sleep("embargo", until=at + timedelta(days=1))
    total: int = await run.child("nightly", nightly)
    run.progress(words=sum(words), total=total)
    return answer.why if answer.ok else run.uuid()


async def main() -> None:
    handle: FlowHandle[str] = await flows.start(publish, Topic(title="cats"), id="article-1")
    text: str = await handle.result()
    number: int = await flows.run(nightly)
    other: int = flows.blocking.run(nightly)
    print(text, number, other)
