"""Flow states in Cloud Firestore."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, TypeVar

from . import _collection, _commit, _document, _operations
from ._changing import refuse_nested
from ._document.detaching import detached
from ._document.difference import Change
from ._document.error_texts import check_state, check_timeout, conflict, with_flow_id
from ._document.expiry import EXPIRE_AFTER, lasting, own_duration_of
from ._document.ids import check_flow_id
from ._query.due import due_query
from ._rpc import fork
from ._rpc.blocking_work import SharedWork
from ._rpc.deadline import Deadline
from ._rpc.loop_thread import check_that_a_loop_runs
from ._watch import Source, Watch
from .errors import FlowStateEncodeError
from .models import BlockedOnStep, CacheEntry, FlowState, FlowStateExecution, FlowStateSummary, Operation
from .query import FlowStateQuery, FlowStateQueryResponse, FlowStateSummaryResponse, first_page_or_all, query_or_all
from .reports import GcReport, MigrateReport, RewrapReport
from .settings import FlowStateSettings
from .unset import UNSET, Unset

if TYPE_CHECKING:
    from ._collection.collection import Collection
    from ._commit.expectation import Expectation
    from ._document.version import Version
    from ._rpc.connection import Connection

_Value = TypeVar("_Value")


class FirestoreFlowStateStore:
    """A VersionedFlowStateStore in a collection of a Firestore database.

    Constructing it does no I/O; it connects at the first call, once per process, and works from any event loop
    and thread. ``async with store`` opens a channel on the running loop, which saves a hop to another thread
    for each call, and closes it at the end; where no other loop has entered the store, it closes the store.

    Args:
        settings: Where and how; None: from the environment.
        client: A google.cloud.firestore AsyncClient or Client, or a firebase_admin App, whose project, database
            and credentials to use. It stays the caller's: `close` does not close it.
    """

    def __init__(self, settings: FlowStateSettings | None = None, *, client: Any = None) -> None:
        self._settings = FlowStateSettings() if settings is None else settings
        self._client = client
        self._connecting: SharedWork[Connection] = SharedWork()
        self._connection: Connection | None = None
        self._collection: Collection | None = None

    def __getstate__(self) -> dict[str, object]:
        # A copy, and the process that it is sent to, connects by itself.
        return {**vars(self), "_connection": None, "_collection": None}

    @classmethod
    def from_app(cls, app: Any, settings: FlowStateSettings | None = None) -> FirestoreFlowStateStore:
        """Return a store on the project and with the credentials of a firebase_admin App."""
        return cls(settings, client=app)

    @property
    def settings(self) -> FlowStateSettings:
        """The settings of the store."""
        return self._settings

    async def __aenter__(self) -> FirestoreFlowStateStore:
        connection = await self._connected(Deadline.after(self._settings.timeout))
        await connection.bind()
        return self

    async def __aexit__(self, *exc: object) -> None:
        check_that_a_loop_runs()
        if self._connection is not None:
            await self._connection.unbind()

    async def close(self) -> None:
        """Close what the store opened. It can be used again, and then connects again."""
        check_that_a_loop_runs()
        if self._connection is not None:
            await self._connection.close()

    async def ping(self, *, timeout: float | None = None) -> None:
        """Return if Firestore answers and the collection may be read.

        Raises:
            BackendError: It does not, or may not.
        """
        collection, deadline = await self._begin(timeout)
        await collection.get("flowstate-ping", deadline, mask=["flowId"])

    async def save(
        self,
        id: str,
        state: FlowState,
        *,
        if_version: str | Unset | None = UNSET,
        expire_after: timedelta | Unset | None = UNSET,
        timeout: float | None = None,
    ) -> None:
        """Store the state under the id; with `if_version` in place of that version only, None for none.

        Afterwards ``state.version`` is the stored version.

        Raises:
            InvalidFlowIdError: The id cannot name a document.
            FlowStateEncodeError: A value cannot be stored without loss.
            FlowStateConflictError: Another version is stored than `if_version`.
        """
        id = check_flow_id(id)
        with lasting(state, expire_after):
            await self._save(id, state, if_version, timeout)

    async def _save(self, id: str, state: FlowState, if_version: str | Unset | None, timeout: float | None) -> None:
        content = self._as_it_is(check_state(id, state))
        collection, deadline = await self._begin(timeout, writes=[id])
        expected = self._expected(id, if_version)
        try:
            await _operations.saving.save(collection, id, state, content=content, expected=expected, deadline=deadline)
        except _commit.commit.Conflict as conflicting:
            if if_version is None:
                raise conflict(id, expected=None, found=conflicting.found) from None
            raise conflicting.error from None

    async def create(
        self,
        id: str,
        state: FlowState,
        *,
        expire_after: timedelta | Unset | None = UNSET,
        timeout: float | None = None,
    ) -> None:
        """Store the state under an id that has none yet. Afterwards ``state.version`` is the stored version.

        Raises:
            InvalidFlowIdError: The id cannot name a document.
            FlowStateEncodeError: A value cannot be stored without loss.
            FlowStateExistsError: There is a state under the id.
        """
        id = check_flow_id(id)
        with lasting(state, expire_after):
            await self._create(id, state, timeout)

    async def _create(self, id: str, state: FlowState, timeout: float | None) -> None:
        content = self._as_it_is(check_state(id, state))
        collection, deadline = await self._begin(timeout, writes=[id])
        expected = self._expected(id, None)
        try:
            await _operations.saving.save(collection, id, state, content=content, expected=expected, deadline=deadline)
        except _commit.commit.Conflict as conflicting:
            raise conflicting.error from None

    async def load(self, id: str, *, timeout: float | None = None) -> FlowState | None:
        """Return the state stored under the id, or None where there is none or it has expired.

        Raises:
            InvalidFlowIdError: The id cannot name a document.
            FlowStateDecodeError: What is stored cannot be read.
        """
        id = check_flow_id(id)
        collection, deadline = await self._begin(timeout)
        return await _operations.reading.load(collection, id, deadline)

    async def update(
        self,
        id: str,
        *,
        cache: Mapping[str, CacheEntry] | None = None,
        remove: Iterable[str] = (),
        events_triggered: Mapping[str, Any] | None = None,
        operation: Operation | Unset = UNSET,
        blocked_on_step: BlockedOnStep | Unset | None = UNSET,
        executions: Sequence[FlowStateExecution] | Unset = UNSET,
        trace_context: str | Unset | None = UNSET,
        extra: Mapping[str, str | int | float | bool | Unset] | None = None,
        expire_after: timedelta | Unset | None = UNSET,
        if_version: str | Unset = UNSET,
        timeout: float | None = None,
    ) -> str:
        """Write what is named and leave the rest; return the new version.

        With `if_version` this is one round trip; where a state in parts has other fields than steps replaced, it reads
        first which parts these have. Without, it reads the head first and retries its own conflicts.

        Raises:
            InvalidFlowIdError: The id cannot name a document.
            FlowStateEncodeError: A value cannot be stored without loss.
            FlowStateNotFoundError: There is no state under the id.
            FlowStateConflictError: Another version is stored than `if_version`.
        """
        id = check_flow_id(id)
        now = detached if isinstance(if_version, Unset) else self._as_it_is  # without a version, a read comes first
        try:
            change = Change(
                cache={} if cache is None else now(cache),
                remove=remove,
                events_triggered={} if events_triggered is None else now(events_triggered),
                operation=now(operation),
                blocked_on_step=now(blocked_on_step),
                executions=now(executions),
                trace_context=trace_context,
                extra={} if extra is None else extra,
                expire_after=expire_after,
            )
        except FlowStateEncodeError as error:
            raise with_flow_id(error, id) from None
        collection, deadline = await self._begin(timeout, writes=[id])
        base = None if isinstance(if_version, Unset) else self._version(id, if_version)
        try:
            if base is None:
                version = await _operations.updating.update_latest(collection, id, change, deadline=deadline)
            else:
                version = await _operations.updating.update(collection, id, change, base=base, deadline=deadline)
        except _commit.commit.Conflict as conflicting:
            raise conflicting.error from None
        return version.to_text(collection.path_of(id))

    def edit(
        self, id: str, *, expire_after: timedelta | Unset | None = UNSET, timeout: float | None = None
    ) -> AbstractAsyncContextManager[FlowState]:
        """Load the state, and on leaving the block write what the block changed of it.

        Nothing is written where nothing changed or where the block raised. The timeout holds for the load and
        for the write.

        Raises:
            InvalidFlowIdError: The id cannot name a document.
            FlowStateNotFoundError: On entry: there is no state under the id.
            FlowStateConflictError: On exit: another writer changed the state meanwhile.
        """
        id = check_flow_id(id)
        return self._edit(id, own_duration_of(expire_after), timeout)

    @asynccontextmanager
    async def _edit(self, id: str, own: float | Unset, timeout: float | None) -> AsyncIterator[FlowState]:
        collection, _ = await self._begin(timeout, writes=[id])
        edit = await _operations.editing.Edit.begin(collection, id, timeout=timeout)
        if not isinstance(own, Unset):
            setattr(edit.state, EXPIRE_AFTER, own)
        # Not a generator around another: a loop that ends closes those that are left in no order, which fails.
        yield edit.state
        await edit.write()

    async def modify(
        self,
        id: str,
        change: Callable[[FlowState], Awaitable[FlowState | None] | FlowState | None],
        *,
        attempts: int = 100,
        timeout: float | None = None,
    ) -> FlowState:
        """Load the state, call `change` with it, write the difference; on a conflict all of it again.

        `change` changes the state that it is called with, or returns the one to be written in its place; what else it
        returns is passed over. It must be safe to call more than once. Returns the state as it was written.

        Raises:
            InvalidFlowIdError: The id cannot name a document.
            FlowStateNotFoundError: There is no state under the id.
            FlowStateConflictError: Other writers were first `attempts` times in a row.
            FlowStateError: `change` itself writes the state, by another call with the same id.
        """
        id = check_flow_id(id)
        collection, deadline = await self._begin(timeout, writes=[id])
        return await _operations.editing.modify(collection, id, change, attempts=attempts, deadline=deadline)

    async def delete(self, id: str, *, if_version: str | Unset = UNSET, timeout: float | None = None) -> None:
        """Delete the state under the id. Where there is none, and no `if_version`, this does nothing.

        Raises:
            InvalidFlowIdError: The id cannot name a document.
            FlowStateConflictError: Another version is stored than `if_version`, or none.
        """
        id = check_flow_id(id)
        collection, deadline = await self._begin(timeout, writes=[id])
        base = None if isinstance(if_version, Unset) else self._version(id, if_version)
        if base is None:
            await _operations.deleting.delete(collection, id, deadline=deadline)
        else:
            await _operations.deleting.delete_version(collection, id, base, deadline=deadline)

    async def list(
        self, query: FlowStateQuery | None = None, *, timeout: float | None = None
    ) -> FlowStateQueryResponse:
        """Return a page of states: newest ``start_time`` first, ties by id descending.

        Raises:
            InvalidContinuationTokenError: The token was not given for this collection and these filters.
            FlowStateDecodeError: A document cannot be read; ``response`` has the rest of the page.
        """
        collection, deadline = await self._begin(timeout)
        return await _operations.listing.list_states(collection, query_or_all(query), deadline)

    async def list_summaries(
        self, query: FlowStateQuery | None = None, *, timeout: float | None = None
    ) -> FlowStateSummaryResponse:
        """Return a page of summaries, in the order of `list`; no payload is read for them.

        Raises:
            InvalidContinuationTokenError: The token was not given for this collection and these filters.
            FlowStateDecodeError: A head cannot be read; ``response`` has the rest of the page.
        """
        collection, deadline = await self._begin(timeout)
        return await _operations.listing.list_summaries(collection, query_or_all(query), deadline)

    async def count(self, query: FlowStateQuery | None = None, *, timeout: float | None = None) -> int:
        """Return how many states the filters match, counted by the server; limit and token do not count.

        States that have expired and are not yet collected are counted.
        """
        collection, deadline = await self._begin(timeout)
        return await _operations.listing.count(collection, query_or_all(query), deadline)

    async def due(
        self,
        before: datetime | float | None = None,
        *,
        limit: int = 100,
        after: FlowStateSummary | None = None,
        timeout: float | None = None,
    ) -> Sequence[FlowStateSummary]:
        """Return the states whose unknown key ``wakeAt`` is at or before the moment: earliest first, ties by id.

        One query, or one a shard; no payload is read. A state whose head cannot be read is left out, with a warning.

        Args:
            before: The latest moment, inclusive: a datetime with a time zone, or milliseconds. None: now, by the
                clock of this machine.
            limit: How many at most, 1 to 300.
            after: Go on behind this one, the last of the page before.
            timeout: Seconds, retries included.

        Raises:
            InvalidQueryError: `before` is no moment, `limit` is out of range, or `after` has no ``wakeAt``.
        """
        query = due_query(before, now=datetime.now(timezone.utc), limit=limit, after=after)
        collection, deadline = await self._begin(timeout)
        return await _operations.due.due(collection, query, deadline)

    def watch(self, id: str) -> AsyncIterator[FlowState | None]:
        """Yield the state under the id now, and again after each change; None while there is none.

        States in between may be left out where changes come faster than they are taken; the last one never is. Each
        change sends the document, and is billed as a read; parts are read as `load` reads them. It goes on over lost
        connections until the iterator is closed or dropped.

        Raises:
            InvalidFlowIdError: The id cannot name a document.
            FlowStateDecodeError: What is stored cannot be read.
            BackendError: It cannot be watched, or the first answer did not come within the store's timeout.
        """
        id = check_flow_id(id)

        async def begin() -> Source[FlowState | None]:
            collection, deadline = await self._begin()
            return _operations.watching.StateWatch(collection, id, deadline)

        return Watch(begin)

    def watch_list(self, query: FlowStateQuery | None = None) -> AsyncIterator[Sequence[FlowStateSummary]]:
        """Yield the first page of `list_summaries` now, and again whenever it changes; as `watch` does.

        Firestore sends whole documents: at first those of the page (over shards, as many of each), then each that
        changes.

        Raises:
            InvalidQueryError: The query has a token: only the first page can be watched.
            FlowStateDecodeError: A head cannot be read, and the query does not say to skip those.
            BackendError: As of `watch`.
        """
        query = first_page_or_all(query)

        async def begin() -> Source[Sequence[FlowStateSummary]]:
            collection, deadline = await self._begin()
            return _operations.watching.PageWatch(collection, query, deadline)

        return Watch(begin)

    async def iterate(self, query: FlowStateQuery | None = None) -> AsyncIterator[FlowState]:
        """Yield every state the filters match, in the order of `list`, reading one page ahead.

        A limit of the query is the size of the pages. Over several shards, or by status, a page may be as of a moment
        up to five minutes ago, since it goes on with what the page before has read.

        Raises:
            FlowStateDecodeError: A document cannot be read and the query does not say to skip those.
        """
        collection, _ = await self._begin()
        async with _operations.listing.PagesAhead(collection, query_or_all(query)) as pages:
            async for page in pages:
                for state in page:
                    yield state

    async def save_many(self, states: Mapping[str, FlowState], *, timeout: float | None = None) -> None:
        """Store each state under its id, in place of what was there, in batches that are atomic each.

        Raises:
            FlowStateBatchError: Some were not stored; all others were.
        """
        states = dict(states)
        contents = self._as_it_is(states)
        collection, deadline = await self._begin(timeout, writes=states)
        await _operations.bulk.save_many(collection, states, deadline, contents=contents)

    async def load_many(self, ids: Iterable[str], *, timeout: float | None = None) -> dict[str, FlowState]:
        """Return the states stored under the ids, in the order of the ids; absent ones are left out.

        Raises:
            FlowStateBatchError: Some could not be read.
        """
        collection, deadline = await self._begin(timeout)
        return await _operations.bulk.load_many(collection, ids, deadline)

    async def delete_many(self, ids: Iterable[str], *, timeout: float | None = None) -> None:
        """Delete the states under the ids; absent ones are passed over.

        Raises:
            FlowStateBatchError: Some were not deleted; all others were.
        """
        ids = list(ids)
        collection, deadline = await self._begin(timeout, writes=ids)
        await _operations.bulk.delete_many(collection, ids, deadline)

    async def gc(self, *, dry_run: bool = False) -> GcReport:
        """Delete the parts of large states that no state refers to and that are older than an hour.

        They are left by writers that were killed, and by saves without a version over a state in parts that the
        writer had not read. A save in flight is never hurt.
        """
        collection, _ = await self._begin()
        return await _operations.orphans.collect(collection, dry_run=dry_run)

    async def purge(
        self,
        query: FlowStateQuery | None = None,
        *,
        older_than: timedelta,
        dry_run: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> int:
        """Delete the states that match and were neither started nor written within `older_than`.

        Expired ones too. A state that is written meanwhile stays. After a crash, call it again.

        Args:
            query: Which states; None: all. Limit and token do not count.
            older_than: How old they are at least.
            dry_run: Delete nothing.
            progress: Called after each page with the number so far.

        Returns:
            How many were deleted, or would be.

        Raises:
            ValueError: `older_than` is negative.
        """
        if older_than < timedelta(0):
            raise ValueError(f"older_than is a duration, not less than none: {older_than}")
        collection, _ = await self._begin()
        return await _operations.purging.purge(
            collection, query_or_all(query), older_than=older_than, dry_run=dry_run, progress=progress
        )

    async def migrate(
        self,
        target: FirestoreFlowStateStore,
        *,
        dry_run: bool = False,
        decrypt: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> MigrateReport:
        """Bring every flow state of this collection to the target's collection, in the target's layout.

        The target may be the same collection with another layout or more shards: then documents are rewritten in
        place. Each is written by compare-and-swap, so flows may run meanwhile. Doing it again does what is left.

        Args:
            target: Where to, with the settings that new documents are to have.
            dry_run: Write nothing; report what would be written and what could not be.
            decrypt: Say so if this store has keys and the target has none, as a native one must: what is encrypted
                here will be in the clear there.
            progress: Called after each state with the number so far.

        Raises:
            ValueError: The target would decrypt, and `decrypt` does not say so.
        """
        if self._settings.keys and not target.settings.keys and not decrypt:
            raise ValueError(
                "The source has keys and the target has none, so what is encrypted would be stored in the clear: "
                "give the target keys, or say decrypt=True."
            )
        source, _ = await self._begin()
        destination, _ = await target._begin()
        return await _operations.migrating.migrate(source, destination, dry_run=dry_run, progress=progress)

    async def rewrap(self, *, progress: Callable[[int], None] | None = None) -> RewrapReport:
        """Store every value anew that is not stored as the settings say now: above all, encrypt with the current key.

        Versions at hand stay good. After a rotation this is the step before the old key is taken out of the
        settings. Nothing of a native document is encrypted; the report names them, and `migrate` encrypts them.

        Args:
            progress: Called after each state with the number so far.

        Raises:
            FlowStateDecodeError: A value cannot be read; those before it are done.
        """
        collection, _ = await self._begin()
        return await _operations.rewrapping.rewrap(collection, progress=progress)

    async def _begin(self, timeout: float | None = None, *, writes: Iterable[str] = ()) -> tuple[Collection, Deadline]:
        """Begin a call: return the collection, and the deadline that the call has from now on.

        It is what every method begins with. For this package alone, but for all of it: what works on documents beside
        the store, as `backup`, `doctor` and `inspection` do, begins with it too, and may then use `_operations`.

        Args:
            timeout: Seconds that the call may take; None: those of the settings.
            writes: The ids that it is going to write to.

        Raises:
            FlowStateError: It would write to a flow state whose `modify` it is called by.
            BackendError: Nothing names a project or credentials.
        """
        check_timeout(timeout)
        deadline = Deadline.after(self._settings.timeout if timeout is None else timeout)
        connection = await self._connected(deadline)
        documents = await connection.documents(deadline)
        collection = self._collection
        if collection is None or collection.connection is not connection or collection.documents != documents:
            collection = self._collection = _collection.collection.collection_of(connection, self._settings, documents)
        refuse_nested(writes, collection=collection.name(""))
        return collection, deadline

    async def _connected(self, deadline: Deadline) -> Connection:
        check_that_a_loop_runs()
        if self._connection is not None:
            return self._connection
        return await self._connecting.result(self._connect, what="connecting", deadline=deadline)

    def _connect(self) -> Connection:
        """Import what calls Firestore, with grpc and Google's libraries: the one place that does, on a thread.

        It takes 0.3 s, which no event loop and no process that never calls should be held up for; and a process that
        has not imported grpc can be forked in any way.
        """
        with fork.held_off():
            _operations.import_all()
            from ._rpc.connection import Connection

            if self._connection is None:
                self._connection = Connection(self._settings, client=self._client)
            return self._connection

    def _as_it_is(self, value: _Value) -> _Value:
        """Return what is to be encoded: a copy if the connection comes first, since it may change meanwhile."""
        return value if self._connection is not None and self._connection.is_linked else detached(value)

    def _expected(self, id: str, if_version: str | Unset | None) -> Expectation:
        if isinstance(if_version, Unset):
            return _commit.expectation.Anything()
        if if_version is None:
            return _commit.expectation.Absent()
        return _commit.expectation.Exactly(self._version(id, if_version))

    def _version(self, id: str, text: str) -> Version:
        version = _document.version.Version.from_text(text, f"{self._settings.collection}/{id}")
        if version is None:
            raise conflict(id, expected=text, found=None)
        return version
