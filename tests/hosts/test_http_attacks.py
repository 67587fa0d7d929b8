"""Whoever may call the application cannot break it, and whoever may not learns nothing."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import math
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from firestore_flowstate import FlowState, MemoryFlowStateStore
from firestore_flowstate.flows import Flows, Run
from firestore_flowstate.flows.google_tokens import KeptResponses
from firestore_flowstate.flows.http import Oidc
from tests.hosts.test_flows_app import ACCOUNT, AUDIENCE, GOOGLE, Certificates, client

DEEP = "[" * 20_000


@pytest.fixture
def begun() -> Counter[str]:
    return Counter()


@pytest.fixture
async def flows(begun: Counter[str]) -> AsyncIterator[Flows]:
    flows = Flows(MemoryFlowStateStore(), dispatcher=Nowhere())

    @flows.flow
    async def slow(run: Run, input: Any) -> Any:
        begun[run.id] += 1
        return await run.step("wait", asyncio.sleep, 0.05, input)

    yield flows
    await flows.close()


class Nowhere:
    async def dispatch(self, id: str, *, wake: str, at: Any = None) -> None:
        """Wake nobody."""

    async def close(self) -> None:
        """Nothing is held."""


def segment(value: str) -> str:
    return base64.urlsafe_b64encode(value.encode()).decode().rstrip("=")


HEADER = segment(json.dumps({"alg": "RS256", "kid": GOOGLE.id, "typ": "JWT"}))


@pytest.mark.parametrize(
    "token",
    [
        lambda: f"{segment(DEEP)}.{segment(DEEP)}.AAAA",
        lambda: f"{HEADER}.{segment(DEEP)}.AAAA",
        lambda: f"{HEADER}.{segment('[]')}.AAAA",
        lambda: f"{HEADER}.{segment('5')}.AAAA",
        lambda: f"{segment(json.dumps({'alg': 'HS256', 'kid': GOOGLE.id}))}.{segment('{}')}.AAAA",
        lambda: f"{segment(json.dumps({'alg': ['RS256'], 'kid': {}}))}.{segment('{}')}.AAAA",
        lambda: f"{segment(json.dumps({'alg': 'RS256', 'kid': '../' * 1000}))}.{segment('{}')}.AAAA",
        lambda: "A" * 50_000,
        lambda: "-._.-",
        lambda: GOOGLE.token(exp="never"),
        lambda: GOOGLE.token(exp=float("inf"), iat=float("inf")),
        lambda: GOOGLE.token(aud=[AUDIENCE]),
        lambda: GOOGLE.token(aud={AUDIENCE: 1}),
        lambda: GOOGLE.token(email=[ACCOUNT]),
        lambda: GOOGLE.token(email=ACCOUNT + "\n"),
        lambda: GOOGLE.token(email_verified=1),
        lambda: GOOGLE.token() + "\n",
        lambda: GOOGLE.token() + ".",
    ],
)
async def test_tokens_that_are_not_what_they_should_be(flows: Flows, token: Callable[[], str]) -> None:
    """The answer is 401 without a word more. An error of ours would be a way to fill logs and slow a queue."""
    refused = token()
    oidc = Oidc(audience=AUDIENCE, service_account=ACCOUNT)
    oidc._certificates = KeptResponses(Certificates())
    http = client(flows.app(verify=oidc, genkit=True))
    for path in ("/drive", "/sweep", "/slow"):
        answer = await http.post(path, headers={"Authorization": f"Bearer {refused}".replace("\n", " ")})

        assert (401, b"") == (answer.status_code, answer.content)


@pytest.mark.parametrize("path", ["/drive/", "/sweep/", "//drive", "/drive/x", "/Drive", "/drive%2F", "/"])
async def test_paths_that_are_not_there(flows: Flows, path: str) -> None:
    """No redirect is sent either, since its target would come from the caller's own Host header."""
    http = client(flows.app(verify=lambda _: False))
    answer = await http.post(path, headers={"Host": "evil.test"})

    assert (404, "location" in answer.headers) == (answer.status_code, False)


