"""Calls end in time: with the server down, hung, slow, cut off and back again."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, suppress
from typing import Any

import pytest

from firestore_flowstate._rpc import calling
from firestore_flowstate._rpc import deadline as deadline_module
from firestore_flowstate._rpc.connection import Connection
from firestore_flowstate._rpc.deadline import Deadline
from firestore_flowstate._rpc.outcome import Ambiguous, CallFailed, Exhausted, commit_again, read_again
from firestore_flowstate.emulator import start_emulator
from firestore_flowstate.errors import DeadlineError, StoreUnavailableError
from firestore_flowstate.settings import FlowStateSettings
from tests.rpc.scripted_server import ScriptedServer, reply, status
from tests.rpc.tcp_proxy import TcpProxy
from tests.support.ports import Port
from tests.support.timing import least_seconds

SECONDS = 1.0  # the timeout of each call
IN_TIME = 1.1 * SECONDS + 0.4  # seconds, of which 0.4 are those that a busy machine may keep a task waiting
Method = Callable[[Connection, Deadline, str], Awaitable[Any]]


async def _commit(connection: Connection, deadline: Deadline, documents: str) -> Any:
    from firestore_flowstate._rpc import messages

    return await connection.commit([messages.Write(delete=f"{documents}/c/a")], deadline=deadline, flow_id="a")


async def _get(connection: Connection, deadline: Deadline, documents: str) -> Any:
    return await connection.get(f"{documents}/c/a", deadline=deadline, flow_id="a")


async def _batch_get(connection: Connection, deadline: Deadline, documents: str) -> Any:
    return await connection.batch_get([f"{documents}/c/a"], deadline=deadline, flow_id="a")


async def _run_query(connection: Connection, deadline: Deadline, documents: str) -> Any:
    from firestore_flowstate._rpc import messages

    query = messages.StructuredQuery(from_=[{"collection_id": "c"}])
    return await connection.run_query(documents, query, deadline=deadline)


async def _count(connection: Connection, deadline: Deadline, documents: str) -> Any:
    from firestore_flowstate._rpc import messages

    return await connection.count(
        documents, messages.StructuredQuery(from_=[{"collection_id": "c"}]), deadline=deadline
    )


METHODS = [_commit, _get, _batch_get, _run_query, _count]


@pytest.fixture(params=["hop", "bound"])
async def ready(request: pytest.FixtureRequest, through_proxy: Connection) -> AsyncIterator[Connection]:
    """A connection that has called before, once over the background loop and once on the loop of the test."""
    if request.param == "bound":
        await through_proxy.bind()
    deadline = Deadline.after(20)
    await _get(through_proxy, deadline, await through_proxy.documents(deadline))
    yield through_proxy
    await through_proxy.unbind()


@pytest.mark.parametrize("method", METHODS)
async def test_server_down(ready: Connection, proxy: TcpProxy, method: Method) -> None:
    """With the server gone, each call ends in DeadlineError within its timeout and 10%, and says what was tried."""
    documents = await ready.documents(Deadline.after(SECONDS))
    proxy.refuse()

    async def measured() -> float:
        started = time.monotonic()
        with pytest.raises((DeadlineError, Ambiguous)) as error:
            await method(ready, Deadline.after(SECONDS), documents)
        took = time.monotonic() - started
        if method is not _commit:  # a commit on a connection that breaks may have been applied
            assert re.search("attempts? ended in UNAVAILABLE", str(error.value))
        return took

    assert await least_seconds(measured, enough=IN_TIME) < IN_TIME


async def test_server_down_from_the_start(proxy: TcpProxy) -> None:
    """A commit that no connection could be made for was certainly not applied: it is not an Ambiguous."""
    proxy.refuse()
    connection = Connection(FlowStateSettings(emulator_host=proxy.host))
    documents = await connection.documents(Deadline.after(20))

    async def measured() -> float:
        started = time.monotonic()
        with pytest.raises(DeadlineError) as error:
            await _commit(connection, Deadline.after(SECONDS), documents)
        took = time.monotonic() - started
        assert not error.value.outcome_unknown
        assert "a" == error.value.flow_id
        return took

    assert await least_seconds(measured, enough=IN_TIME) < IN_TIME
    await connection.close()


@pytest.mark.parametrize("method", METHODS)
async def test_server_hung(ready: Connection, proxy: TcpProxy, method: Method) -> None:
    """With a server that takes requests and never answers, each call ends within its timeout and 10%."""
    documents = await ready.documents(Deadline.after(SECONDS))
    proxy.hold()

    async def measured() -> float:
        started = time.monotonic()
        with pytest.raises((StoreUnavailableError, Ambiguous)):
            await method(ready, Deadline.after(SECONDS), documents)
        return time.monotonic() - started

    assert await least_seconds(measured, enough=IN_TIME) < IN_TIME
    proxy.let_pass()


async def test_a_swallowed_reply_leaves_time_to_ask(ready: Connection, proxy: TcpProxy) -> None:
    """A commit whose reply never comes is Ambiguous while a good part of the deadline is left."""
    documents = await ready.documents(Deadline.after(SECONDS))
    proxy.hold_replies()
    deadline = Deadline.after(4.0)

    with pytest.raises(Ambiguous):
        await _commit(ready, deadline, documents)
    assert 0.1 < deadline.remaining() < 2.0
    proxy.let_pass()


async def test_a_commit_cut_off_is_sent_once(ready: Connection, proxy: TcpProxy, collection: str) -> None:
    """A commit whose connection is cut before the reply is Ambiguous, and was sent no second time."""
    documents = await ready.documents(Deadline.after(SECONDS))
    from firestore_flowstate._rpc import messages

    increment = {"field_path": "n", "increment": messages.Value(integer_value=1)}
    name = f"{documents}/{collection}/a"
    write = messages.Write(update=messages.Document(name=name), update_transforms=[increment])
    proxy.hold_replies()
    committing = asyncio.ensure_future(ready.commit([write], deadline=Deadline.after(20), flow_id="a"))
    direct = Connection(ready._settings.model_copy(update={"emulator_host": proxy.upstream}))
    while await direct.get(name, deadline=Deadline.after(20)) is None:  # noqa: ASYNC110  # only the server knows
        await asyncio.sleep(0.01)
    proxy.cut()
    proxy.let_pass()

    with pytest.raises(Ambiguous):
        await committing
    stored = await ready.get(name, deadline=Deadline.after(20))
    assert 1 == stored.fields["n"].integer_value
    await direct.close()


async def test_reads_survive_cuts(ready: Connection, proxy: TcpProxy) -> None:
    """A read whose connection is cut connects again and succeeds."""
    documents = await ready.documents(Deadline.after(SECONDS))
    for _ in range(3):
        proxy.hold_replies()
        reading = asyncio.ensure_future(_get(ready, Deadline.after(20), documents))
        await asyncio.sleep(0.05)  # so that the cut meets a call in flight
        proxy.cut()
        proxy.let_pass()

        assert await reading is None


async def test_the_same_connection_outlives_a_restart_of_the_server() -> None:
    """After the server was killed and has come back, the next call succeeds without a new connection object."""
    deadline = Deadline.after(60)
    with Port() as port, ExitStack() as stack:
        emulator = await asyncio.to_thread(start_emulator, port=port.number, attach=False)
        stack.callback(emulator.stop)
        connection = Connection(FlowStateSettings(emulator_host=emulator.host))
        documents = await connection.documents(deadline)
        assert await _get(connection, deadline, documents) is None

        emulator.kill()
        with pytest.raises(DeadlineError):
            await _get(connection, Deadline.after(3.0), documents)
        again = await asyncio.to_thread(start_emulator, port=port.number, attach=False)
        stack.callback(again.stop)
        back = time.monotonic()
        assert await _get(connection, deadline, documents) is None
        assert time.monotonic() - back < 10  # grpc alone would wait for up to two minutes
        await connection.close()


async def test_a_deadline_that_has_passed(server: ScriptedServer, to_server: Connection) -> None:
    """A call whose deadline has passed sends nothing."""
    documents = await to_server.documents(Deadline.after(20))
    server.answer(status("OK"))

    for method in METHODS:
        with pytest.raises(DeadlineError, match="before Firestore was called"):
            await method(to_server, Deadline.after(-1), documents)
    assert [] == server.calls


async def test_attempts_get_a_share_of_the_deadline(server: ScriptedServer, to_server: Connection) -> None:
    """One attempt gets 60% of the time left, and with little time left all of it."""
    documents = await to_server.documents(Deadline.after(20))
    from firestore_flowstate._rpc import messages

    server.answer(reply(messages.Document()))
    await _get(to_server, Deadline.after(100.0), documents)
    await _get(to_server, Deadline.after(10.0), documents)
    long, short = (call.seconds for call in server.calls)
    for _ in range(5):  # calls that a busy machine gives the time to arrive with most of it
        with suppress(DeadlineError):
            await _get(to_server, Deadline.after(0.4), documents)
    shortest = max(call.seconds for call in server.calls[2:])

    assert 50.0 < long < 60.1
    assert 3.0 < short < 6.1
    assert 0.24 < shortest < 0.41


async def test_pauses_double_from_25_ms_to_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is that long times a factor of 0.5 to 1.5, so that it takes 1.5 s at most."""
    made: list[float] = []

    async def note(seconds: float) -> None:
        made.append(seconds)

    async def fail_nine_times(seconds: float) -> None:
        if len(made) < 9:
            raise CallFailed("UNAVAILABLE", "not yet")

    monkeypatch.setattr(calling, "sleep", note)
    await calling.repeat(Deadline.after(600), fail_nine_times, again=read_again)

    factors = [pause / limit for pause, limit in zip(made, PAUSES, strict=True)]
    assert [] == [factor for factor in factors if not 0.5 <= factor <= 1.5]
    assert 9 == len(set(factors))


