"""What becomes of each status, injected by a real grpc server. The cause is always kept."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from firestore_flowstate._rpc.connection import Connection
from firestore_flowstate._rpc.deadline import Deadline
from firestore_flowstate._rpc.outcome import Ambiguous, Refused
from firestore_flowstate.errors import (
    AccessDeniedError,
    BackendError,
    DeadlineError,
    FlowStateError,
    MissingIndexError,
    QuotaError,
)
from tests.rpc.scripted_server import ScriptedServer, reply, status

DATABASE = "projects/demo-scripted/databases/(default)"
NAME = f"{DATABASE}/documents/c/a"
TRANSIENT = ["CANCELLED", "UNKNOWN", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "ABORTED", "INTERNAL", "UNAVAILABLE"]
TRIED_AGAIN = ["ABORTED", "RESOURCE_EXHAUSTED"]  # until the deadline, since they were certainly not applied
REFUSED = ["INVALID_ARGUMENT", "NOT_FOUND", "ALREADY_EXISTS", "FAILED_PRECONDITION", "OUT_OF_RANGE"]
FINAL = [*REFUSED, "PERMISSION_DENIED", "UNAUTHENTICATED", "UNIMPLEMENTED", "DATA_LOSS"]
ALL_STATUSES = [*TRANSIENT, *FINAL]


async def commit(connection: Connection, *, seconds: float = 10.0) -> Any:
    """Commit one write of flow state `a`."""
    deadline = Deadline.after(seconds)
    await connection.documents(deadline)
    from firestore_flowstate._rpc import messages

    return await connection.commit([messages.Write(delete=NAME)], deadline=deadline, flow_id="a")


async def error_of(call: Callable[[float], Awaitable[Any]], *, tried: bool) -> Exception:
    """Return what a call with so many seconds raises. If it is tried again until then, its last try may be cut off."""
    for seconds in (0.4, 2.0, 6.0) if tried else (20.0,):
        with pytest.raises(Exception) as raised:
            await call(seconds)
        if "DEADLINE_EXCEEDED" not in str(raised.value.__cause__):
            break
    return raised.value


async def read(connection: Connection, kind: str, *, seconds: float = 10.0) -> Any:
    """Make the call of this kind, about flow state `a` if it is about one."""
    deadline = Deadline.after(seconds)
    documents = await connection.documents(deadline)
    from firestore_flowstate._rpc import messages

    if kind == "get":
        return await connection.get(NAME, deadline=deadline, flow_id="a")
    if kind == "batch_get":
        return await connection.batch_get([NAME], deadline=deadline, flow_id="a")
    query = messages.StructuredQuery(from_=[{"collection_id": "c"}])
    if kind == "run_query":
        return await connection.run_query(documents, query, deadline=deadline)
    return await connection.count(documents, query, deadline=deadline)


async def answer_of(kind: str) -> Any:
    """Return a reply of the server that this kind of call takes, after `documents` has imported the messages."""
    from firestore_flowstate._rpc import messages as m

    document = m.Document(name=NAME)
    return {
        "get": reply(document),
        "batch_get": reply(m.BatchGetDocumentsResponse(found=document)),
        "run_query": reply(m.RunQueryResponse(document=document), m.RunQueryResponse(done=True)),
        "count": reply(m.RunAggregationQueryResponse(result={"aggregate_fields": {"n": m.Value(integer_value=1)}})),
    }[kind]


READS = ("get", "batch_get", "run_query", "count")


@pytest.mark.parametrize("code", ALL_STATUSES)
@pytest.mark.parametrize("kind", READS)
async def test_no_exception_of_grpc_leaves_a_read(
    server: ScriptedServer, to_server: Connection, code: str, kind: str
) -> None:
    """Each status of a read ends in an error of the public tree with its cause, or a missing document in None."""
    server.answer(status(code))

    if (kind, code) == ("get", "NOT_FOUND"):
        assert await read(to_server, kind) is None
        return
    for seconds in (0.6, 6.0):  # a busy machine may answer the first attempt later than 0.6 s
        with pytest.raises(BackendError) as error:
            await read(to_server, kind, seconds=seconds)
        if code in str(error.value.__cause__):
            break
    assert code in str(error.value.__cause__)
    assert code in str(error.value)
    assert DATABASE in str(error.value)
    assert ("a" if kind in {"get", "batch_get"} else None) == error.value.flow_id


@pytest.mark.parametrize("code", TRANSIENT)
@pytest.mark.parametrize("kind", READS)
async def test_reads_are_tried_again(server: ScriptedServer, to_server: Connection, code: str, kind: str) -> None:
    """A read that meets a transient status is tried again, and succeeds."""
    await to_server.documents(Deadline.after(10))
    server.answer(status(code), status(code), await answer_of(kind))

    assert await read(to_server, kind)
    assert 3 == len(server.calls)
    assert 1 == len({call.request for call in server.calls})


@pytest.mark.parametrize("code", FINAL)
async def test_reads_are_not_tried_again(server: ScriptedServer, to_server: Connection, code: str) -> None:
    """A read that meets a status that time does not heal fails at once."""
    server.answer(status(code))

    started = time.monotonic()
    with pytest.raises(BackendError):
        await read(to_server, "run_query")
    assert 1 == len(server.calls)
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("code", ALL_STATUSES)
async def test_each_status_of_a_commit(server: ScriptedServer, to_server: Connection, code: str) -> None:
    """A commit is refused, ambiguous, or failed for good. Its status alone decides which."""
    server.answer(status(code))
    expected: dict[str, type[Exception]] = {
        **dict.fromkeys(REFUSED, Refused),
        "UNKNOWN": Ambiguous,
        "DEADLINE_EXCEEDED": Ambiguous,
        "INTERNAL": Ambiguous,
        "UNAVAILABLE": Ambiguous,
        "CANCELLED": Ambiguous,
        "DATA_LOSS": Ambiguous,
        "PERMISSION_DENIED": AccessDeniedError,
        "UNAUTHENTICATED": AccessDeniedError,
        "RESOURCE_EXHAUSTED": QuotaError,
        "ABORTED": DeadlineError,
        "UNIMPLEMENTED": BackendError,
    }

    tried = code in TRIED_AGAIN
    raised = await error_of(lambda seconds: commit(to_server, seconds=seconds), tried=tried)
    assert code in str(raised)
    assert expected[code] is type(raised)
    assert code in str(raised.__cause__)
    if not tried:
        assert 1 == len(server.calls)
    if isinstance(raised, FlowStateError):
        assert "a" == raised.flow_id


@pytest.mark.parametrize("code", ["ABORTED", "RESOURCE_EXHAUSTED"])
async def test_commits_that_were_certainly_not_applied_are_sent_again(
    server: ScriptedServer, to_server: Connection, code: str
) -> None:
    """Contention and quotas refuse for certain: the same bytes go out again, later and later."""
    await to_server.documents(Deadline.after(10))
    from firestore_flowstate._rpc import messages

    server.answer(status(code), status(code), reply(messages.CommitResponse(commit_time={"seconds": 7})))

    response = await commit(to_server)
    assert 7 == response.commit_time.seconds
    assert 3 == len(server.calls)
    assert 1 == len({call.request for call in server.calls})


@pytest.mark.parametrize("says", ["errors resolving x", "failed to connect to all addresses"])
async def test_a_server_that_speaks_of_its_own_connections(
    server: ScriptedServer, to_server: Connection, says: str
) -> None:
    """It got the commit. That it could not reach another server does not mean that the commit was never sent."""
    await to_server.documents(Deadline.after(10))
    server.answer(status("UNAVAILABLE", f"upstream: {says}"))

    with pytest.raises(Ambiguous):
        await commit(to_server)
    assert 1 == len(server.calls)


async def test_a_request_that_is_too_large_is_not_a_quota(server: ScriptedServer, to_server: Connection) -> None:
    """RESOURCE_EXHAUSTED for size is a refusal at once, by the words that grpc servers use."""
    texts = ["gRPC message exceeds maximum size 4194304: 5000133", "Received message larger than max (5 vs. 4)"]
    for text in texts:
        server.answer(status("RESOURCE_EXHAUSTED", text))
        with pytest.raises(Refused):
            await commit(to_server)

    assert len(texts) == len(server.calls)


async def test_a_refusal_is_told_once_the_connection_is_closed(server: ScriptedServer, to_server: Connection) -> None:
    """Another thread may close the store between the answer and the error that is made of it."""
    server.answer(status("FAILED_PRECONDITION", "it is another"))
    with pytest.raises(Refused) as refused:
        await commit(to_server)
    await to_server.close()

    error = to_server.refused_error(refused.value, flow_id="a")

    assert ("a", refused.value) == (error.flow_id, error.__cause__)
    assert "it is another" in str(error)


async def test_a_stream_that_breaks_is_read_from_its_start(server: ScriptedServer, to_server: Connection) -> None:
    """A query whose stream ends in a transient status after some documents returns each document once."""
    await to_server.documents(Deadline.after(10))
    whole = await answer_of("run_query")

    def half(request: bytes, context: Any) -> Any:
        yield next(iter(whole(request, context)))
        yield from status("UNAVAILABLE")(request, context)

    server.answer(half, whole)

    assert 1 == len(await read(to_server, "run_query"))
    assert 2 == len(server.calls)


@pytest.mark.parametrize(
    ("code", "text", "kind", "advice"),
    [
        ("PERMISSION_DENIED", "Missing or insufficient permissions.", AccessDeniedError, "roles/datastore.user"),
        (
            "PERMISSION_DENIED",
            "Cloud Firestore API has not been used in project 42 before or it is disabled. Enable it by visiting ...",
            AccessDeniedError,
            "gcloud services enable firestore.googleapis.com",
        ),
        ("PERMISSION_DENIED", "Project 'nowhere' not found or deleted.", BackendError, "FLOWSTATE_PROJECT"),
        ("UNAUTHENTICATED", "Request had invalid authentication credentials.", AccessDeniedError, "gcloud auth"),
        (
            "NOT_FOUND",
            "The database (default) does not exist for project p Please visit https://console ... to add a database",
            BackendError,
            "FLOWSTATE_DATABASE",
        ),
        (
            "FAILED_PRECONDITION",
            "The Cloud Firestore API is not available for Firestore in Datastore Mode database projects/p/databases/d.",
            BackendError,
            "native mode",
        ),
        ("INVALID_ARGUMENT", "Invalid project id: My Project", BackendError, "FLOWSTATE_PROJECT"),
        ("RESOURCE_EXHAUSTED", "Quota exceeded.", QuotaError, "retry later"),
    ],
)
@pytest.mark.parametrize("call", ["get", "run_query", "commit"])
async def test_errors_say_what_to_do(
    server: ScriptedServer,
    to_server: Connection,
    call: str,
    code: str,
    text: str,
    kind: type[BackendError],
    advice: str,
) -> None:
    """What is wrong with project, database, credentials or quota is said in words, by reads and commits alike."""
    server.answer(status(code, text))

    async def fail(seconds: float) -> None:
        await (commit(to_server, seconds=seconds) if call == "commit" else read(to_server, call, seconds=seconds))

    error = await error_of(fail, tried=code in TRIED_AGAIN)
    assert kind is type(error)
    assert advice in str(error)
    assert text in str(error)


async def test_a_disabled_api_is_known_by_the_details_too(server: ScriptedServer, to_server: Connection) -> None:
    """Google's reason SERVICE_DISABLED counts, whatever the text says."""
    details = (("grpc-status-details-bin", b"\x12type.googleapis.com/google.rpc.ErrorInfo\nSERVICE_DISABLED"),)
    server.answer(status("PERMISSION_DENIED", "no", trailing=details))

    with pytest.raises(AccessDeniedError, match="gcloud services enable"):
        await read(to_server, "get")


