"""`flowstate start`, `resume`, `retry`, `cancel`, `history`, `sweep` and `worker`, and lists of what waits."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from firestore_flowstate import FirestoreFlowStateStore, FlowState
from firestore_flowstate.flows import Flows, Run
from tests.cli.command import PATIENCE, Outcome, Processes
from tests.cli.queued import Nobody

HERE = str(Path(__file__).parent)
NEXT = "No dispatcher is configured (--flows): a worker goes on with it, or a sweep from 10 s on."


@pytest.fixture
def kept(flow_state_store: FirestoreFlowStateStore) -> Callable[[str], FlowState]:
    """What is stored of a run."""

    def load(id: str) -> FlowState:
        state = asyncio.run(flow_state_store.load(id))
        assert state is not None
        return state

    return load


@pytest.fixture
def anew(here: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    """What runs the command in this process, with its application imported anew: the command closes its store."""
    monkeypatch.syspath_prepend(HERE)

    def run(*arguments: str, input: str = "") -> Outcome:
        for name in ("application", "queued"):
            sys.modules.pop(name, None)
        monkeypatch.setattr(sys, "stdin", io.StringIO(input))
        return here(*arguments)

    return run


def start(flowstate: Processes, id: str, input: dict[str, Any] | None = None, flow: str = "refund") -> Outcome:
    options = [] if input is None else ["--json", json.dumps(input)]
    return flowstate("start", f"application:{flow}", "--id", id, *options, PYTHONPATH=HERE)


def happened(here: Callable[..., Outcome], id: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in here("history", id, "--json").out.splitlines()]


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def long_ago(store: FirestoreFlowStateStore, id: str) -> None:
    """Have a run be due for an hour."""
    then = round((datetime.now(timezone.utc) - timedelta(hours=1)).timestamp() * 1000)
    asyncio.run(store.update(id, extra={"wakeAt": then}))


def test_a_run_from_start_to_end(
    flowstate: Processes, here: Callable[..., Outcome], flow_state_store: FirestoreFlowStateStore
) -> None:
    """Its code starts it, an answer needs no code, and the next sweep goes on with it. The history tells all of it."""
    assert Outcome(0, "order-17\n", "waits for approve\n") == start(flowstate, "order-17", {"number": 17})
    state = asyncio.run(flow_state_store.load("order-17"))
    assert state is not None
    until = datetime.fromtimestamp(state.wakeAt / 1000, timezone.utc)  # type: ignore[attr-defined]  # an unknown key
    assert f"waits for approve until {until:%Y-%m-%d %H:%M:%S}\n" in here("list").out

    assert (0, f"order-17 has its answer to approve. {NEXT}\n") == here(
        "resume", "order-17", "--step", "approve", "--json", '{"ok": true}', "--key", "mail-1"
    )[:2]
    long_ago(flow_state_store, "order-17")
    assert (0, "1 run driven: 1 done\n") == flowstate("sweep", "--flows", "application:flows", PYTHONPATH=HERE)[:2]

    lines = happened(here, "order-17")
    assert [
        ("start", "refund"),
        ("drive", "1"),
        ("step", "weigh"),
        ("interrupt", "approve"),
        ("drive", "2"),
        ("step", "pay"),
        ("end", "done"),
    ] == [(line["what"], line["name"]) for line in lines]
    assert "v1" == lines[0]["codeVersion"]
    assert 2 == lines[2]["attempts"]
    assert ({"ok": True}, "mail-1") == (lines[3]["answer"], lines[3]["answerKey"])
    assert all("took" in line for line in lines[1:])
    times = [line["at"] for line in lines[1:]]
    assert sorted(times) == times


def test_start_of_a_run_that_is_there_already(
    anew: Callable[..., Outcome], flow_state_store: FirestoreFlowStateStore
) -> None:
    """It tells how the run stands: without a dispatcher nobody wakes one with a delay. One that is due is driven."""
    flows = Flows(flow_state_store)

    @flows.flow
    async def nap(run: Run) -> str:
        return ""

    async def begin() -> int:
        async with flows:
            handle = await flows.start(nap, id="n", delay=timedelta(days=1))
            state = await handle.state()
            assert state is not None
            wake: int = (state.model_extra or {})["wakeAt"]
            return wake

    begins = datetime.fromtimestamp(asyncio.run(begin()) / 1000, timezone.utc)
    with_delay = f"it has not begun: a worker or a sweep drives it from {begins:%Y-%m-%d %H:%M:%S} on\n"

    assert Outcome(0, "n\n", with_delay) == anew("start", "application:nap", "--id", "n")
    long_ago(flow_state_store, "n")
    assert Outcome(0, "n\n", "waits for nap\n") == anew("start", "application:nap", "--id", "n")
    anew("resume", "n", "--step", "nap")
    assert Outcome(0, "n\n", "done\n") == anew("start", "application:nap", "--id", "n")


def test_the_history_of_what_failed(
    flowstate: Processes,
    here: Callable[..., Outcome],
    anew: Callable[..., Outcome],
    flow_state_store: FirestoreFlowStateStore,
) -> None:
    """The error stands in its line, and the stack below. A retry has the run go on from there, and keeps the error.

    What the retry has run again stands there once, as it went the last time.
    """
    start(flowstate, "order-1", {"number": 1, "fails": True})
    here("resume", "order-1", "--json", '{"ok": true}')
    work_until(flowstate, lambda: "failed" in here("list").out)
    printed = here("history", "order-1").out

    assert re.search(
        r"^\d{4}(-\d\d){2} \d\d(:\d\d){2}  step +pay +\d+ ms  RuntimeError: no money$", printed, re.MULTILINE
    )
    assert re.search(r"^\S+ \S+  interrupt +approve +\S+ \S+  answered \{\"ok\": true\}$", printed, re.MULTILINE)
    assert re.search(r"^\S+ \S+  end +failed +\S+ \S+  StepFailedError: .*'pay'", printed, re.MULTILINE)
    assert "Traceback (most recent call last):" in printed
    (failed,) = [line for line in happened(here, "order-1") if line["name"] == "pay"]
    assert "RuntimeError: no money\nat all" == failed["error"]
    assert "in pay" in failed["stacktrace"]

    assert (0, f"order-1 is to be retried. {NEXT}\n") == here("retry", "order-1")[:2]
    lines = happened(here, "order-1")
    assert ["weigh", "approve"] == [line["name"] for line in lines if line["what"] in ("step", "interrupt")]
    assert ("end", "failed") == (lines[-1]["what"], lines[-1]["name"])
    assert "no money" in lines[-1]["error"]
    assert (1, "") == here("retry", "order-1")[:2]

    long_ago(flow_state_store, "order-1")
    assert "1 run driven: 1 failed\n" == anew("sweep", "--flows", "application:flows").out
    lines = happened(here, "order-1")
    (again,) = [line for line in lines if line["name"] == "pay"]
    assert again["at"] > failed["at"]
    assert 2 == [(line["what"], line["name"]) for line in lines].count(("end", "failed"))


def test_a_step_that_fails_is_one_line(
    flowstate: Processes, here: Callable[..., Outcome], flow_state_store: FirestoreFlowStateStore
) -> None:
    """The line has the error, and the history has the traceback."""
    line = "flowstate: The step 'pay' of the run {} failed after 1 attempt, and is not tried again. "
    said = f"{line}RuntimeError: no money\n"
    ended = "failed: StepFailedError: The step 'pay' of the run 'b' failed after 1 attempt: RuntimeError: no money"
    code, out, err = start(flowstate, "b", flow="broke")
    assert (1, "b\n") == (code, out)
    assert err.startswith(said.format("'b'") + ended)
    assert 2 == err.count("\n")

    start(flowstate, "order-9", {"number": 9, "fails": True})
    here("resume", "order-9", "--json", '{"ok": true}')
    long_ago(flow_state_store, "order-9")
    assert Outcome(0, "1 run driven: 1 failed\n", said.format("'order-9'")) == flowstate(
        "sweep", "--flows", "application:flows", PYTHONPATH=HERE
    )


def test_what_an_error_says_is_escaped(
    flowstate: Processes, here: Callable[..., Outcome], flow_state_store: FirestoreFlowStateStore
) -> None:
    """A terminal is not to do what an error or a name says, and the lines of a log are those of the command."""
    text = r"ValueError: \x1b[2J\rflowstate: done\u2028second\x85third"
    failed = "The step 'hide' of the run 'h' failed after 1 attempt"
    line = f"{failed}, and is not tried again. {text}"
    code, out, err = start(flowstate, "h", flow="hidden")
    assert (1, "h\n") == (code, out)
    assert [f"flowstate: {line}", f"failed: StepFailedError: {failed}: {text}\\nfourth"] == err.split("\n")[:-1]

    here("retry", "h")
    long_ago(flow_state_store, "h")

    def has_failed_again() -> bool:
        state = json.loads(here("show", "h").out)
        return state["operation"]["done"] and 2 == len(state["executions"])

    said = work_until(flowstate, has_failed_again)
    assert re.search(rf" WARNING {re.escape(line)}$", said, re.MULTILINE)
    assert re.search(r" INFO Drive 2 of the run 'h' \(hidden\\x1b\[8m\) begins", said)


def test_an_application_that_logs_itself_gets_the_traceback(flowstate: Processes) -> None:
    """The log has it in the form of the application."""
    process = flowstate.start("start", "tests.cli.talkative:broke", "--id", "t", PYTHONPATH=str(Path(HERE).parents[1]))
    _, err = process.communicate(timeout=PATIENCE)

    assert err.startswith(b"own: The step 'pay' of the run 't' failed after 1 attempt, and is not tried again.\n")
    assert b"Traceback (most recent call last):" in err


def work_until(flowstate: Processes, condition: Callable[[], bool]) -> str:
    """Have a worker work until the condition holds, and end it. Return what it said."""
    process = flowstate.start("worker", "application:flows", "--poll", "0.1", PYTHONPATH=HERE)
    eventually(condition)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=PATIENCE)
    assert 0 == process.returncode, err
    return err.decode()


def test_a_worker_hands_over_when_it_is_to_end(
    flowstate: Processes, here: Callable[..., Outcome], flow_state_store: FirestoreFlowStateStore
) -> None:
    """SIGTERM is how a worker ends: the exit code is 0, and what sleeps or is answered later is left as it is."""
    assert Outcome(0, "n\n", "waits for nap\n") == start(flowstate, "n", flow="nap")
    assert (0, f"n has its answer to nap. {NEXT}\n") == here("resume", "n", "--step", "nap")[:2]
    said = work_until(flowstate, lambda: "done" in here("list").out)

    assert "Drive 2 of the run 'n' (nap) ends: done." in said
    assert said.endswith("the worker has ended\n")


def test_a_worker_hands_over_what_it_drives(
    flowstate: Processes, anew: Callable[..., Outcome], kept: Callable[[str], FlowState]
) -> None:
    """On SIGTERM it ends with exit code 0, in the middle of a run that takes an hour, and nobody holds the run then."""
    anew("start", "queued:naps", "--id", "a", "--json", "36000")
    process = flowstate.start("worker", "queued:flows", "--poll", "0.1", PYTHONPATH=HERE)
    eventually(lambda: bool(kept("a").cache))
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=PATIENCE)

    assert 0 == process.returncode
    assert b"handed over" in err
    left = kept("a")
    assert not left.operation.done
    assert left.operation.metadata is not None
    assert "owner" not in left.operation.metadata["run"]


def test_a_worker_drives_as_many_at_once_as_it_is_told(
    flowstate: Processes, here: Callable[..., Outcome], anew: Callable[..., Outcome]
) -> None:
    """With --at-once 1 each drive ends before the next one begins."""
    for id in ("a", "b", "c"):
        anew("start", "queued:naps", "--id", id, "--json", "1")
    process = flowstate.start("worker", "queued:flows", "--at-once", "1", "--poll", "0.1", PYTHONPATH=HERE)
    eventually(lambda: here("count", "--status", "done").out == "3\n")
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=PATIENCE)

    assert 3 * ["begins", "ends"] == re.findall(r"Drive 1 of the run '[abc]' \(naps\) (begins|ends)", err.decode())


def test_a_dispatcher_is_told(
    anew: Callable[..., Outcome], flow_state_store: FirestoreFlowStateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Commands tell that of the application: of a start, also of a run that is there, of a retry and by a sweep."""
    for _ in range(2):
        assert Outcome(0, "a\n", "the dispatcher wakes it\n") == anew("start", "queued:ask", "--id", "a")
    monkeypatch.setenv("FLOWSTATE_FLOWS", "queued:flows")
    anew("cancel", "a")
    assert "a is to be retried. The dispatcher wakes it.\n" == anew("retry", "a").out
    for id in ("a", "b", "c"):
        anew("start", "queued:ask", "--id", id)
        long_ago(flow_state_store, id)

    for limit, swept in (("2", "2 runs dispatched\n"), ("1000", "3 runs dispatched\n")):
        assert (0, swept) == anew("sweep", "--limit", limit)[:2]


