"""Genkit JS's envelopes drive Python's flows, and each language goes on with runs that the other left blocked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import uvicorn
from pydantic import BaseModel

from firestore_flowstate import FirestoreFlowStateStore
from firestore_flowstate.flows import Flows, Run
from tests.genkit_js.genkit_peer import Genkit


class Approval(BaseModel):
    by: str


@pytest.fixture
async def app(native: FirestoreFlowStateStore) -> AsyncIterator[Any]:
    """Python's twin of the flow of peer.js, behind its wire."""
    flows = Flows(native)

    async def price(item: str) -> dict[str, Any]:
        return {"item": item, "cents": 1250}

    async def ship() -> dict[str, Any]:
        return {"carrier": "Python"}

    @flows.flow
    async def order(run: Run, input: dict[str, Any]) -> dict[str, Any]:
        found = await run.step("price", price, input["item"])
        approval = await run.interrupt("approval", Approval)
        return {"price": found, "approval": approval, "shipped": await run.step("ship", ship)}

    yield flows.app(verify=None, genkit=True)
    await flows.close()


@pytest.fixture
async def http(app: Any) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://flows.test") as http:
        yield http


@pytest.fixture
async def url(app: Any) -> AsyncIterator[str]:
    """The address of the app, served by uvicorn."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", lifespan="off"))
    serving = asyncio.ensure_future(server._serve())
    while not server.started:  # noqa: ASYNC110  # uvicorn has no event for it
        await asyncio.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/order"
    server.should_exit = True
    await serving


def done(id: str, carrier: str) -> dict[str, Any]:
    response = {
        "price": {"item": "book", "cents": 1250},
        "approval": {"by": "ada"},
        "shipped": {"carrier": carrier},
    }
    return {"name": id, "done": True, "result": {"response": response}}


async def test_envelopes(http: httpx.AsyncClient) -> None:
    """Start and resume answer by the operation, also inside of data. What is raised is a 500, as Genkit JS has it."""
    started = await http.post("/order", json={"start": {"input": {"item": "book"}}})
    id = started.json()["name"]
    wrong = await http.post("/order", json={"resume": {"flowId": id, "payload": {"by": 5}}})
    resumed = await http.post("/order", json={"data": {"resume": {"flowId": id, "payload": {"by": "ada"}}}})
    state = await http.post("/order", json={"state": {"flowId": id}})

    assert (200, {"name": id, "done": False}) == (started.status_code, started.json())
    assert (500, True) == (wrong.status_code, wrong.json()["done"])
    assert {"error", "stacktrace"} == wrong.json()["result"].keys()
    assert (200, done(id, "Python")) == (resumed.status_code, resumed.json())
    assert done(id, "Python") == state.json()


async def test_a_flow_that_failed_is_an_outcome(http: httpx.AsyncClient) -> None:
    """The answer is the operation with status 200: a client that sent the envelope again would change nothing."""
    failed = await http.post("/order", json={"start": {"input": {"no": "item"}}})
    state = await http.post("/order", json={"state": {"flowId": failed.json()["name"]}})

    assert (200, True) == (failed.status_code, failed.json()["done"])
    assert "KeyError: 'item'" == failed.json()["result"]["error"]
    assert (200, failed.json()) == (state.status_code, state.json())


class RepliesLate(FirestoreFlowStateStore):
    """A store whose replies to partial writes, such as claims, come 0.8 s late."""

    async def update(self, id: str, **changes: Any) -> str:
        version = await super().update(id, **changes)
        await asyncio.sleep(0.8)
        return version


async def test_an_answer_awaits_a_drive_whose_claim_is_known_late(native: FirestoreFlowStateStore) -> None:
    """Six runs, since chance decides whether the request or the dispatcher of the process is the first to claim one."""
    async with RepliesLate(native.settings) as late:
        flows = Flows(late)

        @flows.flow
        async def order(run: Run, input: None) -> str:
            return (await run.interrupt("approval", Approval)).by

        app = flows.app(verify=None, genkit=True)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://flows.test") as http:

            async def order_and_approve() -> Any:
                started = await http.post("/order", json={"start": {"input": None}})
                resume = {"flowId": started.json()["name"], "payload": {"by": "ada"}}
                return (await http.post("/order", json={"resume": resume})).json()["done"]

            answers = await asyncio.gather(*(order_and_approve() for _ in range(6)))
        await flows.close()

    assert [True] * 6 == answers


async def test_a_client_in_genkit_js(url: str, genkit: Genkit) -> None:
    """The code of Genkit JS sends the envelopes, and reads the operations by its own schema."""

    async def call(command: str, *arguments: Any) -> Any:
        return await asyncio.to_thread(genkit.call, command, url, *arguments)

    started = await call("post", {"start": {"input": {"item": "book"}}})
    id = started["body"]["name"]
    assert {"status": 200, "body": {"name": id, "done": False}} == started
    assert {"name": id, "done": False} == (await call("post", {"state": {"flowId": id}}))["body"]
    assert done(id, "Python") == await call("resumeThere", id, {"by": "ada"})
    assert done(id, "Python") == (await call("post", {"state": {"flowId": id}}))["body"]

    scheduled = await call("schedule", {"item": "book"}, 0)
    woken = await call("post", {"runScheduled": {"flowId": scheduled["name"]}})
    assert (200, False) == (woken["status"], woken["body"]["done"])
    assert done(scheduled["name"], "Python") == await call("resumeThere", scheduled["name"], {"by": "ada"})

    again = await call("post", {"resume": {"flowId": id, "payload": {"by": "ada"}}})
    assert (500, True) == (again["status"], again["body"]["done"])
    streamed = await call("post", {"start": {"input": {}}}, "?stream=true")
    message = "Output from durable flows cannot be streamed"
    assert {"status": 400, "body": {"error": {"status": "INVALID_ARGUMENT", "message": message}}} == streamed


async def test_scheduled_runs(http: httpx.AsyncClient) -> None:
    """A schedule stores the run. `runScheduled` has it driven when it is due."""
    scheduled = (await http.post("/order", json={"schedule": {"input": {"item": "book"}, "delay": 3600}})).json()
    early = await http.post("/order", json={"runScheduled": {"flowId": scheduled["name"]}})

    assert scheduled["done"] is False
    assert (200, scheduled) == (early.status_code, early.json())


@pytest.mark.parametrize("body", [{}, [], {"start": 5}, {"resume": {"flowId": "missing"}}, {"state": {}}])
async def test_what_is_not_an_envelope(http: httpx.AsyncClient, body: Any) -> None:
    """The answer is an error in the form of Genkit JS. Streams are refused as Genkit JS refuses them."""
    answer = await http.post("/order", json=body)

    assert (500, True) == (answer.status_code, answer.json()["done"])
    assert 400 == (await http.post("/order?stream=true", json={})).status_code


async def test_python_goes_on_where_genkit_waits(http: httpx.AsyncClient, genkit: Genkit) -> None:
    """Python does not run again what Genkit JS has recorded."""
    id = genkit.call("start", {"item": "book"})
    resumed = await http.post("/order", json={"resume": {"flowId": id, "payload": {"by": "ada"}}})

    assert done(id, "Python") == resumed.json()


async def test_genkit_goes_on_where_python_waits(http: httpx.AsyncClient, genkit: Genkit) -> None:
    """Its replay sees what Python has recorded."""
    id = (await http.post("/order", json={"start": {"input": {"item": "book"}}})).json()["name"]
    operation = genkit.call("resume", id, {"by": "ada"})

    assert done(id, "Genkit JS") == {key: value for key, value in operation.items() if key != "metadata"}
