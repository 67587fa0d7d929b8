"""The connection of a store to its database, in any process, thread and event loop."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from ..errors import BackendError, DeadlineError, StoreUnavailableError
from ..settings import FlowStateSettings
from . import fork
from .call_errors import exhausted_error, is_about_database, no_loop_error, public_error, unanswered_error
from .calling import NoDocument, call, parsed, read, serialized_commit
from .concurrency import SharedWork
from .database import database_of_settings
from .deadline import Deadline, monotonic
from .link import Link
from .messages import (
    BatchGetDocumentsRequest,
    BatchGetDocumentsResponse,
    CommitResponse,
    Document,
    DocumentMask,
    GetDocumentRequest,
    RunAggregationQueryRequest,
    RunAggregationQueryResponse,
    RunQueryRequest,
    RunQueryResponse,
    StructuredAggregationQuery,
    StructuredQuery,
    Target,
    Timestamp,
    Write,
)
from .outcome import (
    Ambiguous,
    CallFailed,
    Exhausted,
    Meaning,
    Refused,
    commit_again,
    is_about_size,
    is_ambiguous,
    means,
)
from .watched import Watched, Watching


class Connection:
    """Calls to one database. It opens its channels when they are first needed, anew in each process.

    A call goes over the channel of the running loop, if `bind` opened one or the client that was passed has one.
    Otherwise it goes over the channel of a background thread's loop. The call alone hops to that loop, and never the
    caller's code.

    Args:
        settings: They name the database and the usual timeout.
        client: An AsyncClient or Client of google.cloud.firestore or a firebase_admin App, which is never closed
            here. What it names wins over the settings.
    """

    def __init__(self, settings: FlowStateSettings, *, client: Any = None) -> None:
        self._settings = settings
        self._client = client
        # By process id: a forked child must not use the links that it inherits, nor may the collector free them there.
        self._links: dict[int, Link] = {}
        self._linking: SharedWork[Link] = SharedWork()

    def __reduce__(self) -> tuple[Callable[..., Connection], tuple[FlowStateSettings]]:
        """Give copies, also those in other processes, channels of their own."""
        return partial(Connection, client=self._client), (self._settings,)

    async def documents(self, deadline: Deadline) -> str:
        """Return ``projects/P/databases/D/documents``.

        The first call of a process imports grpc and looks for project and credentials, on a thread; later ones are
        cheap.

        Raises:
            AccessDeniedError: There are no credentials.
            BackendError: Nothing names a project.
            DeadlineError: The deadline passed first.
        """
        return self.known_documents() or (await self._make_link(deadline)).database.documents

    def known_documents(self) -> str | None:
        """Return what `documents` does if this process has called that before, else None."""
        _check_loop()
        link = self._links.get(os.getpid())
        return None if link is None else link.database.documents

    @property
    def is_linked(self) -> bool:
        """Whether this process has called `documents`, which then answers without waiting."""
        return os.getpid() in self._links

    @property
    def is_emulator(self) -> bool:
        """Whether the database is an emulator's, which takes requests of at most 4 MiB. Known after `documents`."""
        link = self._links.get(os.getpid())
        return link.database.is_emulator if link is not None else self._settings.emulator_host is not None

    async def commit(
        self, writes: Sequence[Write | bytes], *, deadline: Deadline, flow_id: str | None
    ) -> CommitResponse:
        """Apply the writes, all or none.

        The same bytes are sent again only if they were certainly not applied: after contention, a used up quota, or a
        failure to connect.

        Args:
            writes: The writes, serialized or not.
            deadline: When the call must have ended.
            flow_id: The flow state that errors are to name.

        Raises:
            Refused: The server did not apply the writes, for a reason that the caller must judge.
            Ambiguous: The writes were sent, and may have been applied.
            BackendError: The writes were not applied, for any other reason.
        """
        link = self._links.get(os.getpid()) or await self._make_link(deadline)
        database = link.database.name
        request = serialized_commit(database, writes)
        began = monotonic()
        try:
            [reply] = await call(link, "Commit", request, ("database", database), deadline=deadline, again=commit_again)
        except CallFailed as failure:
            if is_ambiguous(failure):
                raise Ambiguous(str(failure), sent_at=failure.began or began) from failure
            if is_about_size(failure) or (means(failure.code, Meaning.REFUSED) and not is_about_database(failure)):
                raise Refused(failure.code, failure.message) from failure
            raise public_error(failure, what="commit", database=database, flow_id=flow_id) from failure
        except Exhausted as end:
            raise exhausted_error(
                end, deadline=deadline, what="commit", database=database, flow_id=flow_id
            ) from end.failure
        try:
            return parsed(CommitResponse, reply)
        except BackendError as error:  # a server has answered, and nobody can read what
            raise Ambiguous(str(error), sent_at=began) from error

    async def get(
        self,
        name: str,
        *,
        deadline: Deadline,
        flow_id: str | None = None,
        mask: Sequence[str] | None = None,
        read_time: Timestamp | None = None,
    ) -> Document | None:
        """Return the document with this resource name, or None if there is none.

        Args:
            name: The resource name of the document.
            deadline: When the call must have ended.
            flow_id: The flow state that errors are to name.
            mask: The field paths to read; None: all.
            read_time: Read the document as it was at that time; None: as it is now.
        """
        link = self._links.get(os.getpid()) or await self._make_link(deadline)
        request = GetDocumentRequest(name=name, mask=_mask(mask), read_time=read_time)
        try:
            [reply] = await read(link, "GetDocument", request, ("name", name), deadline=deadline, flow_id=flow_id)
        except NoDocument:
            return None
        return parsed(Document, reply)

    async def batch_get(
        self,
        names: Sequence[str],
        *,
        deadline: Deadline,
        flow_id: str | None = None,
        mask: Sequence[str] | None = None,
        read_time: Timestamp | None = None,
    ) -> dict[str, Document]:
        """Return the documents with these resource names, by name; those that are missing are left out."""
        if not names:
            return {}
        link = self._links.get(os.getpid()) or await self._make_link(deadline)
        database = link.database.name
        request = BatchGetDocumentsRequest(database=database, documents=names, mask=_mask(mask), read_time=read_time)
        replies = await read(
            link, "BatchGetDocuments", request, ("database", database), deadline=deadline, flow_id=flow_id
        )
        results = (parsed(BatchGetDocumentsResponse, reply) for reply in replies)
        return {result.found.name: result.found for result in results if result.HasField("found")}

    async def time_of(self, name: str, *, deadline: Deadline) -> Timestamp:
        """Return the time at which the server reads the document with this resource name, whether it is there or not.

        The time is later than that of every commit that the server has answered before.
        """
        link = self._links.get(os.getpid()) or await self._make_link(deadline)
        database = link.database.name
        request = BatchGetDocumentsRequest(database=database, documents=[name], mask=_mask([]))
        replies = await read(
            link, "BatchGetDocuments", request, ("database", database), deadline=deadline, flow_id=None
        )
        time: Timestamp = parsed(BatchGetDocumentsResponse, replies[-1]).read_time
        return time

    async def run_query(
        self, parent: str, query: StructuredQuery, *, deadline: Deadline, flow_id: str | None = None
    ) -> list[Document]:
        """Return the documents below `parent` that the query selects, in its order.

        Args:
            parent: The resource name of the document or the database.
            query: The query.
            deadline: When to give up.
            flow_id: The flow state that errors are to name; None: the query is about several.

        Raises:
            MissingIndexError: No index serves the query; never on the emulator, which needs none.
        """
        documents, _ = await self.run_query_at(parent, query, deadline=deadline, flow_id=flow_id)
        return documents

    async def run_query_at(
        self,
        parent: str,
        query: StructuredQuery,
        *,
        deadline: Deadline,
        read_time: Timestamp | None = None,
        flow_id: str | None = None,
    ) -> tuple[list[Document], Timestamp | None]:
        """Return what `run_query` does, with the server's time as of which the query was answered."""
        link = self._links.get(os.getpid()) or await self._make_link(deadline)
        request = RunQueryRequest(parent=parent, structured_query=query, read_time=read_time)
        replies = await read(link, "RunQuery", request, ("parent", parent), deadline=deadline, flow_id=flow_id)
        results = [parsed(RunQueryResponse, reply) for reply in replies]
        # Some replies tell of progress only. By Firestore's reference, the last read_time holds for all replies before.
        return [result.document for result in results if result.HasField("document")], _last_read_time(results)

    async def count(
        self, parent: str, query: StructuredQuery, *, deadline: Deadline, read_time: Timestamp | None = None
    ) -> tuple[int, Timestamp | None]:
        """Return how many documents below `parent` the query selects, with the server's time. The server counts them.

        Raises:
            MissingIndexError: No index serves the query; never on the emulator, which needs none.
        """
        link = self._links.get(os.getpid()) or await self._make_link(deadline)
        aggregation = StructuredAggregationQuery(structured_query=query, aggregations=[{"alias": "n", "count": {}}])
        request = RunAggregationQueryRequest(
            parent=parent, structured_aggregation_query=aggregation, read_time=read_time
        )
        replies = await read(link, "RunAggregationQuery", request, ("parent", parent), deadline=deadline, flow_id=None)
        results = [parsed(RunAggregationQueryResponse, reply) for reply in replies]
        total = sum(r.result.aggregate_fields["n"].integer_value for r in results if r.HasField("result"))
        return total, _last_read_time(results)

    def watch(self, targets: Sequence[Target]) -> Watching:
        """Return a Watching of targets of Listen. Its user must end it by `Watching.end`.

        Args:
            targets: The targets, each with its documents or its query and without an id.
        """
        return Watching(self, targets)

    async def watch_on(self, watched: Watched, deadline: Deadline) -> Callable[[], object]:
        """Put a target on a stream of this process; return the function that takes it off."""
        link = self._links.get(os.getpid()) or await self._make_link(deadline)
        return await link.watch(watched)

    def failure_of_watching(self, failure: CallFailed) -> BackendError:
        """Return the public error of a target that cannot be watched any more."""
        return public_error(failure, what="Listen", database=self._database(), flow_id=None)

    def unanswered_watching(self, attempts: int, failure: CallFailed | None, deadline: Deadline) -> DeadlineError:
        """Return the public error of a target whose first answer did not come in time."""
        return unanswered_error(attempts, failure, deadline=deadline, what="Listen", database=self._database())

    async def bind(self) -> None:
        """Open a channel on the running loop. From now on the calls of this loop go over it directly.

        For each call of this, `unbind` must be called once.
        """
        _check_loop()
        link = self._links.get(os.getpid()) or await self._make_link(Deadline.after(self._settings.timeout))
        link.bind()

    async def unbind(self) -> None:
        """Undo one `bind` of the running loop. The last of a loop closes its channel, the last of all closes all."""
        _check_loop()
        link = self._links.get(os.getpid())
        if link is not None:
            await link.unbind()

    def refused_error(self, refused: Refused, *, flow_id: str | None) -> BackendError:
        """Return the public error of a refused commit that a caller of `commit` can do nothing about."""
        failure = refused.__cause__
        assert isinstance(failure, CallFailed)  # noqa: S101  # `commit` raised it from one
        error = public_error(failure, what="commit", database=self._database(), flow_id=flow_id)
        error.__cause__ = refused  # set here, since an error of a batch is not raised
        return error

    def reference(self, name: str) -> Any:
        """Return a DocumentReference of Google's client to the document with a resource name, of any database."""
        from .client import reference  # it imports google.cloud, which only documents with references need

        return reference(name, client=self._client)

    async def close(self) -> None:
        """Close every channel that was opened here, and end the background thread. The next call connects again."""
        _check_loop()
        link = self._links.pop(os.getpid(), None)
        if link is not None:
            await link.close()

    def _database(self) -> str:
        """Return the resource name of the database for an error. Another thread may have closed the connection."""
        link = self._links.get(os.getpid())
        return "the database" if link is None else link.database.name

    async def _make_link(self, deadline: Deadline) -> Link:
        pid = os.getpid()
        if any(link.is_open for link in self._links.values()):
            raise StoreUnavailableError(
                "this process was forked, but not by Python, while this store was connected, after which it cannot "
                "call Firestore: close the store before the fork, or make it after the fork"
            )
        return await self._linking.result(
            partial(self._new_link, pid), what="looking for credentials", deadline=deadline
        )

    def _new_link(self, pid: int) -> Link:
        link = self._link_to_database()
        link.check_usable()
        return self._links.setdefault(pid, link)

    def _link_to_database(self) -> Link:
        if self._client is None and self._settings.emulator_host is not None:
            return Link(database_of_settings(self._settings))
        with fork.held_off():  # google.auth takes as long to import as grpc, and the emulator does not need it
            from .credentials import database_with_credentials
        return Link(database_with_credentials(self._settings, self._client), client=self._client)


def _check_loop() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        raise no_loop_error() from None


def _last_read_time(replies: Sequence[Any]) -> Timestamp | None:
    return next((reply.read_time for reply in reversed(replies) if reply.HasField("read_time")), None)


def _mask(field_paths: Sequence[str] | None) -> Any:
    return None if field_paths is None else DocumentMask(field_paths=field_paths)