def test_a_run_that_nobody_can_read_holds_up_no_sweep(
    anew: Callable[..., Outcome], flow_state_store: FirestoreFlowStateStore, kept: Callable[[str], FlowState]
) -> None:
    """The sweep names it, drives all others that are due, and has failed."""
    elsewhere = Flows(flow_state_store, dispatcher=Nobody())
    for id in ("a", "b", "c"):
        asyncio.run(elsewhere.start("nap", id=id))
        long_ago(flow_state_store, id)
    operation = kept("b").operation
    operation.metadata["run"]["intents"] = 5  # type: ignore[index]  # the record of a run
    asyncio.run(flow_state_store.update("b", operation=operation))

    swept = anew("sweep", "--flows", "application:flows")

    assert (1, "2 runs driven: 2 waiting\n") == swept[:2]
    assert re.fullmatch(r"flowstate: b cannot be driven: .*operation\.metadata\.run.*intents.*\n", swept.err)


def test_a_sweep_begins_no_more_than_its_limit(
    anew: Callable[..., Outcome], here: Callable[..., Outcome], flow_state_store: FirestoreFlowStateStore
) -> None:
    """Drives that go on at the same time count. Runs of other applications, which are passed over, do not."""
    elsewhere = Flows(flow_state_store, dispatcher=Nobody())
    for name, number in (("theirs", 3), ("nap", 20)):
        for place in range(number):
            asyncio.run(elsewhere.start(name, id=f"{name}-{place}"))
            long_ago(flow_state_store, f"{name}-{place}")

    def swept(limit: int) -> tuple[str, str]:
        return anew("sweep", "--flows", "application:flows", "--limit", str(limit)).out, here(
            "count", "--blocked-on", "nap"
        ).out

    assert ("1 run driven: 1 waiting\n", "1\n") == swept(1)
    assert ("5 runs driven: 5 waiting\n", "6\n") == swept(5)
    assert ("14 runs driven: 14 waiting\n", "20\n") == swept(15)