@pytest.mark.parametrize(
    "body",
    [
        b'{"id": "\\ud800"}',
        b'{"id": ""}',
        b'{"id": ".."}',
        b'{"id": "__x__"}',
        b'{"id": "../../other/x"}',
        b'{"id": "' + b"x" * 90_000 + b'"}',
        b'{"id": ["x"]}',
        b'{"id": {"id": "x"}}',
        b'{"data": {"data": {"id": "x"}}}',
        b'{"data": null, "id": "x"}',
        b'{"data": "x"}',
        b"\xff\xfe",
        b'{"id": "x"',
        b"9" * 10_000,
        b"NaN",
        b"null",
        b'{"id": NaN}',
        b'{"a":' * 15_000,
        b"id=x",
    ],
)
async def test_bodies_that_name_no_run(flows: Flows, body: bytes) -> None:
    """The answer is 400, whatever their Content-Type, and nothing is driven."""
    http = client(flows.app(verify=None))
    for content_type in (
        "application/json",
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "",
    ):
        answer = await http.post("/drive", content=body, headers={"Content-Type": content_type})

        assert 400 == answer.status_code, answer.content
        assert answer.json()["error"]
        assert len(answer.content) < 10_000


async def test_a_body_without_an_end_is_not_read_to_it(flows: Flows) -> None:
    """No more bytes are read than a task may have, and none at all of a caller who is not let in."""
    read = 0

    async def endless() -> Any:
        nonlocal read
        while True:
            read += 1
            yield b"x" * 10_000

    http = client(flows.app(verify=None, genkit=True))
    for path, most in (("/drive", 12), ("/slow", 1050)):
        read = 0
        answer = await asyncio.wait_for(http.post(path, content=endless()), 20)
        assert 413 == answer.status_code
        assert read <= most


