"""An article as a durable flow: outlined, drafted in parallel, approved by a person, and held back until its day.

A pretend model writes, so that it runs without an account. `make demo` runs it with a crash in the middle. By hand, in
this folder and with FIRESTORE_EMULATOR_HOST set, each in a terminal of its own:

    flowstate worker article:flows
    flowstate start article:article --json '"cats"' --id article-1
    flowstate resume article-1 --step approve --json '{"ok": true}'
    flowstate resume article-1 --step embargo
    flowstate history article-1
"""

from __future__ import annotations

import asyncio
from datetime import timedelta

from pydantic import BaseModel

from firestore_flowstate import FirestoreFlowStateStore
from firestore_flowstate.flows import Flows, Run, current_step

SECONDS_A_SENTENCE = 0.25  # so that a person can read along, and a crash comes in the middle

# A lease of 2 s has another process go on soon after a crash. The default is 60 s, which writes less.
flows = Flows(FirestoreFlowStateStore(), lease=timedelta(seconds=2))


class Section(BaseModel):
    """What a section is to be about, and how long it is to be."""

    heading: str
    sentences: int


class Approval(BaseModel):
    """What an editor says of the drafts."""

    ok: bool
    why: str = ""


class RejectedError(Exception):
    """The editor does not want the article."""


@flows.flow
async def article(run: Run, topic: str) -> str:
    """Write an article about a topic, and publish it a day after it was approved."""
    sections = await run.step("outline", outline, topic)
    drafts = await run.map("draft", draft, sections)  # in parallel
    answer = await run.interrupt("approve", Approval, show=drafts, timeout=timedelta(days=3))  # no process waits
    if not answer.ok:
        raise RejectedError(answer.why)
    await run.sleep("embargo", timedelta(days=1))
    return await run.step("publish", publish, topic, drafts)


async def outline(topic: str) -> list[Section]:
    """Say what the article is to have."""
    await asyncio.sleep(SECONDS_A_SENTENCE)
    print(f"    outline: three sections about {topic}", flush=True)
    return [
        Section(heading=f"Why {topic} sleep", sentences=2),
        Section(heading=f"What {topic} eat", sentences=6),
        Section(heading=f"How {topic} rule the house", sentences=8),
    ]


async def draft(section: Section) -> str:
    """Write a section, sentence by sentence."""
    for number in range(1, section.sentences + 1):
        await asyncio.sleep(SECONDS_A_SENTENCE)
        bar = f"{'#' * number}{'.' * (section.sentences - number)}"
        said = "drafted" if number == section.sentences else "drafting"
        print(f"    {current_step().key:<8} {bar:<8} {said} {section.heading!r}", flush=True)
    return f"{section.heading}. " * section.sentences


async def publish(topic: str, drafts: list[str]) -> str:
    """Put the article online."""
    await asyncio.sleep(SECONDS_A_SENTENCE)
    print(f"    publish: {len(drafts)} sections", flush=True)
    return f"https://example.com/{topic}"
