"""The connection of a store to its database, in any process, thread and event loop."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..settings import FlowStateSettings
from .deadline import Deadline
from .errors import credentials_error, exhausted_error, is_about_database, public_error
from .loop_thread import LoopThread
from .outcome import Ambiguous, CallFailed, Refused
from .retry import Exhausted, commit_again, is_about_size, is_ambiguous, read_again, until
from .target import Target, resolve

if TYPE_CHECKING:
    from .channel import Channel, Metadata
    from .messages import CommitResponse, Document, StructuredQuery, Timestamp, Write

_CERTAIN_REFUSALS = frozenset(
    {"FAILED_PRECONDITION", "ALREADY_EXISTS", "NOT_FOUND", "INVALID_ARGUMENT", "OUT_OF_RANGE"}
)


class Connection:
    """Calls to one database. Makes its channels when they are first needed, once per process id.

    A call goes over the channel of the running loop, where `bind` made one, or the client passed has one;
    otherwise it hops to a loop on a background thread. Only the call hops, never the caller's code.
    """

    def __init__(self, settings: FlowStateSettings, *, client: Any = None) -> None:
        self._settings = settings
        self._client = client
        self._processes: dict[int, _Process] = {}

    async def documents(self, deadline: Deadline) -> str:
        """Return ``projects/P/databases/D/documents``; the first call of a process looks for project and credentials.

        Raises:
            AccessDeniedError: There are no credentials.
            DeadlineError: Looking for them took longer than the deadline allows.
        """
        return (await self._resolved(deadline)).target.documents

    @property
    def is_emulator(self) -> bool:
        """Whether the database is an emulator's, which takes requests of at most 4 MiB. Known after `documents`."""
        target = self._process().target_or_none
        return target.is_emulator if target is not None else self._settings.emulator_host is not None

    async def commit(self, writes: Sequence[Write], *, deadline: Deadline, flow_id: str | None) -> CommitResponse:
        """Apply the writes, all or none.

        Sends the same bytes again only when they were certainly not applied: contention, a used up quota, or
        no connection.

        Raises:
            Refused: The server did not apply them, for a reason that the caller must judge.
            Ambiguous: They were sent, and may have been applied.
            BackendError: They were not applied, for any other reason.
        """
        process = await self._resolved(deadline)
        from .messages import CommitRequest, CommitResponse

        request = CommitRequest(database=process.target.database_name, writes=writes).SerializeToString()
        metadata = (*process.metadata, process.target.routing("database", process.target.database_name))
        try:
            [reply] = await self._until(deadline, "Commit", request, metadata, again=commit_again)
        except CallFailed as failure:
            if is_ambiguous(failure):
                raise Ambiguous(str(failure)) from failure
            if is_about_size(failure) or (failure.code in _CERTAIN_REFUSALS and not is_about_database(failure)):
                raise Refused(failure.code, failure.message) from failure
            raise self._public(failure, "commit", flow_id) from failure
        except Exhausted as exhausted:
            raise self._exhausted(exhausted, deadline, "commit", flow_id) from exhausted.failure
        return CommitResponse.FromString(reply)

    async def get(
        self,
        name: str,
        *,
        deadline: Deadline,
        flow_id: str | None = None,
        mask: Sequence[str] | None = None,
        read_time: Timestamp | None = None,
    ) -> Document | None:
        """Return the document with this resource name, or None where there is none.

        Args:
            name: The resource name of the document.
            deadline: When the call must have ended.
            flow_id: The flow that errors are to name.
            mask: The field paths to read; None: all.
            read_time: Read the document as it was then.
        """
        process = await self._resolved(deadline)
        from .messages import Document, DocumentMask, GetDocumentRequest

        request = GetDocumentRequest(name=name, read_time=read_time)
        if mask is not None:
            request.mask.CopyFrom(DocumentMask(field_paths=mask))
        metadata = (*process.metadata, process.target.routing("name", name))
        try:
            [reply] = await self._until(
                deadline, "GetDocument", request.SerializeToString(), metadata, again=read_again
            )
        except CallFailed as failure:
            if failure.code == "NOT_FOUND" and not is_about_database(failure):
                return None
            raise self._public(failure, "get", flow_id) from failure
        except Exhausted as exhausted:
            raise self._exhausted(exhausted, deadline, "get", flow_id) from exhausted.failure
        return Document.FromString(reply)

    async def batch_get(
        self,
        names: Sequence[str],
        *,
        deadline: Deadline,
        flow_id: str | None = None,
        mask: Sequence[str] | None = None,
        read_time: Timestamp | None = None,
    ) -> dict[str, Document]:
        """Return the documents with these resource names, all as of one time; those that are missing are left out."""
        if not names:
            return {}
        process = await self._resolved(deadline)
        from .messages import BatchGetDocumentsRequest, BatchGetDocumentsResponse, DocumentMask

        request = BatchGetDocumentsRequest(database=process.target.database_name, documents=names, read_time=read_time)
        if mask is not None:
            request.mask.CopyFrom(DocumentMask(field_paths=mask))
        routing = process.target.routing("database", process.target.database_name)
        replies = await self._read("BatchGetDocuments", request, routing, deadline=deadline, flow_id=flow_id)
        found = (reply.found for reply in map(BatchGetDocumentsResponse.FromString, replies) if reply.HasField("found"))
        return {document.name: document for document in found}

    async def run_query(
        self, parent: str, query: StructuredQuery, *, deadline: Deadline, read_time: Timestamp | None = None
    ) -> list[Document]:
        """Return the documents below `parent` that the query selects, in its order.

        Raises:
            MissingIndexError: No index serves the query; never on the emulator, which needs none.
        """
        process = await self._resolved(deadline)
        from .messages import RunQueryRequest, RunQueryResponse

        request = RunQueryRequest(parent=parent, structured_query=query, read_time=read_time)
        routing = process.target.routing("parent", parent)
        replies = await self._read("RunQuery", request, routing, deadline=deadline, flow_id=None)
        # A reply without a document reports progress only.
        return [r.document for r in map(RunQueryResponse.FromString, replies) if r.HasField("document")]

    async def count(self, parent: str, query: StructuredQuery, *, deadline: Deadline) -> int:
        """Return how many documents below `parent` the query selects; the server counts them."""
        process = await self._resolved(deadline)
        from .messages import RunAggregationQueryRequest, RunAggregationQueryResponse, StructuredAggregationQuery

        aggregation = StructuredAggregationQuery(structured_query=query, aggregations=[{"alias": "n", "count": {}}])
        request = RunAggregationQueryRequest(parent=parent, structured_aggregation_query=aggregation)
        routing = process.target.routing("parent", parent)
        replies = await self._read("RunAggregationQuery", request, routing, deadline=deadline, flow_id=None)
        results = (r.result for r in map(RunAggregationQueryResponse.FromString, replies) if r.HasField("result"))
        return sum(int(result.aggregate_fields["n"].integer_value) for result in results)

    async def bind(self) -> None:
        """Open a channel on the running loop, which its calls go over directly from now on."""
        process = await self._resolved(Deadline.after(self._settings.timeout))
        from .channel import open_channel

        process.bind(asyncio.get_running_loop(), open_channel)

    async def unbind(self) -> None:
        """Close the channel that `bind` opened on the running loop, the last time if it was bound more than once."""
        channel = self._process().unbind(asyncio.get_running_loop())
        if channel is not None:
            await channel.close()

    async def close(self) -> None:
        """Close every channel and end the background thread. The next call connects again."""
        process = self._processes.pop(os.getpid(), None)
        if process is not None:
            await process.close()

    def _process(self) -> _Process:
        pid = os.getpid()
        process = self._processes.get(pid)
        # setdefault is atomic: threads that race here agree on one.
        return process if process is not None else self._processes.setdefault(pid, _Process())

    async def _resolved(self, deadline: Deadline) -> _Process:
        process = self._process()
        if process.target_or_none is not None:
            return process
        try:
            target, metadata = await asyncio.wait_for(
                asyncio.to_thread(_resolve, self._settings, self._client), max(deadline.remaining(), 0.01)
            )
        except asyncio.TimeoutError:
            nothing = exhausted_error(
                Exhausted(0, None),
                deadline=deadline,
                what="looking for credentials",
                database="Firestore",
                flow_id=None,
            )
            raise nothing from None
        process.target_or_none, process.metadata = target, metadata
        return process

    async def _read(
        self, name: str, request: Any, routing: tuple[str, str], *, deadline: Deadline, flow_id: str | None
    ) -> list[bytes]:
        metadata = (*self._process().metadata, routing)
        try:
            return await self._until(deadline, name, request.SerializeToString(), metadata, again=read_again)
        except CallFailed as failure:
            raise self._public(failure, name, flow_id) from failure
        except Exhausted as exhausted:
            raise self._exhausted(exhausted, deadline, name, flow_id) from exhausted.failure

    async def _until(
        self, deadline: Deadline, name: str, request: bytes, metadata: Metadata, *, again: Any
    ) -> list[bytes]:
        process = self._process()

        async def attempt(timeout: float) -> list[bytes]:
            channel = process.bound.get(asyncio.get_running_loop())
            if channel is not None:
                return await channel.call(name, request, metadata=metadata, timeout=timeout)
            return await process.background().run(process.call(name, request, metadata=metadata, timeout=timeout))

        return await until(deadline, attempt, again=again)

    def _public(self, failure: CallFailed, what: str, flow_id: str | None) -> Exception:
        return public_error(failure, what=what, database=self._process().target.database_name, flow_id=flow_id)

    def _exhausted(self, exhausted: Exhausted, deadline: Deadline, what: str, flow_id: str | None) -> Exception:
        database = self._process().target.database_name
        return exhausted_error(exhausted, deadline=deadline, what=what, database=database, flow_id=flow_id)


