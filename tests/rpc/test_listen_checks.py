"""An emulator loses changes that it should tell over Listen, so what it tells is compared with what is stored."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pytest

from firestore_flowstate import FirestoreFlowStateStore, FlowState, FlowStateSettings
from firestore_flowstate._rpc import listen_check, messages
from firestore_flowstate._rpc.connection import Connection
from firestore_flowstate._rpc.deadline import Deadline
from firestore_flowstate._rpc.listen_check import ListenCheck
from firestore_flowstate._rpc.watched import Watched, Watching
from firestore_flowstate.testing.conformance.watching import close
from tests.rpc.listen_script import Script, a_target, change, tells
from tests.rpc.scripted_server import Answer, ScriptedServer, reply, status

WATCHES = 300  # each a chance for the emulator to lose a change
AT_ONCE = 16  # watches that are open at the same time
NAME = "projects/demo-scripted/databases/(default)/documents/c/a"


def a_query() -> Any:
    """Return the target of a query."""
    target = messages.Target()
    target.query.parent = NAME.rpartition("/c/")[0]
    query = target.query.structured_query
    query.from_.add().collection_id = "c"
    query.limit.value = 10
    return target


def stored(method: str, number: int | None) -> Answer:
    """Answer a check by a document that was written at this second, or by none."""
    response = (messages.BatchGetDocumentsResponse if method == "BatchGetDocuments" else messages.RunQueryResponse)()
    if number is not None:
        document = response.found if method == "BatchGetDocuments" else response.document
        document.name = NAME
        document.update_time.seconds = number
    elif method == "BatchGetDocuments":
        response.missing = NAME
    return reply(response)


def tells_nothing(request: Any) -> Iterable[Any]:
    """Say that there is no document."""
    return [change("CURRENT", request.add_target.target_id), change("NO_CHANGE")]


async def numbers(watching: Watching, deadline: Deadline) -> list[int]:
    """Return the numbers of the documents that a watch tells next."""
    told = await watching.next(deadline=deadline)
    assert told is not None
    return [document.fields["n"].integer_value for document in told[0]]


@pytest.mark.parametrize("method", ["BatchGetDocuments", "RunQuery"])
@pytest.mark.parametrize(
    ("then", "number", "last"), [(tells(2), 2, [2]), (tells_nothing, None, [])], ids=["a-write", "a-delete"]
)
async def test_a_change_that_was_lost_is_told(
    server: ScriptedServer,
    to_server: Connection,
    deadline: Deadline,
    method: str,
    then: Callable[[Any], Iterable[Any]],
    number: int | None,
    last: list[int],
) -> None:
    """The stream is opened again, without a token: with one the server would go on from what it takes to be known."""
    server.check = stored(method, number)
    second = Script(then)
    server.listen(Script(tells(1, token=b"t")), second)
    watching = to_server.watch([a_target() if method == "BatchGetDocuments" else a_query()])

    assert [1] == await numbers(watching, deadline)
    assert last == await numbers(watching, deadline)
    assert b"" == second.requests[0].add_target.resume_token
    watching.end()


async def test_a_stream_that_says_nothing_is_given_up(
    server: ScriptedServer, to_server: Connection, deadline: Deadline
) -> None:
    """A target that was never answered gets another stream."""
    server.check = stored("BatchGetDocuments", 1)
    server.listen(Script(), Script(tells(1)))
    watching = to_server.watch([a_target()])

    assert [1] == await numbers(watching, deadline)
    watching.end()


async def test_streams_that_are_given_up_in_a_row_get_more_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A change may be on its way for 2 s, then for 4, at most for 32, until what is told agrees with what is stored."""
    passed, is_told = 0.0, False

    async def sleep(seconds: float) -> None:
        nonlocal passed
        passed += seconds

    async def compare(
        check: ListenCheck, targets: list[Watched], before: Mapping[Watched, Any]
    ) -> Mapping[Watched, Any]:
        nonlocal is_told
        if is_told:
            is_told = False
            return {}
        return before or {a_watched: listen_check._Difference(passed, None)}

    async def given_up_after() -> float:
        began = passed
        await check.find_missing(list)
        return passed - began

    a_watched: Any = object()
    monkeypatch.setattr(listen_check, "sleep", sleep)
    monkeypatch.setattr(listen_check, "monotonic", lambda: passed)
    monkeypatch.setattr(ListenCheck, "_compare", compare)
    check = ListenCheck(None, database="", metadata=())  # type: ignore[arg-type]  # nothing is read

    assert [4, 6, 10, 18, 34, 34] == [await given_up_after() for _ in range(6)]  # the first second shows the difference
    is_told = True
    assert 1 + 4 == await given_up_after()


@pytest.mark.parametrize(
    "check", [stored("BatchGetDocuments", 1), status("UNAVAILABLE")], ids=["what agrees", "a check that fails"]
)
async def test_a_stream_stays(server: ScriptedServer, to_server: Connection, deadline: Deadline, check: Answer) -> None:
    """It stays though it is silent, after as many checks as would end it otherwise."""
    server.check = check
    server.listen(Script(tells(1)))
    watching = to_server.watch([a_target()])
    await watching.next(deadline=deadline)

    await asyncio.to_thread(server.wait_for_checks, 5, 20)
    assert 1 == server.opened
    watching.end()


async def test_no_change_is_lost_while_watches_begin(flow_state_settings: FlowStateSettings) -> None:
    """Each watch yields the last write, which another task makes about when the watch begins."""
    async with FirestoreFlowStateStore(flow_state_settings) as store:
        free = asyncio.Semaphore(AT_ONCE)

        async def write_soon(id: str) -> None:
            await asyncio.sleep(random.uniform(0, 0.02))  # seconds, in which a watch begins
            await store.save(id, FlowState.start(name="last"))

        async def follow(id: str) -> None:
            async with free:
                await store.save(id, FlowState.start(name="first"))
                writing = asyncio.ensure_future(write_soon(id))
                watch = store.watch(id)
                async for state in watch:
                    if state is not None and state.name == "last":
                        break
                await writing
                await close(watch)

        await asyncio.wait_for(asyncio.gather(*(follow(f"flow-{number}") for number in range(WATCHES))), 60)
