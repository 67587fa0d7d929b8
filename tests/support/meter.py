"""What Firestore bills for what comes by: documents read, written and deleted, by its rules."""

from __future__ import annotations

import math
import re
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

import grpc
import pytest

from firestore_flowstate import FirestoreFlowStateStore, FlowStateSettings
from firestore_flowstate._collection.collection import SETTLED
from firestore_flowstate._rpc.messages import (
    BatchGetDocumentsRequest,
    CommitRequest,
    Document,
    GetDocumentRequest,
    ListenRequest,
    ListenResponse,
    RunAggregationQueryResponse,
    RunQueryResponse,
)
from tests.faults.relay import Relay

COSTS: Final = Path(__file__).parents[2] / "docs" / "costs.md"
_INDEX_ENTRIES_A_READ = 1000  # index entries of an aggregation that are billed as one read
_NO_CHANGE, _RESET = 0, 4  # kinds of changes of a target


class Bill(NamedTuple):
    """Documents that were read, written and deleted."""

    reads: int = 0
    writes: int = 0
    deletes: int = 0


class Meter(Relay):
    """A relay that adds up what the calls that succeed are billed.

    Attributes:
        bill: The sum since `take` was last called.
        sent: The size of each message in which Listen has sent a document since then, and of the document in it.
    """

    def __init__(self, upstream: str) -> None:
        super().__init__(upstream)
        self.bill = Bill()
        self._adding = threading.Lock()
        self.sent: list[tuple[int, int]] = []

    def take(self) -> Bill:
        """Return the bill so far, and begin another."""
        with self._adding:
            bill, self.bill = self.bill, Bill()
        self.sent = []
        return bill

    def listen(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        """Yield what is said on a stream of Listen, and add what it is billed.

        "You are charged for a read each time a document in the result set is added or updated. You are also charged
        for a read when a document is removed from the result set because the document has changed." A target that
        finds nothing at first is one read, as a query is.
        https://firebase.google.com/docs/firestore/pricing#listens
        """
        targets: dict[int, _View] = {}

        def noted() -> Iterator[bytes]:
            with suppress(grpc.RpcError):  # they end with the stream
                for serialized in requests:
                    request = ListenRequest.FromString(serialized)
                    if request.HasField("add_target"):
                        targets[request.add_target.target_id] = _View()
                    yield serialized

        for message in super().listen(noted(), context):
            response = ListenResponse.FromString(message)
            kind = response.WhichOneof("response_type")
            told = getattr(response, kind)
            if kind == "document_change":
                self.sent.append((len(message), told.document.ByteSize()))
                for id in told.target_ids:
                    targets[id].now[told.document.name] = told.document.update_time.ToNanoseconds()
                for id in told.removed_target_ids:
                    targets[id].now.pop(told.document.name, None)
            elif kind in ("document_delete", "document_remove"):
                for id in told.removed_target_ids:
                    targets[id].now.pop(told.document, None)
            elif told.target_change_type == _RESET:
                for id in told.target_ids:
                    targets[id].now.clear()
            elif told.target_change_type == _NO_CHANGE and not told.target_ids:  # all is of one moment
                self._add(reads=sum(self._reads_of(view) for view in list(targets.values())))
            yield message

    def _reads_of(self, view: _View) -> int:
        """Return what has become of a target since the last time, in reads."""
        if view.before is None:
            reads = max(1, len(view.now))
        else:
            reads = len(view.now.items() - view.before.items())
            reads += sum(self._has_changed(name, view.before[name]) for name in view.before.keys() - view.now.keys())
        view.before = dict(view.now)
        return reads

    def _has_changed(self, name: str, updated: int) -> bool:
        """Return whether a document that has left a target is there, and another than it was."""
        request = GetDocumentRequest(name=name).SerializeToString()
        headers = (("authorization", "Bearer owner"),)
        try:
            answer = self._channel.unary_unary("/google.firestore.v1.Firestore/GetDocument")(request, metadata=headers)
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.NOT_FOUND:
                raise
            return False
        changed: bool = Document.FromString(answer).update_time.ToNanoseconds() != updated
        return changed

    def pass_on(self, method: str, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        """Yield the messages of the answer, and add what the call is billed."""
        answer = []
        if method == "GetDocument":
            self._add(reads=1)  # of a document that is not there too
        for message in super().pass_on(method, request, context):
            answer.append(message)
            yield message
        if method == "BatchGetDocuments":
            names = list(BatchGetDocumentsRequest.FromString(request).documents)
            if not names[0].endswith(f"/{SETTLED}"):  # which production is not asked for
                self._add(reads=len(names))
        elif method == "RunQuery":  # one read for a query that finds nothing
            self._add(
                reads=max(1, sum(RunQueryResponse.FromString(message).HasField("document") for message in answer))
            )
        elif method == "RunAggregationQuery":
            self._add(reads=sum(map(_reads_of_a_count, answer)))
        elif method == "Commit":
            kinds = [write.WhichOneof("operation") for write in CommitRequest.FromString(request).writes]
            self._add(writes=kinds.count("update"), deletes=kinds.count("delete"))
            assert len(kinds) == kinds.count("update") + kinds.count("delete")
        else:
            assert method == "GetDocument", method

    def _add(self, *, reads: int = 0, writes: int = 0, deletes: int = 0) -> None:
        with self._adding:  # calls are handled by many threads
            self.bill = Bill(self.bill.reads + reads, self.bill.writes + writes, self.bill.deletes + deletes)


class _View:
    """The documents of a target, as nanoseconds of their writes by their names, and those that were billed."""

    def __init__(self) -> None:
        self.now: dict[str, int] = {}
        self.before: dict[str, int] | None = None


@pytest.fixture
def meter(flow_state_settings: FlowStateSettings) -> Iterator[Meter]:
    """What comes by on the way to the emulator."""
    assert flow_state_settings.emulator_host is not None
    with Meter(flow_state_settings.emulator_host) as meter:
        yield meter


@pytest.fixture
async def metered(
    flow_state_settings: FlowStateSettings, meter: Meter, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[FirestoreFlowStateStore]:
    """A store whose calls are metered."""

    async def now(*_: object) -> None:
        """Not be on the emulator, which alone is asked for the time before a page of several queries."""

    monkeypatch.setattr("firestore_flowstate._collection.collection.settled_time", now)
    async with FirestoreFlowStateStore(flow_state_settings.model_copy(update={"emulator_host": meter.host})) as store:
        yield store


def written_bills(table: str) -> dict[str, Bill]:
    """Return the rows of a table of docs/costs.md. An empty cell says that there are none."""
    text = COSTS.read_text().partition(f"<!-- table: {table} -->\n")[2].partition("<!-- end -->")[0]
    rows = re.findall(r"^\| (.+?) ((?:\| ?[\d,]* ?){2,3})\|$", text, re.MULTILINE)
    return {name: Bill(*map(_number, cells.split("|")[1:])) for name, cells in rows}


def _number(cell: str) -> int:
    return int(cell.strip().replace(",", "") or 0)


def _reads_of_a_count(message: bytes) -> int:
    [counted] = RunAggregationQueryResponse.FromString(message).result.aggregate_fields.values()
    return max(1, math.ceil(counted.integer_value / _INDEX_ENTRIES_A_READ))
