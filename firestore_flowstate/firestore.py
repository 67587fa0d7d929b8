"""Flow states in Cloud Firestore."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from . import _collection, _commit, _document, _operations
from ._arguments import check_change, check_progress, check_states, check_timeout, check_version, forbid_nested
from ._document.difference import Change
from ._document.encoded_state import detached
from ._document.head import EXPIRE_AFTER, lasting, own_duration_of
from ._document.wire import check_state
from ._edit_block import Begun, EditBlock
from ._error_texts import conflict, not_a_version
from ._iteration import Iteration, PageSource
from ._limits import check_flow_id, check_flow_ids, exact
from ._query.matching import due_query
from ._rpc import fork
from ._rpc.concurrency import SharedWork
from ._rpc.deadline import Deadline
from ._watch import Source, Watch
from .errors import shown
from .models import BlockedOnStep, CacheEntry, FlowState, FlowStateExecution, Operation
from .pages import FlowStateQueryResponse, FlowStateSummary, FlowStateSummaryResponse
from .query import FlowStateQuery, first_page_or_all, query_or_all
from .reports import GcReport, MigrateReport, PurgeReport, RewrapReport
from .settings import FlowStateSettings, settings_or_default
from .store import VersionedFlowStateStore
from .unset import UNSET, Unset

if TYPE_CHECKING:
    from ._collection.collection import Collection
    from ._commit.conflict import Conflict
    from ._document.version import Expectation, Version
    from ._rpc.connection import Connection


class FirestoreFlowStateStore(VersionedFlowStateStore):
    """A VersionedFlowStateStore in a collection of a Firestore database.

    Constructing it does no I/O. It connects at the first call, once per process, and works from any event loop
    and thread. ``async with store`` opens a channel on the running loop, which saves a hop to another thread
    for each call, and closes that channel at the end. If no other loop has entered the store, it closes the store::

        async with FirestoreFlowStateStore(FlowStateSettings(collection="flows")) as store:
            await store.save("order-17", FlowState.start(input="rivers"))

    Its methods do what `VersionedFlowStateStore` says. What they cost here:

    - `update` with a version is one round trip. If the version is a text from another process, and the update replaces
      other fields than steps of a state that has parts, it reads first which parts these fields have. Without a version
      it reads the head first, and tries again after a conflict.
    - `save_many` and `delete_many` send batches, each of them atomic.
    - `list_summaries` and `due` read no payload. `due` is one query, or one a shard. It leaves out a state whose head
      cannot be read, with a warning when it meets the state for the first time.
    - `count` counts on the server. It includes states that have expired and that Firestore has not deleted yet.
    - `iterate` reads one page ahead. Over several shards, or by status, a page may show its states as they were up to
      five minutes ago, since it begins with documents that were read for the page before.
    - `watch` is billed a read for each change, since Firestore sends the document with it. Parts are read as by `load`.
      `watch_list` is billed a read for each document of the page at first (with shards, for as many of each shard),
      then for each that changes. It is sent whole documents.

    Args:
        settings: Which collection, and how to store; None: settings from the environment.
        client: A google.cloud.firestore AsyncClient or Client, or a firebase_admin App. The store uses its project and
            credentials, and of a client the database. It stays the caller's: `close` does not close it.
    """

    def __init__(self, settings: FlowStateSettings | None = None, *, client: Any = None) -> None:
        self._settings = settings_or_default(settings)
        self._client = client
        self._connecting: SharedWork[Connection] = SharedWork()
        self._importing: SharedWork[None] = SharedWork()
        # How far this process has come, in the order in which `_begin` goes. After these the connection is linked: the
        # database and its credentials are looked up, in a forked child again.
        self._connection: Connection | None = None  # the first operations are imported, and with them grpc
        self._has_imported_all = False  # the other operations too, which no load, save and update waits for
        self._collection: Collection | None = None

    def __getstate__(self) -> dict[str, object]:
        # A copy may be in another process: it connects by itself, and finds out what is imported there.
        return {**vars(self), "_connection": None, "_collection": None, "_has_imported_all": False}

    @classmethod
    def from_app(cls, app: Any, settings: FlowStateSettings | None = None) -> FirestoreFlowStateStore:
        """Return a store on the project and with the credentials of a firebase_admin App.

        ::

            store = FirestoreFlowStateStore.from_app(app, FlowStateSettings(collection="flows"))

        Args:
            app: What `firebase_admin.initialize_app` has returned. It stays the caller's: `close` does not delete it.
            settings: Which collection, and how to store; None: settings from the environment.
        """
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
        if self._connection is not None:
            await self._connection.unbind()

    async def close(self) -> None:
        """Close the channels that the store opened. It can be used again, and then connects again."""
        if self._connection is not None:
            await self._connection.close()

    async def ping(self, *, timeout: float | None = None) -> None:
        """Return if Firestore answers and the collection may be read. It costs one read.

        ::

            await store.ping(timeout=5)

        Args:
            timeout: Seconds, retries included; None: those of the settings.

        Raises:
            BackendError: Firestore does not answer, or refuses the read.
        """
        collection, deadline = await self._begin(timeout, is_first=True)
        await collection.get("flowstate-ping", deadline, mask=_document.stored_document.EXISTENCE)

    @override
    async def save(
        self,
        id: str,
        state: FlowState,
        *,
        if_version: str | Unset | None = UNSET,
        expire_after: timedelta | Unset | None = UNSET,
        timeout: float | None = None,
    ) -> None:
        id = check_flow_id(id)
        check_version(if_version, takes_none=True)
        with lasting(id, state, expire_after):
            conflicting = await self._write(id, state, if_version, timeout)
            if conflicting is not None and if_version is None:
                raise conflict(id, expected=None, found=conflicting.found)
            if conflicting is not None:
                raise conflicting.error

    @override
    async def create(
        self,
        id: str,
        state: FlowState,
        *,
        expire_after: timedelta | Unset | None = UNSET,
        timeout: float | None = None,
    ) -> None:
        id = check_flow_id(id)
        with lasting(id, state, expire_after):
            conflicting = await self._write(id, state, None, timeout)
            if conflicting is not None:
                raise conflicting.error

    async def _write(
        self, id: str, state: FlowState, if_version: str | Unset | None, timeout: float | None
    ) -> Conflict | None:
        """Store the whole state; return the conflict if another writer was first."""
        content = check_state(id, state)
        if self._waits_first(is_first=True):
            content = detached(content)
        collection, deadline = await self._begin(timeout, writes=[id], is_first=True)
        expected = _expected(collection, id, if_version)
        try:
            await _operations.saving.save(collection, id, state, content=content, expected=expected, deadline=deadline)
        except _commit.conflict.Conflict as conflicting:
            return conflicting
        return None

    @override
    async def load(self, id: str, *, timeout: float | None = None) -> FlowState | None:
        id = check_flow_id(id)
        collection, deadline = await self._begin(timeout, is_first=True)
        return await _operations.reading.load(collection, id, deadline)

    @override
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
        id = check_flow_id(id)
        check_version(if_version)
        change = Change.of_update(
            id,
            cache=cache,
            remove=remove,
            events_triggered=events_triggered,
            operation=operation,
            blocked_on_step=blocked_on_step,
            executions=executions,
            trace_context=trace_context,
            extra=extra,
            expire_after=expire_after,
            # Without a version, a read comes first.
            is_detached=isinstance(if_version, Unset) or self._waits_first(is_first=True),
        )
        collection, deadline = await self._begin(timeout, writes=[id], is_first=True)
        base = None if isinstance(if_version, Unset) else _version(collection, id, if_version)
        try:
            if base is None:
                version = await _operations.updating.update_latest(collection, id, change, deadline=deadline)
            else:
                version = await _operations.updating.update(collection, id, change, base=base, deadline=deadline)
        except _commit.conflict.Conflict as conflicting:
            raise conflicting.error from None
        return version.to_text(collection.name(id))

    @override
    def edit(
        self, id: str, *, expire_after: timedelta | Unset | None = UNSET, timeout: float | None = None
    ) -> AbstractAsyncContextManager[FlowState]:
        id, own = check_flow_id(id), own_duration_of(expire_after)

        async def begin() -> Begun:
            collection, _ = await self._begin(timeout, writes=[id])
            edit = await _operations.editing.Edit.begin(collection, id, timeout=timeout)
            if not isinstance(own, Unset):
                setattr(edit.state, EXPIRE_AFTER, own)
            return edit.state, edit.write

        return EditBlock(id, begin)

    @override
    async def modify(
        self,
        id: str,
        change: Callable[[FlowState], Awaitable[FlowState | None] | FlowState | None],
        *,
        attempts: int = 100,
        timeout: float | None = None,
    ) -> FlowState:
        id = check_flow_id(id)
        check_change(change, attempts)
        collection, deadline = await self._begin(timeout, writes=[id])
        return await _operations.editing.modify(collection, id, change, attempts=attempts, deadline=deadline)

    @override
    async def delete(self, id: str, *, if_version: str | Unset = UNSET, timeout: float | None = None) -> None:
        id = check_flow_id(id)
        check_version(if_version)
        collection, deadline = await self._begin(timeout, writes=[id])
        base = None if isinstance(if_version, Unset) else _version(collection, id, if_version)
        if base is None:
            await _operations.deleting.delete(collection, id, deadline=deadline)
        else:
            await _operations.deleting.delete_version(collection, id, base, deadline=deadline)

    @override
    async def list(
        self, query: FlowStateQuery | None = None, *, timeout: float | None = None
    ) -> FlowStateQueryResponse:
        query = query_or_all(query)
        collection, deadline = await self._begin(timeout)
        return await _operations.listing.list_states(collection, query, deadline)

    @override
    async def list_summaries(
        self, query: FlowStateQuery | None = None, *, timeout: float | None = None
    ) -> FlowStateSummaryResponse:
        query = query_or_all(query)
        collection, deadline = await self._begin(timeout)
        return await _operations.listing.list_summaries(collection, query, deadline)

    @override
    async def count(self, query: FlowStateQuery | None = None, *, timeout: float | None = None) -> int:
        query = query_or_all(query)
        collection, deadline = await self._begin(timeout)
        return await _operations.listing.count(collection, query, deadline)

    @override
    async def due(
        self,
        before: datetime | float | None = None,
        *,
        limit: int = 100,
        after: FlowStateSummary | None = None,
        timeout: float | None = None,
    ) -> Sequence[FlowStateSummary]:
        query = due_query(before, now=datetime.now(timezone.utc), limit=limit, after=after)
        collection, deadline = await self._begin(timeout)
        return await _operations.due.due(collection, query, deadline)

    @override
    def watch(self, id: str) -> AsyncIterator[FlowState | None]:
        id = check_flow_id(id)

        async def begin() -> Source[FlowState | None]:
            collection, deadline = await self._begin()
            return _operations.watching.StateWatch(collection, id, deadline)

        return Watch(begin)

    @override
    def watch_list(self, query: FlowStateQuery | None = None) -> AsyncIterator[Sequence[FlowStateSummary]]:
        query = first_page_or_all(query)

        async def begin() -> Source[Sequence[FlowStateSummary]]:
            collection, deadline = await self._begin()
            return _operations.watching.PageWatch(collection, query, deadline)

        return Watch(begin)

    @override
    def iterate(self, query: FlowStateQuery | None = None) -> AsyncIterator[FlowState]:
        async def begin() -> PageSource[FlowState]:
            asked = query_or_all(query)
            collection, _ = await self._begin()
            return _operations.listing.PagesAhead(collection, asked)

        return Iteration(begin)

    @override
    async def save_many(self, states: Mapping[str, FlowState], *, timeout: float | None = None) -> None:
        check_states(states)
        states = dict(states)
        contents = detached(states) if self._waits_first(is_first=False) else states
        collection, deadline = await self._begin(timeout, writes=states)
        await _operations.bulk.save_many(collection, states, deadline, contents=contents)

    @override
    async def load_many(self, ids: Iterable[str], *, timeout: float | None = None) -> dict[str, FlowState]:
        ids = check_flow_ids(ids)
        collection, deadline = await self._begin(timeout)
        return await _operations.bulk.load_many(collection, ids, deadline)

    @override
    async def delete_many(self, ids: Iterable[str], *, timeout: float | None = None) -> None:
        ids = check_flow_ids(ids)
        collection, deadline = await self._begin(timeout, writes=ids)
        await _operations.bulk.delete_many(collection, ids, deadline)

    async def gc(self, *, dry_run: bool = False) -> GcReport:
        """Delete the parts of large states that no state refers to and that are older than an hour.

        Such parts are left by writers that were killed, and by saves without a version over a large state that the
        writer had not read. Parts of a save that is under way are younger, and stay.

        ::

            report = await store.gc(dry_run=True)

        Args:
            dry_run: Delete nothing; report what would be deleted.

        Raises:
            BackendError: Firestore cannot be reached, or refuses. What was deleted before stays deleted: call it again.
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
    ) -> PurgeReport:
        """Delete the states that match and were neither started nor written within `older_than`.

        States that have expired are deleted too, and so are those of flows that have not ended, unless the query asks
        for a status. A state that is written meanwhile stays. After a crash, call it again.

        ::

            report = await store.purge(FlowStateQuery(status="done"), older_than=timedelta(days=90))

        Args:
            query: Which states; None: all. Its `limit` and `continuation_token` are passed over.
            older_than: How long ago they were started and last written, at least.
            dry_run: Delete nothing; report how many would be deleted.
            progress: Called after each page with the number so far.

        Raises:
            ValueError: `older_than` is negative.
        """
        given: object = older_than
        if not isinstance(given, timedelta):
            raise TypeError(f"older_than is a timedelta, not {shown(older_than)}")
        if older_than < timedelta(0):
            raise ValueError(f"older_than is a duration of at least 0, not {older_than}")
        query = query_or_all(query)
        check_progress(progress)
        collection, _ = await self._begin()
        return await _operations.deleting.purge(
            collection, query, older_than=older_than, dry_run=dry_run, progress=progress
        )

    async def migrate(
        self,
        target: FirestoreFlowStateStore,
        *,
        dry_run: bool = False,
        decrypt: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> MigrateReport:
        """Bring every flow state of this collection to the destination's collection, in the destination's layout.

        The destination may be the same collection with another layout or more shards: then documents are rewritten in
        place. Each is written by compare-and-swap, so flows may run meanwhile. Another call does what is left.

        ::

            async with FirestoreFlowStateStore(FlowStateSettings(collection="archive")) as archive:
                report = await store.migrate(archive, dry_run=True)

        Args:
            target: A store on the other collection, with the settings that new documents are to have.
            dry_run: Write nothing; report what would be written and what could not be.
            decrypt: Must be True if this store has keys and the destination has none (a native one never has): what is
                encrypted here will be in the clear there.
            progress: Called after each state with the number so far.

        Raises:
            ValueError: The destination has no keys, this store has, and `decrypt` is False.
        """
        given: object = target
        if not isinstance(given, FirestoreFlowStateStore):
            raise TypeError(f"target is a FirestoreFlowStateStore, not {shown(target)}")
        check_progress(progress)
        if self._settings.keys and not target.settings.keys and not decrypt:
            raise ValueError(
                "The source has keys and the destination has none, so what is encrypted would be stored in the clear: "
                "give the destination keys, or say decrypt=True."
            )
        source, _ = await self._begin()
        there, _ = await target._begin()
        return await _operations.migrating.migrate(source, there, dry_run=dry_run, progress=progress)

    async def rewrap(self, *, progress: Callable[[int], None] | None = None) -> RewrapReport:
        """Store every value anew that is not stored as the settings say now: above all, encrypt with the current key.

        Versions that writers hold stay valid. After a rotation of keys, call it before you take the old key out of the
        settings. Native documents are never encrypted: the report names them, and `migrate` encrypts them. Parts that
        no flow state refers to stay as they are, in the clear or under the old key: `gc` deletes them.

        ::

            report = await store.rewrap()
            await store.gc()

        Args:
            progress: Called after each state with the number so far.

        Raises:
            FlowStateDecodeError: A value cannot be read. The states before it are stored anew.
        """
        check_progress(progress)
        collection, _ = await self._begin()
        return await _operations.repacking.rewrap(collection, progress=progress)

    async def _begin(
        self, timeout: float | None = None, *, writes: Iterable[str] = (), is_first: bool = False
    ) -> tuple[Collection, Deadline]:
        """Begin a call: return the collection, and the deadline that the call has from now on.

        Every method begins with it. So do `backup`, `doctor` and `inspection`, which may use `_operations` afterwards.
        All modules of this package may call it, and its tests, and nobody else.

        Args:
            timeout: Seconds that the call may take; None: those of the settings.
            writes: The ids that the call is going to write to.
            is_first: Whether the call needs only what `_operations.import_first` imports: it may be the first call of
                a process, and is not to wait for the other imports.

        Raises:
            FlowStateError: The call would write a state inside the function that `modify` calls for that state.
            BackendError: Nothing names a project or credentials.
        """
        check_timeout(timeout)
        deadline = Deadline.after(self._settings.timeout if timeout is None else timeout)
        connection = self._connection or await self._connected(deadline)
        if not (is_first or self._has_imported_all):
            await self._importing.result(self._import_all, what="importing", deadline=deadline)
        documents = connection.known_documents() or await connection.documents(deadline)
        collection = self._collection
        if collection is None or collection.connection is not connection or collection.documents != documents:
            collection = self._collection = _collection.collection.collection_of(connection, self._settings, documents)
        forbid_nested(writes, collection=collection.name(""))
        return collection, deadline

    async def _connected(self, deadline: Deadline) -> Connection:
        if self._connection is not None:
            return self._connection
        return await self._connecting.result(self._connect, what="connecting", deadline=deadline)

    def _connect(self) -> Connection:
        """Import the code that calls Firestore, with grpc and protobuf, and return the connection. Runs on a thread.

        Of the operations it imports the first ones. `_import_all` imports the others, when a call needs one of them. It
        takes 0.1 s, for which no event loop should stand still, and which a process that never calls Firestore should
        not spend. A process without grpc can be forked in any way.
        """
        with fork.held_off():
            _operations.import_first()
            if _document.layouts.LAYOUTS[self._settings.layout].is_genkits:
                from ._rpc import client  # noqa: F401  # native documents hold its types; the import takes 0.2 s
            from ._rpc.connection import Connection

            if self._connection is None:
                self._connection = Connection(self._settings, client=self._client)
            return self._connection

    def _import_all(self) -> None:
        with fork.held_off():  # a child forked meanwhile would wait for the imports' locks for ever
            _operations.import_all()
            self._has_imported_all = True

    def _waits_first(self, *, is_first: bool) -> bool:
        """Return whether `_begin` waits for an import or the connection, so that the caller may change its arguments.

        They are copied then. Otherwise a call encodes them before it waits for anything.
        """
        connection = self._connection
        return connection is None or not connection.is_linked or not (is_first or self._has_imported_all)


def _expected(collection: Collection, id: str, if_version: str | Unset | None) -> Expectation:
    if isinstance(if_version, Unset):
        return _document.version.Anything()
    if if_version is None:
        return _document.version.Absent()
    return _document.version.Exactly(_version(collection, id, if_version))


def _version(collection: Collection, id: str, text: str) -> Version:
    version = _document.version.Version.from_text(text, collection.name(id))
    if version is None:
        raise not_a_version(id, expected=exact(text))
    return version
