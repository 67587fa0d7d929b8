"""The contract: what a store of flow states does. An implementer needs this file alone.

`FlowStateStore` is Genkit's interface. `VersionedFlowStateStore` adds what several writers need. Two
conformance suites in `firestore_flowstate.testing` check an implementation against them.

The docstrings here are those of all stores: their methods inherit them. In the examples ``store`` is any store, and
``state`` is a `FlowState`. The tests run the examples.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from typing import Protocol

from .models import BlockedOnStep, CacheEntry, FlowState, FlowStateExecution, Operation
from .pages import FlowStateQueryResponse, FlowStateSummary, FlowStateSummaryResponse
from .query import FlowStateQuery
from .unset import UNSET, Unset


class FlowStateStore(Protocol):
    """Genkit's FlowStateStore: save, load, list."""

    async def save(self, id: str, state: FlowState) -> None:
        """Store the state under the id, in place of what was there.

        The state is stored as it is when the call begins to run: at the ``await``, or in the first step of a task.
        Changing the object afterwards changes nothing in the store.

        ::

            await store.save("order-17", FlowState.start(input={"topic": "rivers"}))

        Args:
            id: The key. ``state.flow_id`` is data and may differ.
            state: What to store.

        Raises:
            InvalidFlowIdError: The id cannot name a document. Nothing was written.
            FlowStateEncodeError: A value cannot be stored without loss. Nothing was written.
        """
        ...

    async def load(self, id: str) -> FlowState | None:
        """Return the state stored under the id, or None if there is none.

        Each call returns an object of its own.

        ::

            state = await store.load("order-17")

        Args:
            id: The key.

        Raises:
            InvalidFlowIdError: The id cannot name a document.
            FlowStateDecodeError: What is stored cannot be read.
        """
        ...

    async def list(self, query: FlowStateQuery | None = None) -> FlowStateQueryResponse:
        """Return a page of states: newest ``start_time`` first, ties by id descending.

        If you follow the continuation tokens, each state that is there from the first page to the last comes exactly
        once, whatever is written meanwhile and however many states have the same start; one whose ``start_time`` is
        changed meanwhile may come twice, or not at all. A page has a token only if more states follow.

        ::

            page = await store.list(FlowStateQuery(status="done", limit=20))
            names = [state.name for state in page.flow_states]

        Args:
            query: Which states, and how many; None: all.

        Raises:
            InvalidContinuationTokenError: The token is not one given for this collection and these filters.
            FlowStateDecodeError: A document cannot be read; ``response`` has the rest of the page.
        """
        ...


