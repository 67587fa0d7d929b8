"""Python goes on with whatever Genkit JS has left, and Genkit JS with what Python has left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from firestore_flowstate import FirestoreFlowStateStore
from firestore_flowstate.flows import Flows, Run
from tests.genkit_js.genkit_peer import Genkit

FALSY: dict[str, Any] = {"zero": 0, "text": "", "no": False, "nothing": None}
KEPT = {"list": [0, False, "", None]}


class Trip:
    """Python's twin of the flow of peer.js.

    Attributes:
        begun: The steps that Python has begun.
        may_end: Set while the last step may end.
    """

    def __init__(self, store: FirestoreFlowStateStore) -> None:
        self.begun: list[str] = []
        self.may_end = asyncio.Event()
        self.may_end.set()
        self.flows = Flows(store)

        async def give(name: str, value: Any) -> Any:
            self.begun.append(name)
            return value

        async def finish() -> str:
            self.begun.append("last")
            await self.may_end.wait()
            return "Python"

        @self.flows.flow
        async def trip(run: Run, input: Any) -> dict[str, Any]:
            falsy = [await run.step(name, give, name, value) for name, value in FALSY.items()]
            kept = await run.step("kept", give, "kept", KEPT)
            await run.sleep("nap", 3600)
            await run.sleep("nap", 3600)
            sure = await run.interrupt("sure", dict[str, Any])
            return {"falsy": falsy, "kept": kept, "sure": sure, "last": await run.step("last", finish)}

        app = self.flows.app(verify=None, genkit=True)
        self.http = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://flows.test")

    async def send(self, **envelope: Any) -> dict[str, Any]:
        """Send an envelope to Python. Return the operation."""
        answer = await self.http.post("/trip", json=envelope)
        assert answer.status_code == 200, answer.text
        return answer.json()  # type: ignore[no-any-return]  # an operation

    async def wake(self, id: str, step: str) -> None:
        """End a sleep, and return when the run waits again. The flows' own dispatcher may be the first to drive it."""
        await self.flows.resume(id, step=step)
        while await self.flows.drive(id) == "busy":  # noqa: ASYNC110  # in this process, but nothing tells of it
            await asyncio.sleep(0.01)

    async def blocked_on(self, id: str) -> str | None:
        """Return the step that the stored run waits for."""
        state = await self.flows.store.load(id)
        assert state is not None
        return None if state.blocked_on_step is None else state.blocked_on_step.name


@pytest.fixture
async def trip(native: FirestoreFlowStateStore) -> AsyncIterator[Trip]:
    trip = Trip(native)
    async with trip.http:
        yield trip
    await trip.flows.close()


def started_there(genkit: Genkit) -> str:
    """Have Genkit JS start a run, which it leaves sleeping. Return its id."""
    id: str = genkit.call("trip", {"start": {"input": {}}})["name"]
    return id


@pytest.mark.parametrize("sleeps", [1, 2])
async def test_python_goes_on_with_what_sleeps(trip: Trip, genkit: Genkit, sleeps: int) -> None:
    """It does so when the task of Genkit JS comes. A run there blocks on nap-1 in its first sleep, then on nap-2.

    Steps that it has recorded are not run again. Its falsy results are None, since it keeps them as empty.
    """
    id = started_there(genkit)
    if sleeps == 2:
        genkit.call("trip", {"runScheduled": {"flowId": id}})
    assert f"nap-{sleeps}" == await trip.blocked_on(id)

    await trip.send(runScheduled={"flowId": id})
    if sleeps == 1:
        assert "nap-1" == await trip.blocked_on(id)  # Python's second sleep, which has a wake time
        await trip.wake(id, "nap-1")
    assert "sure" == await trip.blocked_on(id)
    operation = await trip.send(resume={"flowId": id, "payload": {"by": "ada"}})

    assert ["last"] == trip.begun
    assert {
        "falsy": [None] * 4,
        "kept": KEPT,
        "sure": {"by": "ada"},
        "last": "Python",
    } == operation["result"]["response"]


async def test_python_retries_what_failed(trip: Trip, genkit: Genkit) -> None:
    """The answer is what the function of Genkit JS made of it, since that was recorded."""
    id = started_there(genkit)
    for _ in range(2):
        genkit.call("trip", {"runScheduled": {"flowId": id}})
    genkit.call("fail", True)
    failed = genkit.call("trip", {"resume": {"flowId": id, "payload": {"by": "ada"}}})
    assert (True, "no luck") == (failed["done"], failed["result"]["error"])

    operation = await trip.send(retry={"flowId": id})

    assert ["last"] == trip.begun
    assert {"by": "ada", "seen": "Genkit JS"} == operation["result"]["response"]["sure"]
    assert "Python" == operation["result"]["response"]["last"]


async def test_genkit_goes_on_with_what_waits(trip: Trip, genkit: Genkit) -> None:
    """Its replay sees Python's values, falsy ones too. Of what has no value it sees undefined, as of its own."""
    id = (await trip.send(start={"input": {}}))["name"]
    for step in ("nap", "nap-1"):
        await trip.wake(id, step)
    assert "sure" == await trip.blocked_on(id)
    operation = genkit.call("trip", {"resume": {"flowId": id, "payload": {"by": "ada"}}})

    assert ["last"] == genkit.call("begun")
    assert {
        "falsy": [0, "", False, "undefined"],
        "kept": KEPT,
        "sure": {"by": "ada", "seen": "Genkit JS"},
        "last": "Genkit JS",
    } == operation["result"]["response"]