LINK = (
    "https://console.firebase.google.com/v1/r/project/p/firestore/indexes?create_composite="
    "CkZwcm9qZWN0cy9wL2RhdGFiYXNlcy8oZGVmYXVsdCkvY29sbGVjdGlvbkdyb3Vwcy9nZW5raXQtZmxvd3MvaW5kZXhlcy9fEAEaCgoGc3RhdHVz"
    "EAEaDQoJc3RhcnRUaW1lEAIaDAoIX19uYW1lX18QAg"
)
ENTRY = {
    "collectionGroup": "genkit-flows",
    "queryScope": "COLLECTION",
    "fields": [{"fieldPath": "status", "order": "ASCENDING"}, {"fieldPath": "startTime", "order": "DESCENDING"}],
}


@pytest.mark.parametrize(
    ("text", "entry"),
    [
        (f"The query requires an index. You can create it here: {LINK}", ENTRY),
        (f"The query requires an index. You can create it here: {LINK}==", ENTRY),
        (
            f"The query requires an index. That index is currently building and cannot be used yet: {LINK}",
            ENTRY,
        ),
        ("The query requires a COLLECTION_GROUP_DESC index for collection c and field f.", None),
        ("The query requires an index. You can create it here: https://c.test/x?create_composite=AAAA", None),
        ("The query requires an index. You can create it here: https://c.test/x?create_composite=%%%", None),
        ("The query requires an index. You can create it here: https://c.test/x?create_composite=Q", None),
        ("no matching index found. recommended index is: ...", None),
    ],
)
async def test_a_missing_index_comes_as_its_entry(
    server: ScriptedServer, to_server: Connection, text: str, entry: dict[str, object] | None
) -> None:
    """The entry for firestore.indexes.json is read out of Firestore's link. Without one the link itself remains."""
    server.answer(status("FAILED_PRECONDITION", text))

    for kind in ("run_query", "count"):
        with pytest.raises(MissingIndexError) as error:
            await read(to_server, kind)
        assert entry == error.value.index
        assert text in str(error.value)
        advice = "still being built" if "building" in text else "firebase deploy --only firestore:indexes"
        assert advice in str(error.value)


@pytest.mark.parametrize("kind", READS)
async def test_a_reply_that_is_not_a_message(server: ScriptedServer, to_server: Connection, kind: str) -> None:
    """Bytes that are not Firestore's are an error of the public tree, and of a commit an outcome that is not known."""
    server.answer(lambda _request, _context: [b"\xff"])

    with pytest.raises(BackendError, match="look at the endpoint"):
        await read(to_server, kind)
    with pytest.raises(Ambiguous):
        await commit(to_server)