def test_json_from_standard_input(anew: Callable[..., Outcome], here: Callable[..., Outcome]) -> None:
    """`--json -` reads an input or an answer there."""
    begun = anew("start", "application:refund", "--id", "i", "--json", "-", input='{"number": 4}\n')
    answered = anew("resume", "i", "--step", "approve", "--json", "-", input='{"ok": false}\n')

    assert Outcome(0, "i\n", "waits for approve\n") == begun
    assert (0, f"i has its answer to approve. {NEXT}\n") == answered[:2]
    assert {"number": 4} == json.loads(here("show", "i").out)["input"]
    assert [{"ok": False}] == [line["answer"] for line in happened(here, "i") if line["what"] == "answer"]


def test_cancel_what_nobody_drives(flowstate: Processes, here: Callable[..., Outcome]) -> None:
    """The run has ended at once, and the reason is kept."""
    start(flowstate, "order-2", {"number": 2})

    assert (0, "order-2 has ended: cancelled.\n") == here("cancel", "order-2", "--reason", "too late")[:2]
    assert "cancelled: too late" == happened(here, "order-2")[-1]["error"]
    assert (1, "") == here("resume", "order-2", "--json", '{"ok": true}')[:2]


def test_the_history_of_a_run_that_was_cancelled_while_it_waited(
    flowstate: Processes, here: Callable[..., Outcome]
) -> None:
    """It ended when it was cancelled, and waited until then. A retry keeps that, and is another drive."""
    start(flowstate, "order-5", {"number": 5})
    before = time.time() * 1000
    here("cancel", "order-5", "--reason", "too late")
    lines = happened(here, "order-5")

    assert [("drive", "1"), ("step", "weigh"), ("waits", "approve"), ("end", "cancelled")] == [
        (line["what"], line["name"]) for line in lines[1:]
    ]
    assert before <= lines[-1]["at"] <= time.time() * 1000
    assert lines[-1]["at"] == lines[-2]["at"] + lines[-2]["took"]
    (listed,) = [json.loads(line) for line in here("list", "--json").out.splitlines()]
    assert lines[-1]["at"] == listed["lastEndTime"]

    here("retry", "order-5")
    assert ["start", "drive", "step", "waits", "end"] == [line["what"] for line in happened(here, "order-5")]
    assert re.search(r"  end +cancelled +\S+ \S+ +cancelled: too late", here("history", "order-5").out)


