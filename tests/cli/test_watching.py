"""`flowstate watch`, as a process beside the writers that it watches."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections.abc import Callable

import pytest

from firestore_flowstate import BlockedOnStep, CacheEntry, FlowResult, Operation, SyncFlowStateStore
from tests.cli.command import PATIENCE, Outcome, Processes
from tests.cli.test_terminal import Terminal


def lines(process: subprocess.Popen[bytes]) -> Callable[[], str]:
    """Return what reads the next line of a process's output, without its time."""
    assert process.stdout is not None
    out = process.stdout
    return lambda: re.sub(r"^\d\d:\d\d:\d\d  ", "", out.readline().decode()).rstrip("\n")


def test_watch_a_flow(flowstate: Processes, store: SyncFlowStateStore) -> None:
    """Its status and steps, as they come, until it is done."""
    process = flowstate.start("watch", "order-1002", "--until", "done")
    following = lines(process)
    seen = [following(), following()]
    store.update("order-1002", blocked_on_step=None, cache={"approve": CacheEntry(value=True)})
    seen += [following(), following()]
    store.update("order-1002", operation=Operation(name="op", done=True), cache={"ship": CacheEntry(value=1)})
    seen += [following(), following()]

    assert ["step reserve", "blocked: waits for approve", "step approve", "running", "step ship", "done"] == seen
    assert 0 == process.wait(PATIENCE)


def test_watch_until_it_cannot_be(flowstate: Processes, store: SyncFlowStateStore) -> None:
    """A flow that fails is never done. As JSON each change is a line."""
    process = flowstate.start("watch", "order-1002", "--until", "done", "--json")
    following = lines(process)
    first = json.loads(following())
    failed = Operation(name="op", done=True, result=FlowResult(error="no\nway"))
    store.update("order-1002", operation=failed)
    last = json.loads(following())

    assert ("blocked", "approve", ["reserve"]) == (first["status"], first["blockedOn"], first["newSteps"])
    assert ("failed", "no\nway", []) == (last["status"], last["error"], last["newSteps"])
    assert 1 == process.wait(PATIENCE)


def test_watch_what_is_not_there_yet(flowstate: Processes, store: SyncFlowStateStore) -> None:
    """It waits for the flow, and says when it was deleted."""
    process = flowstate.start("watch", "later", "--until", "done")
    following = lines(process)
    seen = [following()]
    state = store.load("order-1002")
    assert state is not None
    state.cache, state.blocked_on_step = {}, BlockedOnStep(name="you")
    store.save("later", state)
    seen.append(following())
    store.delete("later")
    seen.append(following())

    assert ["there is no flow state 'later'; waiting for it", "blocked: waits for you", "deleted"] == seen
    assert 1 == process.wait(PATIENCE)


def test_watch_the_list(flowstate: Processes, store: SyncFlowStateStore) -> None:
    """The command prints a line for each flow that changes, if there is no terminal to draw on."""
    process = flowstate.start("watch", "--name", "checkout")
    following = lines(process)
    seen = [following() for _ in range(3)]
    store.update("order-1002", blocked_on_step=None)
    seen.append(following())
    store.delete("order-1001")
    seen.append(following())

    assert [
        "order-1001  checkout  done",
        "order-1002  checkout  blocked  waits for approve",
        "order-1003  checkout  failed  Card declined",
        "order-1002  checkout  running",
        "order-1001  is not on the page any more",
    ] == seen


def test_watch_the_list_on_a_terminal(flowstate: Processes, store: SyncFlowStateStore) -> None:
    """The table is drawn anew, until it is interrupted."""
    terminal = Terminal()
    try:
        process = flowstate.start("watch", stdin=terminal.end, stdout=terminal.end, stderr=terminal.end)
        terminal.wait_for("Card declined")
        store.update("order-1002", operation=Operation(name="op", done=True, result=FlowResult(error="Too late")))
        terminal.wait_for("Too late")
        process.send_signal(signal.SIGINT)

        assert 130 == process.wait(PATIENCE)
    finally:
        terminal.close()


@pytest.mark.parametrize("arguments", ["--until done", "id --status done", "id --until never"])
def test_watch_wants_what_fits(here: Callable[..., Outcome], arguments: str) -> None:
    """An ID for --until, and filters for the list."""
    assert 2 == here("watch", *arguments.split()).code
