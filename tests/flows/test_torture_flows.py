"""The torture test of flows in its short form."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from firestore_flowstate.testing.durability import violations
from tests.flows.torture_flows import torture


async def test_flows_survive_a_round_of_torture() -> None:
    """Processes are killed, stopped and cut off. Every invariant holds, and every run ends."""
    counts = await torture(1, seconds=0, runs=12, round_seconds=4)

    assert counts["runs"] >= 12
    assert counts["step executions"] > counts["runs"]


def told_late() -> Iterator[dict[str, Any]]:
    """Yield the lines of a run that was retried and failed again before whoever retried it was told so."""
    nothing = {"cache": {}, "events": {}, "wake": None, "record": {}, "inbox": {}, "done": False, "error": None}

    def write(number: int, how: str, **about: Any) -> dict[str, Any]:
        form = (
            {"content": {**nothing, **about}}
            if how != "update"
            else {"changes": {"names": ["executions", "extra", "operation"], **about}}
        )
        on = None if number == 1 else str(number - 1)
        return {"what": "write", "run": "x", "process": 1, "number": f"w{number}", "how": how, "on": on, **form}

    def committed(number: int) -> dict[str, Any]:
        return {"what": "committed", "run": "x", "process": 1, "number": f"w{number}", "version": str(number)}

    def claim_and_end(number: int, owner: str, drives: int) -> Iterator[dict[str, Any]]:
        yield write(number, "update", record={"owner": owner, "drives": drives}, wake=9)
        yield committed(number)
        record = {"last": owner, "drives": drives, "ended": "failed"}
        yield write(number + 1, "update", record=record, done=True, error="no", wake=None)
        yield committed(number + 1)

    yield write(1, "create", wake=1)
    yield committed(1)
    yield from claim_and_end(2, "a", 1)
    retried = write(4, "edit", record={"last": "a", "drives": 1}, wake=2)
    yield retried
    yield {"what": "load", "run": "x", "process": 2, "version": "4", "content": retried["content"]}
    yield from claim_and_end(5, "b", 2)
    yield committed(4)


def test_a_retry_that_others_saw_first_is_before_the_end_that_followed() -> None:
    """A busy process may note its write after another one has read it and ended the run. The judge knows."""
    assert [] == violations(list(told_late()))


@pytest.mark.parametrize(("wake", "wrong"), [(None, 0), (7, 1)], ids=["the same", "another"])
def test_two_that_write_the_same_on_one_version_may_both_be_told_that_it_was_committed(
    wake: int | None, wrong: int
) -> None:
    """The reply of one was lost, and what it finds stored is what it wrote. With other content that is a fault."""
    lines = list(told_late())
    [place] = [place for place, line in enumerate(lines) if line["what"] == "write" and line["number"] == "w3"]
    again = {**lines[place], "process": 2, "number": "again", "changes": {**lines[place]["changes"], "wake": wake}}
    told = {**lines[place + 1], "process": 2, "number": "again"}

    assert wrong == len([each for each in violations([*lines, again, told]) if "2 writes were committed" in each])