def test_the_history_of_a_run_that_failed_while_it_waited(
    here: Callable[..., Outcome], flow_state_store: FirestoreFlowStateStore
) -> None:
    """One branch failed, and what another waited for then stays."""
    flows = Flows(flow_state_store)

    async def fail() -> None:
        raise RuntimeError("no money")

    async def pay(run: Run) -> None:
        await run.interrupt("first", bool)
        await run.step("pay", fail)

    @flows.flow
    async def both(run: Run) -> None:
        await asyncio.gather(pay(run), run.interrupt("second", bool))

    async def work() -> None:
        async with flows:
            handle = await flows.start(both, id="f")
            answered = False
            async for state in handle.watch():
                if not answered and state.blocked_on_step is not None:
                    answered = True
                    await handle.resume(True, step="first")
                if state.operation.done:
                    return

    asyncio.run(work())
    waits, end = [line for line in happened(here, "f") if line["what"] in ("waits", "end")]

    assert ("second", "failed") == (waits["name"], end["name"])
    assert end["at"] == waits["at"] + waits["took"]


def test_what_waits_beside_a_branch_that_goes_on(
    flowstate: Processes, here: Callable[..., Outcome], kept: Callable[[str], FlowState]
) -> None:
    """The list has the end of the lease, since the wait itself has none."""
    process = flowstate.start("start", "application:apart", "--id", "p", PYTHONPATH=HERE)
    eventually(lambda: "waits for approve" in here("list").out)
    process.kill()
    process.wait()
    state = kept("p")
    until = datetime.fromtimestamp((state.model_extra or {})["wakeAt"] / 1000, timezone.utc)

    assert "owner" in state.operation.metadata["run"]
    assert f"waits for approve until {until:%Y-%m-%d %H:%M:%S}\n" in here("list").out
    (wait,) = [line for line in happened(here, "p") if line["what"] == "waits"]
    assert "until" not in wait


