"""Mistakes that type checkers find, each on its line with an `E`. It is checked, and never run."""

from __future__ import annotations

from application import Approval, Topic, count_words, flows, make_outline, nightly, publish

from firestore_flowstate.flows import Run


async def main(run: Run) -> None:
    await flows.start(publish)  # E: the input is missing
    await flows.start(publish, 3)  # E: of a wrong type
    await flows.run(publish)  # E
    await flows.run(publish, "cats")  # E
    await run.step("outline", make_outline, Topic(title="cats"))  # E: parts is missing
    await run.step("count", count_words, 3)  # E
    await run.child("publish", publish, 3)  # E
    wrong: int = await run.interrupt("approve", Approval)  # E
    text: str = await flows.run(nightly)  # E
    print(wrong, text)