class VersionedFlowStateStore(FlowStateStore, Protocol):
    """A FlowStateStore for many writers: versions, partial writes, deletion.

    Every write makes a new version, even if it changes nothing. ``timeout`` is in seconds and covers all
    retries of the call; None: the store's own. A state that has expired counts as absent.

    Besides the errors that each method names, all methods raise `ValueError` if the timeout is not a number of
    seconds above 0 or the duration ``expire_after`` is not above 0, and `TypeError` if an argument is of a wrong type,
    such as an ``if_version`` that is not a string, an ``expire_after`` that is a number, one string in the place of
    several ids, or a change that cannot be called. What is to be stored, as a state or by `update`, is refused with
    `FlowStateEncodeError` then, an id with `InvalidFlowIdError`, and a query with `InvalidQueryError`. Nothing is
    written. Methods that call a server raise a `BackendError` if it cannot be reached or refuses the call.
    """

    async def save(
        self,
        id: str,
        state: FlowState,
        *,
        if_version: str | Unset | None = UNSET,
        expire_after: timedelta | Unset | None = UNSET,
        timeout: float | None = None,
    ) -> None:
        """Store the state under the id. Afterwards ``state.version`` is the stored version.

        The state is stored as it is when the call begins to run: at the ``await``, or in the first step of a task.
        Changing the object afterwards changes nothing in the store.

        ::

            state = await store.load("order-17")
            state.cache["outline"] = CacheEntry(value=["source", "mouth"])
            await store.save("order-17", state, if_version=state.version)

        Args:
            id: The key. ``state.flow_id`` is data and may differ.
            state: What to store.
            if_version: Not given: create or replace, the last write wins. A version: replace that version only. None,
                which is the version of a state that was never stored: store it if there is none under the id.
            expire_after: How long after its last write the flow expires, whatever the store's own setting; None: never.
                It is kept as the unknown key ``expireAfter`` of the state, in milliseconds, -1 for never: ``state`` has
                it afterwards, and it holds until a write sets another. Not given: ``expireAfter`` of ``state`` holds,
                else the store's own setting.
            timeout: Seconds, retries included.

        Raises:
            InvalidFlowIdError: The id cannot name a document. Nothing was written.
            FlowStateEncodeError: A value cannot be stored without loss. Nothing was written.
            FlowStateConflictError: Another version is stored than ``if_version``, or none. If that is None: a state
                is stored. Nothing was written.
        """
        ...

    async def create(
        self,
        id: str,
        state: FlowState,
        *,
        expire_after: timedelta | Unset | None = UNSET,
        timeout: float | None = None,
    ) -> None:
        """Store the state under an id that has none yet. Afterwards ``state.version`` is the stored version.

        ::

            await store.create("order-18", FlowState.start(name="publish"), expire_after=timedelta(days=30))

        Args:
            id: The key.
            state: What to store.
            expire_after: As for `save`.
            timeout: Seconds, retries included.

        Raises:
            InvalidFlowIdError: The id cannot name a document.
            FlowStateEncodeError: A value cannot be stored without loss.
            FlowStateExistsError: There is a state under the id already. Nothing was written.
        """
        ...

    async def load(self, id: str, *, timeout: float | None = None) -> FlowState | None:
        """Return the state stored under the id, or None if there is none or it has expired.

        Each call returns an object of its own. Its ``version`` is for a later write.

        ::

            state = await store.load("order-17")

        Args:
            id: The key.
            timeout: Seconds, retries included.

        Raises:
            InvalidFlowIdError: The id cannot name a document.
            FlowStateDecodeError: What is stored cannot be read.
        """
        ...

    async def load_many(self, ids: Iterable[str], *, timeout: float | None = None) -> dict[str, FlowState]:
        """Return the states stored under the ids, by id and in the order of the ids. Absent ones are left out.

        ::

            states = await store.load_many(["order-17", "order-18"])

        Args:
            ids: The keys, any number.
            timeout: Seconds for all, retries included.

        Raises:
            FlowStateBatchError: Some could not be read; ``errors`` has each by id.
        """
        ...

    async def save_many(self, states: Mapping[str, FlowState], *, timeout: float | None = None) -> None:
        """Store each state under its id, in place of what was there.

        ::

            await store.save_many({f"order-{n}": FlowState.start(name="publish") for n in range(3)})

        Args:
            states: The states by their keys, any number.
            timeout: Seconds for all, retries included.

        Raises:
            FlowStateBatchError: Some were not stored; all others were. ``errors`` has each by id.
        """
        ...

    async def update(
        self,
        id: str,
        *,
        cache: Mapping[str, CacheEntry] | None = None,
        remove: Iterable[str] = (),
        events_triggered: Mapping[str, object] | None = None,
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

        Values are stored as they are at the call: changing them afterwards changes nothing in the store.

        ::

            version = await store.update("order-17", cache={"outline": CacheEntry(value=["source", "mouth"])})
            await store.update("order-17", extra={"owner": "me"}, if_version=version)

        Args:
            id: The key.
            cache: Steps to set. A step that is there keeps its place in the order; a new one comes last.
            remove: Steps to remove, before ``cache`` is set. A step that is not there is passed over.
            events_triggered: Events to set, by the name of the step.
            operation: Replaces the operation whole.
            blocked_on_step: Replaces the blocked step whole; None: not blocked.
            executions: Replaces the executions whole.
            trace_context: Replaces the trace context; None is null.
            extra: Unknown keys of the state to set, each by itself; UNSET removes a key, and a key that is not there is
                passed over. The values are scalars that a query can ask for: bools, numbers of 64 bits, and strings of
                at most 1,499 bytes of UTF-8.
            expire_after: As for `save`; the expiry changes with this write. Not given: ``expireAfter`` of the stored
                state holds.
            if_version: Write to that version only, mostly without a read. Not given: write to whatever is stored,
                which takes a read first. None, which is the version of a state that was never stored, raises TypeError.
            timeout: Seconds, retries included.

        Raises:
            InvalidFlowIdError: The id cannot name a document.
            FlowStateEncodeError: A value cannot be stored; ``path`` names it. Or ``extra`` has UNSET for a key whose
                value was not a scalar when the state was last saved: only `save` and `edit` remove such a key. In a
                native document each key is a field of its own, and UNSET removes it.
            FlowStateNotFoundError: There is no state under the id.
            FlowStateConflictError: Another version is stored than ``if_version``, or that is not a version of this
                state, whatever is stored.
        """
        ...

    def edit(
        self, id: str, *, expire_after: timedelta | Unset | None = UNSET, timeout: float | None = None
    ) -> AbstractAsyncContextManager[FlowState]:
        """Load the state, and on leaving the block write what the block changed of it.

        Nothing is written if nothing changed or if the block raised. The block may save its state elsewhere too, under
        another id or in another store. If it saves its state under its own id itself, what it leaves replaces that
        save: then the whole state is written once more, also if the block has changed nothing since.

        ::

            async with store.edit("order-17") as state:
                state.cache["draft"] = CacheEntry(value="It rises in the hills.")

        Args:
            id: The key.
            expire_after: As for `save`. It is a change of the state like those that the block makes.
            timeout: Seconds for the load, and as many again for the write, retries included.

        Raises:
            InvalidFlowIdError: The id cannot name a document.
            FlowStateNotFoundError: On entry: there is no state under the id.
            FlowStateEncodeError: On exit: a value cannot be stored without loss.
            FlowStateConflictError: On exit: another writer changed the state meanwhile.
            FlowStateError: On exit: the block began on another event loop. Nothing was written.
        """
        ...

    async def modify(
        self,
        id: str,
        change: Callable[[FlowState], Awaitable[FlowState | None] | FlowState | None],
        *,
        attempts: int = 100,
        timeout: float | None = None,
    ) -> FlowState:
        """Load the state, call ``change`` with it, and write the difference; after a conflict do all of it again.

        ::

            def count(state: FlowState) -> None:
                entry = state.cache.get("visits", CacheEntry(value=0))
                state.cache["visits"] = CacheEntry(value=entry.value + 1)

            state = await store.modify("order-17", count)

        Args:
            id: The key.
            change: Changes the state that it is called with, or returns the state to be written in its place. Anything
                else that it returns is passed over. It must be safe to call more than once.
            attempts: How often to try, at most; at least 1.
            timeout: Seconds for all attempts together.

        Returns:
            The state as it was written.

        Raises:
            InvalidFlowIdError: The id cannot name a document.
            FlowStateNotFoundError: There is no state under the id.
            FlowStateEncodeError: A value cannot be stored without loss.
            FlowStateConflictError: Other writers were first ``attempts`` times in a row.
            FlowStateError: ``change`` itself writes the state, by another call with the same id.
            ValueError: ``attempts`` is less than 1.
        """
        ...

    async def delete(self, id: str, *, if_version: str | Unset = UNSET, timeout: float | None = None) -> None:
        """Delete the state under the id. If there is none, and no ``if_version``, this does nothing.

        ::

            await store.delete("order-17")

        Args:
            id: The key.
            if_version: Delete that version only. Not given: whatever is stored. None, which is the version of a state
                that was never stored, raises TypeError, and nothing is deleted.
            timeout: Seconds, retries included.

        Raises:
            InvalidFlowIdError: The id cannot name a document.
            FlowStateConflictError: ``if_version`` was given, and another version is stored, or none.
        """
        ...

    async def delete_many(self, ids: Iterable[str], *, timeout: float | None = None) -> None:
        """Delete the states under the ids; absent ones are passed over.

        ::

            await store.delete_many(["order-17", "order-18"])

        Args:
            ids: The keys, any number.
            timeout: Seconds for all, retries included.

        Raises:
            FlowStateBatchError: Some were not deleted; all others were. ``errors`` has each by id.
        """
        ...

    async def list_summaries(
        self, query: FlowStateQuery | None = None, *, timeout: float | None = None
    ) -> FlowStateSummaryResponse:
        """Return a page of summaries, in the order of `list`. No payload is read for it.

        ::

            page = await store.list_summaries(FlowStateQuery(where={"owner": "me"}))
            ids = [summary.id for summary in page.summaries]

        Args:
            query: Which states, and how many; None: all.
            timeout: Seconds, retries included.

        Raises:
            InvalidContinuationTokenError: The token is not one given for this collection and these filters.
            FlowStateDecodeError: A head cannot be read; ``response`` has the rest of the page.
        """
        ...

    async def count(self, query: FlowStateQuery | None = None, *, timeout: float | None = None) -> int:
        """Return how many states the filters match.

        States that have expired and are not deleted yet may be counted.

        ::

            running = await store.count(FlowStateQuery(status="running"))

        Args:
            query: Which states; None: all. Its ``limit`` and ``continuation_token`` are passed over.
            timeout: Seconds, retries included.

        Raises:
            InvalidQueryError: ``query`` is not a FlowStateQuery.
        """
        ...

    async def due(
        self,
        before: datetime | float | None = None,
        *,
        limit: int = 100,
        after: FlowStateSummary | None = None,
        timeout: float | None = None,
    ) -> Sequence[FlowStateSummary]:
        """Return the states that somebody should look at: earliest ``wakeAt`` first, ties by id.

        ``wakeAt`` is an unknown key of the state: the moment, in milliseconds since the epoch, from which somebody
        should look at the flow. A state without it, or whose ``wakeAt`` is not a number, is never due.
        What cannot be read is left out, with a warning once for each, so that it holds up nothing behind it.

        ::

            for summary in await store.due(limit=10):
                print(summary.id, summary.extra["wakeAt"])

        Args:
            before: The latest moment, inclusive: a datetime with a time zone, or milliseconds since the epoch. None:
                now, by the clock of this machine.
            limit: How many states at most, 1 to 300.
            after: The last summary of the page before: go on behind it.
            timeout: Seconds, retries included.

        Returns:
            Summaries; ``extra["wakeAt"]`` of each is the moment.

        Raises:
            InvalidQueryError: ``before`` is not a moment, ``limit`` is out of range, or ``after`` has no ``wakeAt``.
        """
        ...

    def watch(self, id: str) -> AsyncIterator[FlowState | None]:
        """Yield the state under the id now, and again after each change; None while there is none.

        If changes come faster than you take them, states in between are left out, and the last one never is: at most
        one state waits for you. The watch goes on over lost connections. It ends when you close the iterator or drop
        it, as by leaving the loop.

        ::

            async for state in store.watch("order-17"):
                if state is not None and state.operation.done:
                    break

        Args:
            id: The key.

        Raises:
            InvalidFlowIdError: The id cannot name a document.
            FlowStateDecodeError: What is stored cannot be read.
            BackendError: Firestore refuses to have it watched, the first answer did not come within the store's
                timeout, or the store was closed.
            FlowStateError: It began on another event loop than that of this step.
        """
        ...

    def watch_list(self, query: FlowStateQuery | None = None) -> AsyncIterator[Sequence[FlowStateSummary]]:
        """Yield the first page of `list_summaries` now, and again after each change of it, as `watch` does.

        ::

            async for page in store.watch_list(FlowStateQuery(status="done", limit=1)):
                if page:
                    break

        Args:
            query: Which states, and how many; None: all.

        Raises:
            InvalidQueryError: The query has a continuation token: only the first page can be watched.
            FlowStateDecodeError: A head cannot be read, and ``on_error`` of the query is not "skip".
            BackendError: As for `watch`.
        """
        ...

    def iterate(self, query: FlowStateQuery | None = None) -> AsyncIterator[FlowState]:
        """Yield every state the filters match, in the order of `list`. Pages are fetched as they are needed.

        A timeout around one step does not end it: the next step goes on.

        ::

            async for state in store.iterate(FlowStateQuery(status="failed")):
                print(state.flow_id, state.operation.result)

        Args:
            query: Which states; None: all. Its ``limit`` is the size of the pages.

        Raises:
            InvalidContinuationTokenError: The token is not one given for this collection and these filters.
            FlowStateDecodeError: A document cannot be read, and ``on_error`` of the query is not "skip".
        """
        ...

    async def list(
        self, query: FlowStateQuery | None = None, *, timeout: float | None = None
    ) -> FlowStateQueryResponse:
        """Return a page of states: newest ``start_time`` first, ties by id descending.

        If you follow the continuation tokens, each state that is there from the first page to the last comes exactly
        once, whatever is written meanwhile and however many states have the same start; one whose ``start_time`` is
        changed meanwhile may come twice, or not at all. A page has a token only if more states follow.

        ::

            page = await store.list(FlowStateQuery(status="done", limit=20))
            if page.continuation_token is not None:
                more = FlowStateQuery(status="done", limit=20, continuation_token=page.continuation_token)
                page = await store.list(more)

        Args:
            query: Which states, and how many; None: all.
            timeout: Seconds, retries included.

        Raises:
            InvalidContinuationTokenError: The token is not one given for this collection and these filters.
            FlowStateDecodeError: A document cannot be read; ``response`` has the rest of the page.
        """
        ...