def test_cancel_what_is_driven(
    flowstate: Processes, here: Callable[..., Outcome], kept: Callable[[str], FlowState]
) -> None:
    """The driver of the run ends it. Until then the history shows the request."""
    process = flowstate.start("start", "application:stuck", "--id", "s", PYTHONPATH=HERE)
    eventually(lambda: "s  " in here("list").out)
    process.kill()
    process.wait()

    assert "s is to be cancelled. The process that drives it sees that" in here("cancel", "s", "--reason", "why").out
    assert [("cancel", "why")] == [
        (line["what"], line["reason"]) for line in happened(here, "s") if line["what"] == "cancel"
    ]
    assert "goes on, lease until" in here("history", "s").out


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["resume", "x", "--json", "yes"], 2, "--json takes JSON"),
        (["resume", "nowhere"], 1, "There is no run 'nowhere'"),
        (["retry", "nowhere"], 1, "There is no run 'nowhere'"),
        (["cancel", "nowhere"], 1, "There is no run 'nowhere'"),
        (["history", "nowhere"], 1, "There is no flow state 'nowhere'"),
        (["resume", "x", "--flows", "json"], 2, "is not MODULE:NAME"),
        (["resume", "x", "--flows", "no_such_module:flows"], 2, "cannot be imported: ModuleNotFoundError"),
        (["resume", "x", "--flows", "json:flows"], 2, "the module json has no flows"),
        (["resume", "x", "--flows", "json:dumps"], 2, "is a function, not a Flows"),
        (
            ["resume", "x", "--flows", "application:flows", "--project", "demo-x"],
            2,
            "leave out the options that name a project",
        ),
        (["start", "application:flows"], 2, "is a Flows, not a flow"),
        (["start", "sys:maxsize"], 2, "sys:maxsize is an int, not a flow"),
        (["start", "application.py:refund"], 2, "is the path of a file: name the module, as in application:refund"),
        (["start", "./application:refund"], 2, "is the path of a file: name the module, as in application:refund"),
        (["start", "shop/application.py:refund"], 2, "name the module, as in shop.application:refund"),
        (["start", ".application:refund"], 2, "is not MODULE:NAME"),
        (["start", "application: refund"], 2, "is not MODULE:NAME"),
        (["start", "exits:refund"], 2, "the module exits cannot be imported: SystemExit: 3"),
        (["start", "unfinished:refund"], 2, "unfinished cannot be imported: JSONDecodeError: "),
        (["start", "unfinished:refund"], 2, f"({os.path.relpath(Path(HERE) / 'unfinished.py')}:7)"),
        (["start", "application:refund"], 2, "needs an input"),
        (["start", "application:refund", "--json", '{"number": "x"}'], 2, "does not fit the flow 'refund'"),
        (["sweep"], 2, "--flows MODULE:FLOWS"),
    ],
)
def test_misuse(
    here: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, says: str
) -> None:
    """The error is one line that says what to do."""
    monkeypatch.syspath_prepend(HERE)
    outcome = here(*arguments)

    assert says in outcome.err
    assert (code, "") == outcome[:2]