class _Process:
    """What a connection has in one process: target, background loop, channels."""

    def __init__(self) -> None:
        self.target_or_none: Target | None = None
        self.metadata: Metadata = ()
        self.bound: dict[asyncio.AbstractEventLoop, Channel] = {}
        self._bindings: dict[asyncio.AbstractEventLoop, int] = {}
        self._lock = threading.Lock()
        self._background: LoopThread | None = None
        self._channel: Channel | None = None  # on the background loop

    @property
    def target(self) -> Target:
        assert self.target_or_none is not None  # noqa: S101  # `_resolved` comes before
        return self.target_or_none

    def background(self) -> LoopThread:
        with self._lock:
            if self._background is None:
                self._background = LoopThread("firestore-flowstate")
            return self._background

    async def call(self, name: str, request: bytes, *, metadata: Metadata, timeout: float) -> list[bytes]:
        """Make the call on the background loop, which this must run on."""
        if self._channel is None:
            from .channel import open_channel

            self._channel = open_channel(self.target)
        return await self._channel.call(name, request, metadata=metadata, timeout=timeout)

    def bind(self, loop: asyncio.AbstractEventLoop, open_channel: Any) -> None:
        if loop not in self.bound:
            self.bound[loop] = open_channel(self.target)
        self._bindings[loop] = self._bindings.get(loop, 0) + 1

    def unbind(self, loop: asyncio.AbstractEventLoop) -> Channel | None:
        left = self._bindings.pop(loop, 1) - 1
        if left > 0:
            self._bindings[loop] = left
            return None
        return self.bound.pop(loop, None)

    async def close(self) -> None:
        channel = self.unbind(asyncio.get_running_loop())
        if channel is not None:
            await channel.close()
        with self._lock:
            background, self._background = self._background, None
        if background is None:
            return
        if self._channel is not None:
            await background.run(self._channel.close())
        await asyncio.to_thread(background.stop)


def _resolve(settings: FlowStateSettings, client: Any) -> tuple[Target, Metadata]:
    import google.auth.exceptions

    from . import channel, messages  # noqa: F401  # so that no event loop is held up by their import later

    try:
        target = resolve(settings, client)
    except google.auth.exceptions.GoogleAuthError as error:
        raise credentials_error(error) from error
    return target, target.metadata()