@pytest.mark.parametrize(
    "record",
    [
        {"waits": {"a": 5}},
        {"waits": [1]},
        {"waits": {"a": {"kind": "interrupt", "n": "x"}, "b": {"kind": "sleep", "n": 1}}},
        {"waits": {"a": {}}},
        {"owner": 5, "recoveries": "many"},
        {"retries": 5},
        {"todo": "everything"},
        {"deadline": "soon"},
        {"intents": 5, "trying": {}},
        {"drives": None, "rewinds": []},
        [],
        "run",
    ],
)
async def test_a_record_that_is_broken_does_not_slow_the_queue(
    flows: Flows, record: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The answer is 200, since another delivery would do no better, and the log names the record."""
    state = FlowState.start(name="slow", input=1, flow_id="x")
    state.operation.metadata = {"run": record, "inbox": record}
    state.wakeAt = 1000  # type: ignore[attr-defined]  # an unknown key
    await flows.store.create("x", state)
    answer = await client(flows.app(verify=None)).post("/drive", json={"id": "x"})

    assert 200 == answer.status_code, answer.content
    assert isinstance(answer.json()["outcome"], str)
    assert ("The run 'x' cannot be read: operation.metadata" in caplog.text) == (answer.json()["outcome"] == "error")


@pytest.mark.parametrize(
    "envelope",
    [
        {"schedule": {"input": 1, "delay": 1e300}},
        {"schedule": {"input": 1, "delay": float("inf")}},
        {"schedule": {"input": 1, "delay": float("nan")}},
        {"schedule": {"input": 1, "delay": -5}},
        {"schedule": {"input": 1, "delay": "5"}},
        {"schedule": {"input": 1, "delay": 10**400}},
        {"state": {"flowId": "\ud800"}},
        {"resume": {"flowId": "a/b", "payload": 1}},
        {"resume": {"flowId": "", "payload": 1}},
        {"retry": {"flowId": "__x__"}},
        {"runScheduled": {"flowId": ["x"]}},
        {"start": 0, "state": None},
        {"start": []},
        {"data": {"data": {"start": {}}}},
        {"__proto__": {}},
    ],
)
async def test_envelopes_that_are_none(flows: Flows, envelope: Any) -> None:
    """The answer is an error in Genkit JS's form."""
    http = client(flows.app(verify=None, genkit=True))
    answer = await http.post("/slow", content=json.dumps(envelope).encode())

    assert (500, True) == (answer.status_code, answer.json()["done"])
    assert answer.json()["result"]["error"]


async def test_an_answer_may_have_half_of_a_surrogate_pair(flows: Flows) -> None:
    """The operation is told with JSON's escape for it, since UTF-8 cannot hold it. NaN is null, as elsewhere."""

    @flows.flow
    async def cut(run: Run, text: str) -> Any:
        return [text + "\ud83d", {"\ud83d": math.nan}]

    http = client(flows.app(verify=None, genkit=True))
    started = await http.post("/cut", json={"start": {"input": "a"}})
    state = await http.post("/cut", json={"state": {"flowId": started.json()["name"]}})

    assert (200, True) == (started.status_code, started.json()["done"])
    assert ["a\ud83d", {"\ud83d": None}] == started.json()["result"]["response"]
    assert started.json() == state.json()


async def test_duplicates_at_once(flows: Flows, begun: Counter[str]) -> None:
    """One of twenty deliveries of a task drives, and the others find it busy. A late one finds the end."""
    http = client(flows.app(verify=None))
    await flows.start("slow", 1, id="x")
    answers = await asyncio.gather(*(http.post("/drive", json={"id": "x"}) for _ in range(20)))
    late = await http.post("/drive", json={"id": "x"})

    assert Counter({"busy": 19, "done": 1}) == Counter(answer.json()["outcome"] for answer in answers)
    assert ("done", 1) == (late.json()["outcome"], begun["x"])


async def test_the_log_is_written_by_us_alone(flows: Flows, caplog: pytest.LogCaptureFixture) -> None:
    """A line break in what callers send starts no line of the log."""

    def fails(request: Any) -> bool:
        raise RuntimeError("who is it?")

    http = client(flows.app(verify=fails, genkit=True))
    with caplog.at_level(logging.INFO):
        await http.post("/x%0AINFO%20all%20is%20well")

    assert caplog.records
    assert [] == [record for record in caplog.records if "\n" in record.getMessage()]


@pytest.mark.parametrize(
    "token",
    [
        lambda: "s3cret",
        lambda: f"{segment('[]')}.s3cret.AAAA",
        lambda: f"{HEADER}.{segment(json.dumps('s3cret'))}.AAAA",
        lambda: f"{segment(json.dumps({'alg': 's3cret'}))}.{segment('{}')}.AAAA",
        lambda: f"{segment(json.dumps({'alg': 'RS256', 'kid': 's3cret'}))}.{segment('{}')}.AAAA",
        lambda: GOOGLE.token(aud="s3cret"),
        lambda: GOOGLE.token(iss="s3cret"),
        lambda: GOOGLE.token(exp="s3cret"),
    ],
)
async def test_a_token_that_is_refused_is_not_in_the_log(
    flows: Flows, caplog: pytest.LogCaptureFixture, token: Callable[[], str]
) -> None:
    """A token of another service is a secret all the same. The line says what is asked of one."""
    refused = token()
    oidc = Oidc(audience=AUDIENCE, service_account=ACCOUNT)
    oidc._certificates = KeptResponses(Certificates())
    caplog.set_level(logging.INFO)
    assert oidc.allows(f"Bearer {refused}") is False
    [line] = [record.getMessage() for record in caplog.records if record.name == "firestore_flowstate.flows"]

    assert AUDIENCE in line
    assert [] == [secret for secret in ("s3cret", *refused.split(".")) if secret in caplog.text]


@pytest.mark.parametrize("name", ["drive", "sweep", "health", "a/b"])
def test_a_flow_that_has_no_address(name: str) -> None:
    """Genkit JS's wire has none for a name with a slash, nor for one that is the address of another route."""
    flows = Flows(MemoryFlowStateStore())

    @flows.flow(name=name)
    async def named(run: Run) -> None: ...

    with pytest.raises(ValueError, match=f" {name}[,:]"):
        flows.app(verify=None, genkit=True)


@pytest.mark.parametrize("name", ["drive", "sweep", "health", "a/b"])
def test_a_flow_that_has_no_address_is_refused_after_the_application_too(name: str) -> None:
    """It would be found missing, or another route would answer, by the first request. Without the wire it is fine."""
    flows = Flows(MemoryFlowStateStore())
    flows.app(verify=None)

    @flows.flow(name=name)
    async def before(run: Run) -> None: ...

    wired = Flows(MemoryFlowStateStore())
    wired.app(verify=None, genkit=True)

    async def after(run: Run) -> None: ...

    with pytest.raises(ValueError, match=f" {name}[,:]"):
        wired.flow(name=name)(after)