async def test_genkit_goes_on_with_what_was_cancelled_and_retried(trip: Trip, genkit: Genkit) -> None:
    """Python's stretches have keys that Genkit JS does not know, of the end without a drive and of the retry."""
    id = (await trip.send(start={"input": {}}))["name"]
    for step in ("nap", "nap-1"):
        await trip.wake(id, step)
    await trip.flows.cancel(id, "too late")
    state = await trip.flows.store.load(id)
    assert state is not None
    assert ["driven", "waits"] == sorted(state.executions[-1].model_extra or ())
    await trip.flows.retry(id)
    while await trip.flows.drive(id) == "busy":  # noqa: ASYNC110  # in this process, but nothing tells of it
        await asyncio.sleep(0.01)
    assert "sure" == await trip.blocked_on(id)
    operation = genkit.call("trip", {"resume": {"flowId": id, "payload": {"by": "ada"}}})

    assert {"by": "ada", "seen": "Genkit JS"} == operation["result"]["response"]["sure"]


async def test_genkit_goes_on_with_what_sleeps(trip: Trip, genkit: Genkit) -> None:
    """It keeps no wake times, so it sleeps anew, and then goes on. Python leaves alone what has ended."""
    id = (await trip.send(start={"input": {}}))["name"]
    assert "nap" == await trip.blocked_on(id)
    for blocked_on in ("nap-1", "nap-2", "sure"):
        genkit.call("trip", {"runScheduled": {"flowId": id}})
        assert blocked_on == await trip.blocked_on(id)
    operation = genkit.call("trip", {"resume": {"flowId": id, "payload": {}}})

    assert ["last"] == genkit.call("begun")
    assert [0, "", False, "undefined"] == operation["result"]["response"]["falsy"]
    assert "done" == await trip.flows.drive(id)


async def test_two_languages_at_once(trip: Trip, genkit: Genkit) -> None:
    """That is not supported. Genkit JS claims nothing, so it runs the step that Python runs, and tells of its own end.

    Python's end then takes the place of that.
    """
    id = (await trip.send(start={"input": {}}))["name"]
    for step in ("nap", "nap-1"):
        await trip.wake(id, step)
    trip.may_end.clear()
    driving = asyncio.ensure_future(trip.send(resume={"flowId": id, "payload": {"by": "ada"}}))
    while "last" not in trip.begun:  # noqa: ASYNC110  # the flow fills it
        await asyncio.sleep(0.01)
    there = genkit.call("trip", {"runScheduled": {"flowId": id}})
    trip.may_end.set()
    operation = await driving
    stored = await trip.send(state={"flowId": id})

    assert (["last"], "last") == (genkit.call("begun"), trip.begun[-1])
    assert ("Genkit JS", "Python") == tuple(each["result"]["response"]["last"] for each in (there, operation))
    assert operation == stored


async def test_an_answer_awaits_the_drive_of_its_process(trip: Trip, genkit: Genkit) -> None:
    """It does so even if Genkit JS, which claims nothing, has stored an end meanwhile."""
    id = (await trip.send(start={"input": {}}))["name"]
    for step in ("nap", "nap-1"):
        await trip.wake(id, step)
    trip.may_end.clear()
    await trip.flows.resume(id, {"by": "ada"})
    driving = asyncio.ensure_future(trip.flows.drive(id))
    while "last" not in trip.begun:  # noqa: ASYNC110  # the flow fills it
        await asyncio.sleep(0.01)
    there = genkit.call("trip", {"runScheduled": {"flowId": id}})
    answering = asyncio.ensure_future(trip.send(runScheduled={"flowId": id}))
    _, waits = await asyncio.wait([answering], timeout=1)
    trip.may_end.set()

    assert "Genkit JS" == there["result"]["response"]["last"]
    assert {answering} == waits
    assert "Python" == (await answering)["result"]["response"]["last"]
    await driving


@pytest.mark.parametrize("has_ended", [True, False])
async def test_what_waited_for_other_runs(native: FirestoreFlowStateStore, genkit: Genkit, has_ended: bool) -> None:
    """What `waitFor` has waited for is read by a step of its name. Nothing stored tells of one that still waits.

    Python then runs the step of its name itself.
    """
    waited_for: str = genkit.call("start", {"item": "book"})
    id: str = genkit.call("gather", {"start": {"input": {"ids": [waited_for]}}})["name"]
    if has_ended:
        genkit.call("resume", waited_for, {"by": "ada"})
        genkit.call("gather", {"runScheduled": {"flowId": id}})
    stored = await native.load(id)
    flows = Flows(native)
    begun: list[str] = []

    async def look(ids: list[str]) -> list[dict[str, Any]]:
        begun.append("all")
        return [{"flowId": id} for id in ids]

    async def finish() -> str:
        return "Python"

    @flows.flow
    async def gather(run: Run, input: dict[str, list[str]]) -> dict[str, Any]:
        found = await run.step("all", look, input["ids"])
        await run.interrupt("sure", dict[str, Any])
        return {"found": [state["flowId"] for state in found], "last": await run.step("last", finish)}

    if not has_ended:
        await flows.drive(id)
    await flows.resume(id, {"ok": True}, step="sure")
    result = await flows.result(id, timeout=20)
    await flows.close()

    assert stored is not None
    assert (["all"] if has_ended else []) == list(stored.cache)
    assert ("sure" if has_ended else None) == (stored.blocked_on_step and stored.blocked_on_step.name)
    assert {"found": [waited_for], "last": "Python"} == result
    assert ([] if has_ended else ["all"]) == begun
