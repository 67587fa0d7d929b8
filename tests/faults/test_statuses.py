"""Each status of grpc, in answer to each method: an error of the public tree that says what to do, the cause kept."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from typing import Any, Final

import grpc
import pytest

from firestore_flowstate import (
    AccessDeniedError,
    BackendError,
    DeadlineError,
    FlowState,
    FlowStateBatchError,
    FlowStateConflictError,
    FlowStateError,
    FlowStateNotFoundError,
    MissingIndexError,
    QuotaError,
    StoreUnavailableError,
)
from firestore_flowstate._rpc.messages import CommitRequest
from firestore_flowstate.backup import export_states, import_states
from firestore_flowstate.doctor import examine
from tests.faults.methods import METHODS, Method
from tests.faults.relay import Call, Refusal, Relay
from tests.faults.writes import (
    DELETE,
    DELETE_VERSION,
    SAVE_VERSION,
    UPDATE_VERSION,
    WRITES,
    Store,
    Write,
    a_state,
    in_layout,
    marks,
    others_update,
    outcome_of,
)

KINDS: Final[dict[str, type[FlowStateError]]] = {
    "CANCELLED": StoreUnavailableError,
    "UNKNOWN": StoreUnavailableError,
    "DEADLINE_EXCEEDED": StoreUnavailableError,
    "ABORTED": StoreUnavailableError,
    "INTERNAL": StoreUnavailableError,
    "UNAVAILABLE": StoreUnavailableError,
    "RESOURCE_EXHAUSTED": QuotaError,
    "PERMISSION_DENIED": AccessDeniedError,
    "UNAUTHENTICATED": AccessDeniedError,
    "INVALID_ARGUMENT": BackendError,
    "NOT_FOUND": BackendError,
    "ALREADY_EXISTS": BackendError,
    "FAILED_PRECONDITION": BackendError,
    "OUT_OF_RANGE": BackendError,
    "UNIMPLEMENTED": BackendError,
    "DATA_LOSS": BackendError,
}

OF_ONE: Final = ("save", "create", "load", "update", "edit", "modify", "delete")
"""The methods that are about one flow state, with the id that the tests give them."""

AGAIN: Final = ("ABORTED", "RESOURCE_EXHAUSTED")
"""After which a commit was not applied, and is tried again; the last try may end with the time."""
IN_DOUBT: Final = ("CANCELLED", "UNKNOWN", "DEADLINE_EXCEEDED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS")
"""After which a commit may have been applied."""
PRECONDITIONS: Final = ("NOT_FOUND", "ALREADY_EXISTS", "FAILED_PRECONDITION")
"""Statuses of what others may have changed: a write that asks for something is tried again while there is time."""


async def _export(store: Store, id: str, timeout: float | None) -> None:
    _ = [line async for line in export_states(_with_timeout(store, timeout))]


async def _import(store: Store, id: str, timeout: float | None) -> None:
    line = '{"v":1,"id":"x","state":{"flowId":"x","startTime":1,"cache":{},"eventsTriggered":{},"blockedOnStep":null,'
    await import_states(_with_timeout(store, timeout), [line + '"operation":{"name":"x"},"executions":[]}}'])


async def _examine(store: Store, id: str, timeout: float | None) -> None:
    _ = [finding async for finding in examine(_with_timeout(store, timeout))]


def _with_timeout(store: Store, timeout: float | None) -> Store:
    other = Store(store.settings.model_copy(update={"timeout": timeout}))
    other._connection = store._connection
    return other


ALL: Final[dict[str, Method]] = {**METHODS, "export": _export, "import": _import, "doctor": _examine}


async def outcomes(store: Store, code: str, methods: Mapping[str, Method]) -> dict[str, Any]:
    """Return what each method returns or raises, all called at once. They try again for a short time only.

    A machine that is busy may leave some of them no time to be answered: those are called once more.
    """
    found: dict[str, Any] = {}
    for seconds in (0.5, 5.0) if code in (*AGAIN, *IN_DOUBT, *PRECONDITIONS) else (20.0,):
        late = {n: methods[n] for n in methods if n not in found or any(_was_late(e, code) for e in each_of(found[n]))}
        calls = (method(store, name.replace(" ", "-"), seconds) for name, method in late.items())
        found.update(zip(late, await asyncio.gather(*calls, return_exceptions=True), strict=True))
    return {name: found[name] for name in methods}


def _was_late(outcome: Any, code: str) -> bool:
    told = {code, "DEADLINE_EXCEEDED"} if code in IN_DOUBT else {code}  # of a commit in doubt, the last try
    return isinstance(outcome, StoreUnavailableError) and not told & answers(outcome)


def expected(code: str) -> tuple[type[FlowStateError], ...]:
    """Return the classes of which the error after a status may be."""
    return (KINDS[code], StoreUnavailableError) if code in AGAIN else (KINDS[code],)


def answers(error: BaseException) -> set[str]:
    """Return the statuses among the causes of an error, as the client library has them."""
    found = set()
    cause = error.__cause__
    while cause is not None:
        if isinstance(cause, grpc.aio.AioRpcError):
            found.add(cause.code().name)
        cause = cause.__cause__
    return found


def each_of(outcome: Any) -> list[Any]:
    """Return the errors of a batch, or else the outcome itself."""
    return list(outcome.errors.values()) if isinstance(outcome, FlowStateBatchError) else [outcome]


@pytest.mark.parametrize("code", KINDS)
async def test_every_status_of_every_method(relayed: Store, relay: Relay, code: str) -> None:
    """Whatever Firestore answers, no exception of grpc or Google comes out, and theirs is the cause of ours."""
    await relayed.load("any")  # so that there is a connection
    relay.refuse(code)
    for name, outcome in (await outcomes(relayed, code, ALL)).items():
        for error in each_of(outcome):
            if code == "NOT_FOUND" and (
                error is None or isinstance(error, (FlowStateNotFoundError, FlowStateConflictError))
            ):
                continue  # a document that is not there is not an error of Firestore's
            assert isinstance(error, expected(code)), (name, error)
            assert answers(error) & {code, "DEADLINE_EXCEEDED"}, (name, error)
            assert name.partition(" ")[0] not in OF_ONE or error.flow_id == name.replace(" ", "-"), (name, error)
        if isinstance(outcome, FlowStateBatchError):
            assert {id: id for id in outcome.errors} == {id: e.flow_id for id, e in outcome.errors.items()}, name


@pytest.mark.parametrize("code", ["PERMISSION_DENIED", "UNAVAILABLE", "RESOURCE_EXHAUSTED"])
@pytest.mark.parametrize("method", ["RunQuery", "BatchGetDocuments", "Commit"])
async def test_an_error_about_a_state_in_parts_names_it(
    direct: Store, relayed: Store, relay: Relay, code: str, method: str
) -> None:
    """Its parts are read and listed by requests of their own, and these are about that state too."""
    await direct.save("large", FlowState.start(flow_id="large", input=os.urandom(1_300_000).hex()))
    relay.refuse(code, only=method)
    told = 0
    for name in ("load", "load_many", "update", "delete", "delete_many"):
        [outcome] = await asyncio.gather(METHODS[name](relayed, "large", 1.0), return_exceptions=True)
        errors = outcome.errors if isinstance(outcome, FlowStateBatchError) else {"large": outcome}
        for id, error in errors.items():
            if isinstance(error, BackendError):
                assert id == error.flow_id, (name, error)
                told += 1

    assert told


@pytest.mark.parametrize("code", KINDS)
async def test_every_status_of_every_commit(direct: Store, relayed: Store, relay: Relay, code: str) -> None:
    """When Firestore answers all but commits, a write ends in its own time, and tells whether it may be stored."""
    for write in WRITES:
        if not write.creates:
            await direct.save(write.name, a_state(write.name))
    before = {write.name: await direct.load(write.name) for write in WRITES}
    relay.refuse(code, only="Commit")

    def method(write: Write) -> Method:
        async def call(store: Store, id: str, timeout: float | None) -> None:
            read = before[write.name]
            with_timeout = _with_timeout(store, timeout)
            await write.run(with_timeout, write.name, a_state(write.name) if read is None else read, 1)

        return call

    for name, outcome in (await outcomes(relayed, code, {write.name: method(write) for write in WRITES})).items():
        for error in each_of(outcome):
            assert isinstance(error, StoreUnavailableError if code in IN_DOUBT else expected(code)), (name, error)
            assert answers(error) & {code, "DEADLINE_EXCEEDED"}, (name, error)
            if "DEADLINE_EXCEEDED" not in answers(error):
                assert (code in IN_DOUBT) == getattr(error, "outcome_unknown", False), (name, error)
            if name in ("save", "save first", "save_many") and code in PRECONDITIONS:
                assert not isinstance(error, DeadlineError), (name, error)  # it asks for nothing, so it knows at once
    assert before == {write.name: await direct.load(write.name) for write in WRITES}


@pytest.mark.parametrize(
    ("layout", "expected"),
    [
        ("serialized", ("stored", "ours", ["Commit", "GetDocument", "GetDocument", "Commit", "Commit"])),
        ("native", ("refused", "none", ["Commit", "GetDocument", "GetDocument"])),
    ],
)
async def test_an_update_that_is_invalid(
    direct: Store, relayed: Store, relay: Relay, layout: str, expected: tuple[str, str, list[str]]
) -> None:
    """It may be that the document is full: its log is compacted, and the update sent again.

    Native ones have no log. Of these the last read shows whether what is stored leaves room.
    """
    read = a_state("id")
    await in_layout(direct, layout).save("id", read)
    await relayed.load("id")
    invalid = iter([Refusal("INVALID_ARGUMENT", "The document is too large.")])
    relay.refusal = lambda call: next(invalid, None) if call.method == "Commit" else None
    relay.methods()

    try:
        await UPDATE_VERSION.run(in_layout(relayed, layout), "id", read, 1)
        outcome = "stored"
    except BackendError:
        outcome = "refused"
    assert expected == (outcome, await marks(direct, "id"), relay.methods())


@pytest.mark.parametrize(
    ("write", "expected"),
    [(UPDATE_VERSION, "conflict"), (SAVE_VERSION, "conflict"), (DELETE_VERSION, "conflict"), (DELETE, "stored")],
    ids=str,
)
@pytest.mark.parametrize("layout", ["serialized", "native"])
async def test_a_precondition_that_is_invalid(
    direct: Store, relayed: Store, relay: Relay, layout: str, write: Write, expected: str
) -> None:
    """Firestore may say so of a write that others were faster than. What is stored then tells how it ends."""
    read = a_state("id")
    await in_layout(direct, layout).save("id", read)
    await relayed.load("id")
    loop = asyncio.get_running_loop()
    sent: list[Call] = []

    def refusal(call: Call) -> Refusal | None:
        if call.method != "Commit" or sent:
            return None
        sent.append(call)
        asyncio.run_coroutine_threadsafe(others_update(in_layout(direct, layout), "id"), loop).result()
        return Refusal("INVALID_ARGUMENT", "The update_time of the precondition is later than that of the document.")

    relay.refusal = refusal

    assert expected == await outcome_of(write.run(in_layout(relayed, layout), "id", read, 1))
    assert ("gone" if write is DELETE else "theirs") == await marks(direct, "id")


async def test_an_update_that_stays_invalid(direct: Store, relayed: Store, relay: Relay) -> None:
    """Its log is compacted six times. The refusal of the update after the last compaction is raised."""
    read = a_state("id")
    await direct.save("id", read)
    sent: list[str] = []

    def refusal(call: Call) -> Refusal | None:
        if call.method != "Commit":
            return None
        [write] = CommitRequest.FromString(call.request).writes
        sent.append("update" if write.update_transforms else "compaction")  # an update appends to the log
        return Refusal("INVALID_ARGUMENT", "It is too large.") if write.update_transforms else None

    relay.refusal = refusal

    with pytest.raises(BackendError, match="It is too large"):
        await UPDATE_VERSION.run(relayed, "id", read, 1)
    assert (6, "update") == (sent.count("compaction"), sent[-1])


STREAMS: Final[dict[str, Method]] = {
    name: method for name, method in ALL.items() if name in ("list", "list_summaries", "load_many", "iterate", "export")
}


@pytest.mark.parametrize("code", ["UNAVAILABLE", "INTERNAL", "RESOURCE_EXHAUSTED", "PERMISSION_DENIED", "DATA_LOSS"])
async def test_a_status_in_the_middle_of_a_stream(direct: Store, relayed: Store, relay: Relay, code: str) -> None:
    """A stream that always breaks after its first message is an error too, and not a short answer."""
    await direct.save_many({name: a_state(name) for name in ("load_many", "load_many-2", "another")})
    relay.refuse(code, after=1)
    for name, outcome in (await outcomes(relayed, code, STREAMS)).items():
        for error in each_of(outcome):
            assert isinstance(error, expected(code)), (name, error)
            assert answers(error) & {code, "DEADLINE_EXCEEDED"}, (name, error)


INDEX_LINK: Final = (
    "https://console.firebase.google.com/v1/r/project/p/firestore/indexes?create_composite="
    "CkZwcm9qZWN0cy9wL2RhdGFiYXNlcy8oZGVmYXVsdCkvY29sbGVjdGlvbkdyb3Vwcy9nZW5raXQtZmxvd3MvaW5kZXhlcy9fEAEaCgoGc3RhdHVz"
    "EAEaDQoJc3RhcnRUaW1lEAIaDAoIX19uYW1lX18QAg"
)
INDEX: Final = {
    "collectionGroup": "genkit-flows",
    "queryScope": "COLLECTION",
    "fields": [{"fieldPath": "status", "order": "ASCENDING"}, {"fieldPath": "startTime", "order": "DESCENDING"}],
}
QUERYING: Final = ("list", "list_summaries", "count", "iterate", "purge", "gc", "migrate", "rewrap", "export")
TEXTS: Final[dict[str, tuple[str, str, type[FlowStateError], str]]] = {
    "permission": ("PERMISSION_DENIED", "Missing permissions.", AccessDeniedError, "roles/datastore.user"),
    "api": (
        "PERMISSION_DENIED",
        "Cloud Firestore API has not been used in project 4",
        AccessDeniedError,
        "gcloud serv",
    ),
    "credentials": ("UNAUTHENTICATED", "Invalid authentication credentials.", AccessDeniedError, "gcloud auth"),
    "quota": ("RESOURCE_EXHAUSTED", "Quota exceeded.", QuotaError, "retry later"),
    "database": (
        "NOT_FOUND",
        "The database (default) does not exist for project p",
        BackendError,
        "FLOWSTATE_DATABASE",
    ),
    "project": ("PERMISSION_DENIED", "Project 'nowhere' not found or deleted.", BackendError, "FLOWSTATE_PROJECT"),
    "mode": ("FAILED_PRECONDITION", "The database is in Datastore Mode.", BackendError, "native mode"),
}


@pytest.mark.parametrize(("code", "text", "kind", "advice"), TEXTS.values(), ids=TEXTS)
async def test_what_is_wrong_is_said(
    relayed: Store, relay: Relay, code: str, text: str, kind: type[FlowStateError], advice: str
) -> None:
    """Any method that meets it says what to do about permission, credentials, quota, database and project."""
    await relayed.load("any")
    relay.refuse(code, text)
    for name, outcome in (await outcomes(relayed, code, ALL)).items():
        for error in each_of(outcome):
            assert kind is type(error), (name, error)
            assert advice in str(error), (name, error)


async def test_a_missing_index(relayed: Store, relay: Relay) -> None:
    """Every method that queries raises it with the entry to add."""
    relay.refuse("FAILED_PRECONDITION", f"The query requires an index. You can create it here: {INDEX_LINK}")
    methods = {name: ALL[name] for name in QUERYING}
    for name, error in (await outcomes(relayed, "FAILED_PRECONDITION", methods)).items():
        assert isinstance(error, MissingIndexError), (name, error)
        assert INDEX == error.index, name
        assert "firebase deploy --only firestore:indexes" in str(error), name
