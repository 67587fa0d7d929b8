"""`flowstate doctor` says what a deployment lacks: by clocks that are wrong, and by the flows of an application."""

from __future__ import annotations

import asyncio
import json
import re
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from firestore_flowstate import UNSET, FirestoreFlowStateStore, FlowState, FlowStateSettings
from firestore_flowstate.flows import Flows
from tests.cli.command import Outcome, Processes
from tests.queues.task_queue_emulator import task_queue_emulator

HERE = str(Path(__file__).parent)


def another_clock(offset: str) -> dict[str, str]:
    """Return the environment of a process whose clock is apart from the emulator's: libfaketime moves it."""
    spec = find_spec("libfaketime")
    assert spec is not None
    assert spec.origin is not None
    library = Path(spec.origin).parent / "vendor" / "libfaketime" / "src" / "libfaketime.so.1"
    assert library.exists()
    return {"LD_PRELOAD": str(library), "FAKETIME": offset, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}


def found(outcome: Outcome) -> list[tuple[str, str | None, str]]:
    findings = [json.loads(line) for line in outcome.out.splitlines()]
    assert (1 if findings else 0) == outcome.code
    return [(finding["kind"], finding["id"], finding["message"]) for finding in findings]


@pytest.mark.parametrize(
    ("offset", "told"),
    [
        ("+0", None),
        ("+1.5", None),
        ("-1.5", None),
        ("+4", r"at least [1-3]\.\d seconds ahead of"),
        ("-4", r"at least [1-3]\.\d seconds behind"),
        ("+3600", r"at least 3,59\d\.\d seconds ahead of"),
    ],
)
def test_the_clock_of_the_machine(flowstate: Processes, offset: str, told: str | None) -> None:
    """A clock over 2 s apart from the server's is a finding. The finding says no more than the answers show."""
    findings = found(flowstate("doctor", "--json", **another_clock(offset)))

    assert [] == findings if told is None else ["clock"] == [kind for kind, _, _ in findings]
    assert told is None or re.search(told, findings[0][2])


class Nowhere:
    async def dispatch(self, id: str, *, wake: str, at: Any = None) -> None:
        """Wake nobody."""

    async def close(self) -> None:
        """Nothing is held."""


async def make_runs(store: FirestoreFlowStateStore) -> None:
    """Make a run of each kind that the doctor looks at, and one flow that is not a run."""
    flows = Flows(store, dispatcher=Nowhere())
    minutes = {"due": 1, "late": 4, "of another": 4, "to come": -60, "just lost": 4, "lost": 9, "saved over": 4}
    now = round(time.time() * 1000)
    for id, since in minutes.items():
        await flows.start("unknown" if id == "of another" else "known", id=id)
        changes: dict[str, Any] = {"extra": {"wakeAt": UNSET if id == "saved over" else now - since * 60_000}}
        if id in ("just lost", "lost", "saved over"):
            state = await store.load(id)
            assert state is not None
            state.operation.metadata = {"run": {"owner": "somebody", "recoveries": 8}}
            changes["operation"] = state.operation
        await store.update(id, **changes)
    waits = FlowState.start(name="known")
    waits.operation.metadata = {"run": {"waits": {"a": {"kind": "interrupt"}}}}
    await store.save("waits for ever", waits)
    ended = FlowState.start(name="unknown")
    ended.operation.metadata, ended.operation.done = {"run": {"ended": "done"}}, True
    await store.save("ended", ended)


LATE = {
    ("late", "late_run", "It has been due for 4 minutes, and nobody has driven it."),
    ("of another", "late_run", "It has been due for 4 minutes, and nobody has driven it."),
    ("lost", "dead_owner", "minutes, and the process that drove it has died, and none has taken it over."),
}


def missing(findings: list[tuple[str, str | None, str]]) -> set[tuple[str | None, str]]:
    """Return what is found beside the runs that are late for sure, which must be there."""
    told = {(id, kind): message for kind, id, message in findings}
    for id, kind, says in LATE:
        assert says in told.pop((id, kind))
    return set(told)


def test_runs_that_nobody_drives(flowstate: Processes, flow_state_store: FirestoreFlowStateStore) -> None:
    """They are found after 3 minutes. One whose owner has died is found after the pause in which nobody may take it."""
    asyncio.run(make_runs(flow_state_store))

    assert set() == missing(found(flowstate("doctor", "--json")))


def test_the_servers_clock_says_what_is_late(flowstate: Processes, flow_state_store: FirestoreFlowStateStore) -> None:
    """The clock of this machine may be wrong, and does not count."""
    asyncio.run(make_runs(flow_state_store))
    for offset in ("+7200", "-7200"):
        assert {(None, "clock")} == missing(found(flowstate("doctor", "--json", **another_clock(offset))))


def test_the_flows_of_an_application(flowstate: Processes, flow_state_store: FirestoreFlowStateStore) -> None:
    """It finds names that it does not know, and a queue that cannot be reached. Misuse exits with 2."""
    asyncio.run(make_runs(flow_state_store))
    away = {"CLOUD_TASKS_EMULATOR_HOST": "127.0.0.1:1", "PYTHONPATH": HERE}
    findings = found(flowstate("doctor", "--flows", "deployment:flows", "--json", **away))
    told = {kind: message for kind, id, message in findings if id is None}

    assert {"queue", "unknown_flow"} == {kind for _, kind in missing(findings)} == set(told)
    assert "The queue drive cannot be reached" in told["queue"]
    assert (
        "1 run of the flow 'unknown' has not ended, and this application has no flow of that name"
        in told["unknown_flow"]
    )
    assert any("This application has no flow 'unknown'" in message for _, id, message in findings if id == "of another")
    for arguments in (["--flows", "deployment:nothing"], ["--flows", "deployment:flows", "--collection", "other"]):
        assert 2 == flowstate("doctor", *arguments, **away).code


def test_an_application_that_lacks_nothing(flowstate: Processes, flow_state_settings: FlowStateSettings) -> None:
    """Its queue is there, and nothing is found."""
    assert flow_state_settings.project is not None
    with task_queue_emulator(flow_state_settings.project, "drive", "http://127.0.0.1:1/") as host:
        outcome = flowstate("doctor", "--flows", "deployment:flows", CLOUD_TASKS_EMULATOR_HOST=host, PYTHONPATH=HERE)

    assert (0, "") == outcome[:2]
    assert outcome.err.endswith("nothing is wrong\n")