def test_an_application_with_a_syntax_error(
    here: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The message has its file and line once."""
    tmp_path.joinpath("unclosed.py").write_text("import os\nx = (1\n")
    monkeypatch.syspath_prepend(str(tmp_path))

    outcome = here("start", "unclosed:refund")

    assert re.search(
        r"unclosed cannot be imported: SyntaxError: [^(]*'\(' was never closed \(.*unclosed\.py:2\)$",
        outcome.err.strip(),
    )
    assert 1 == outcome.err.count(":2)")
    assert "line 2" not in outcome.err


@pytest.mark.parametrize(
    "command",
    ['start application:refund --json {"number":1}', "sweep --flows application:flows", "worker application:flows",
     "doctor --flows application:flows", "resume x --flows application:flows"],
)  # fmt: skip
def test_the_store_of_an_application_that_cannot_be_reached(flowstate: Processes, command: str) -> None:
    """It is named at once, as that of the options is, and not after all the time that a call may take: here an hour."""
    outcome = flowstate(
        *command.split(), PYTHONPATH=HERE, FIRESTORE_EMULATOR_HOST="127.0.0.1:9", FLOWSTATE_TIMEOUT="3600"
    )

    assert (1, "") == outcome[:2]
    assert "127.0.0.1:9 refuses connections" in outcome.err


def test_an_answer_that_does_not_fit(flowstate: Processes, here: Callable[..., Outcome]) -> None:
    """The stored schema refuses it. A retry from a step that does not exist is refused too."""
    start(flowstate, "order-3", {"number": 3})
    refused = here("resume", "order-3", "--json", '{"ok": "maybe"}')

    assert (2, "") == refused[:2]
    assert "does not fit" in refused.err
    here("cancel", "order-3")
    assert (2, "") == here("retry", "order-3", "--from-step", "nothing")[:2]
    assert (0, f"order-3 is to be retried. {NEXT}\n") == here("retry", "order-3", "--from-step", "weigh")[:2]


def test_an_answer_that_was_forgotten(flowstate: Processes, here: Callable[..., Outcome]) -> None:
    """It is null, as JSON has it, and the error says how to give one."""
    start(flowstate, "order-6", {"number": 6})
    code, out, err = here("resume", "order-6")

    assert (2, "") == (code, out)
    assert (
        "flowstate: The answer to 'approve' of the run 'order-6' does not fit: null is not of type 'object'. "
        "Without --json the answer is null: give it by --json\n"
    ) == err


def test_an_answer_to_a_run_whose_owner_has_died(
    flowstate: Processes, here: Callable[..., Outcome], flow_state_store: FirestoreFlowStateStore
) -> None:
    """Nobody drives it, and whoever comes may claim it."""
    process = flowstate.start("start", "application:apart", "--id", "p", PYTHONPATH=HERE)
    eventually(lambda: "waits for approve" in here("list").out)
    process.kill()
    process.wait()
    long_ago(flow_state_store, "p")

    answered = here("resume", "p", "--step", "approve", "--json", '{"ok": true}')
    assert (0, f"p has its answer to approve. {NEXT}\n") == answered[:2]


def test_the_lease_is_that_of_the_application(
    flowstate: Processes,
    here: Callable[..., Outcome],
    anew: Callable[..., Outcome],
    flow_state_store: FirestoreFlowStateStore,
) -> None:
    """Its lease of 20 s has a grace of 2 s. Without an application it is that of a lease of 60 s, which is 6 s."""
    process = flowstate.start("start", "application:stuck", "--id", "s", PYTHONPATH=HERE)
    eventually(lambda: "s  " in here("list").out)
    process.kill()
    process.wait()
    then = datetime.now(timezone.utc) - timedelta(seconds=3)
    asyncio.run(flow_state_store.update("s", extra={"wakeAt": round(then.timestamp() * 1000)}))

    assert "s is to be cancelled. The process that drives it" in here("cancel", "s").out
    assert (0, "s has ended: cancelled.\n") == anew("cancel", "s", "--flows", "application:flows")[:2]


def test_cancel_what_has_ended(flowstate: Processes, here: Callable[..., Outcome]) -> None:
    """A run that is done was not cancelled, which is a failure. One that was cancelled before is what was wanted."""
    start(flowstate, "order-7", {"number": 7})
    here("resume", "order-7", "--json", '{"ok": false}')
    work_until(flowstate, lambda: "done" in here("list").out)
    start(flowstate, "order-8", {"number": 8})

    assert Outcome(1, "", "flowstate: order-7 was not cancelled: it has ended: done.\n") == here("cancel", "order-7")
    assert 2 * [(0, "order-8 has ended: cancelled.\n")] == [here("cancel", "order-8")[:2] for _ in range(2)]


def test_an_answer_before_it_is_asked_for(flowstate: Processes, here: Callable[..., Outcome]) -> None:
    """The answer is kept, and the history shows it."""
    start(flowstate, "order-4", {"number": 4})

    assert (
        "order-4 has its answer to later, which is kept until the run asks for it. "
        "It waits for an answer to approve now.\n" == here("resume", "order-4", "--step", "later", "--json", "[1]").out
    )
    assert [("waits", "approve"), ("answer", "later")] == [
        (line["what"], line["name"]) for line in happened(here, "order-4")[-2:]
    ]


def test_the_history_of_more_than_waits(
    here: Callable[..., Outcome], flow_state_store: FirestoreFlowStateStore
) -> None:
    """It shows open waits with their ends, children, and the time of what nobody timed."""
    flows = Flows(flow_state_store)

    @flows.flow
    async def small(run: Run) -> int:
        return await run.interrupt("number", int)

    @flows.flow
    async def large(run: Run) -> None:
        await run.now()
        await run.child("ask", small, id="small-1")

    async def begin() -> None:
        async with flows:
            handle = await flows.start(large, id="large-1")
            async for state in handle.watch():
                if state.blocked_on_step is not None and "owner" not in state.operation.metadata["run"]:
                    return

    asyncio.run(begin())
    waits = happened(here, "large-1")[-1]

    assert ("waits", "ask", "child", "small-1") == (waits["what"], waits["name"], waits["kind"], waits["child"])
    assert "child of large-1" in here("history", "small-1").out
    assert re.search(r"waits +ask +run small-1, until \d{4}", here("history", "large-1").out)
    assert re.search(r"  now +now ", here("history", "large-1").out)


def test_the_history_of_what_genkit_left(here: Callable[..., Outcome], store: object) -> None:
    """The steps stand without times, in the order in which they are stored."""
    assert ["reserve", "charge", "ship"] == [
        line["name"] for line in happened(here, "order-1001") if line["what"] == "step"
    ]