PAUSES = (0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("code", "again", "seconds", "took", "attempts"),
    [
        ("ABORTED", commit_again, 16 / 128, 1 / 128, 10),  # 7/128 s are more than 50 ms, and 6/128 s are not
        ("ABORTED", commit_again, 8 / 4, 1 / 4, 5),  # 3/4 s are three times what the last took
        ("UNAVAILABLE", read_again, 16 / 128, 1 / 128, 15),  # 2/128 s are more than 10 ms, and 1/128 s is not
        ("UNAVAILABLE", read_again, 8 / 4, 1 / 4, 8),
    ],
)
async def test_a_refused_commit_is_not_sent_when_the_deadline_is_near(
    monkeypatch: pytest.MonkeyPatch,
    code: str,
    again: Callable[[CallFailed], bool],
    seconds: float,
    took: float,
    attempts: int,
) -> None:
    """The deadline might cut off that attempt, and its outcome would not be known. A read goes on to the end."""
    now = 0.0

    async def fail(_: float) -> None:
        nonlocal now
        now += took
        raise CallFailed(code, "not yet")

    async def pause(_: float) -> None: ...

    for module in (calling, deadline_module):
        monkeypatch.setattr(module, "monotonic", lambda: now)
    monkeypatch.setattr(calling, "sleep", pause)
    with pytest.raises(Exhausted) as end:
        await calling.repeat(Deadline(seconds, seconds), fail, again=again)

    assert attempts == end.value.attempts


async def test_backoff_grows_and_has_jitter(server: ScriptedServer, to_server: Connection) -> None:
    """Between attempts lie pauses that grow, and no two callers keep step."""
    documents = await to_server.documents(Deadline.after(20))
    server.answer(status("UNAVAILABLE"))

    with pytest.raises(DeadlineError):
        await _get(to_server, Deadline.after(2.0), documents)
    assert 4 < len(server.calls) < 20
