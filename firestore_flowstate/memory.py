"""A store in memory: the whole contract without a server, for tests and for trying things out."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import NoReturn, TypeVar

from typing_extensions import override

from ._arguments import ChangeFunction, changed, check_change, check_states, check_timeout, check_version, forbid_nested
from ._document.difference import Change, Snapshot
from ._document.encoded_state import EncodedState, encode_state
from ._document.head import EXPIRE_AFTER, lasting, own_duration_of
from ._document.wire import check_state
from ._edit_block import Begun, EditBlock
from ._error_texts import batch, conflict, exists, not_found, with_flow_id
from ._iteration import Iteration
from ._limits import check_flow_id, check_flow_ids, exact
from ._memory_records import Record, Records
from ._query.matching import due_query
from ._signals import Sight, Sights, Signals
from ._watch import Watch
from .errors import FlowStateConflictError, FlowStateEncodeError, FlowStateError, FlowStateNotFoundError
from .models import BlockedOnStep, CacheEntry, FlowState, FlowStateExecution, Operation
from .pages import FlowStateQueryResponse, FlowStateSummary, FlowStateSummaryResponse
from .query import FlowStateQuery, first_page_or_all, query_or_all
from .settings import FlowStateSettings, settings_or_default
from .store import VersionedFlowStateStore
from .unset import UNSET, Unset

T = TypeVar("T")


class MemoryFlowStateStore(VersionedFlowStateStore):
    """Keeps flow states in this process, as encoded JSON: each state that it returns is an object of the caller's own.

    It takes and refuses the same values as the Firestore store, but has no limits of size. It may be used from several
    threads and event loops. Nothing here waits, so `timeout` has no effect beyond the check of its value.

    It is entered and closed as the Firestore store is, so that either can stand in the place of the other. Its states
    are kept as long as the object::

        async with MemoryFlowStateStore() as store:
            await store.save("order-17", state)

    Args:
        settings: For ``page_size``, ``expire_after`` and ``expire_when``; None: settings from the environment.
    """

    def __init__(self, settings: FlowStateSettings | None = None) -> None:
        settings = self._settings = settings_or_default(settings)
        self._name = f"memory:{uuid.uuid4().hex}"
        self._signals = Signals()
        self._records = Records(settings, name=self._name, changed=self._signals.changed)
        self._entered = 0

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a MemoryFlowStateStore keeps its states in one process, and is neither pickled nor copied: make one in "
            "each process, or use FirestoreFlowStateStore, which all processes share"
        )

    async def __aenter__(self) -> MemoryFlowStateStore:
        with self._records.lock():
            self._entered += 1
        return self

    async def __aexit__(self, *exc: object) -> None:
        with self._records.lock():
            self._entered = max(0, self._entered - 1)
            is_last = not self._entered
        if is_last:
            await self.close()

    async def close(self) -> None:
        """End the watches of the store by StoreUnavailableError. The states stay, and the store can be used again."""
        self._signals.close()

    @property
    def settings(self) -> FlowStateSettings:
        """The settings of the store."""
        return self._settings

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
        check_timeout(timeout)
        id = check_flow_id(id)
        check_version(if_version, takes_none=True)
        with lasting(id, state, expire_after):
            self._save(id, state, if_version=exact(if_version))

    @override
    async def create(
        self,
        id: str,
        state: FlowState,
        *,
        expire_after: timedelta | Unset | None = UNSET,
        timeout: float | None = None,
    ) -> None:
        check_timeout(timeout)
        id = check_flow_id(id)
        try:
            with lasting(id, state, expire_after):
                self._save(id, state, if_version=None)
        except FlowStateConflictError:
            raise exists(id) from None

    @override
    async def load(self, id: str, *, timeout: float | None = None) -> FlowState | None:
        check_timeout(timeout)
        return self._load(id)

    @override
    async def load_many(self, ids: Iterable[str], *, timeout: float | None = None) -> dict[str, FlowState]:
        check_timeout(timeout)
        found = _each(check_flow_ids(ids), self._load, "loaded")
        return {id: state for id, state in found.items() if state is not None}

    @override
    async def save_many(self, states: Mapping[str, FlowState], *, timeout: float | None = None) -> None:
        check_timeout(timeout)
        check_states(states)
        self._save_many(states)

    @override
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
        check_timeout(timeout)
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
        )
        return self._update(id, change, if_version=exact(if_version)).version

    @override
    def edit(
        self, id: str, *, expire_after: timedelta | Unset | None = UNSET, timeout: float | None = None
    ) -> AbstractAsyncContextManager[FlowState]:
        own = own_duration_of(expire_after)
        check_timeout(timeout)
        id = check_flow_id(id)

        async def begin() -> Begun:
            forbid_nested([id], collection=self._name)
            record, before, state = self._load_to_change(id)
            if not isinstance(own, Unset):
                setattr(state, EXPIRE_AFTER, own)

            async def write() -> None:
                self._write_difference(id, record, before, state)

            return state, write

        return EditBlock(id, begin)

    @override
    async def modify(
        self,
        id: str,
        change: ChangeFunction,
        *,
        attempts: int = 100,
        timeout: float | None = None,
    ) -> FlowState:
        check_timeout(timeout)
        id = check_flow_id(id)
        check_change(change, attempts)
        forbid_nested([id], collection=self._name)
        left = attempts
        while True:
            record, before, state = self._load_to_change(id)
            state = await changed(change, state, collection=self._name, id=id)
            try:
                self._write_difference(id, record, before, state)
            except FlowStateConflictError:
                left -= 1
                if not left:
                    self._load_to_change(id)  # which says that there is none, if that is the reason
                    raise
                await asyncio.sleep(0)
            else:
                return state

    @override
    async def delete(self, id: str, *, if_version: str | Unset = UNSET, timeout: float | None = None) -> None:
        check_timeout(timeout)
        id = check_flow_id(id)
        check_version(if_version)
        self._delete(id, if_version=exact(if_version))

    @override
    async def delete_many(self, ids: Iterable[str], *, timeout: float | None = None) -> None:
        check_timeout(timeout)
        ids = check_flow_ids(ids)
        forbid_nested(ids, collection=self._name)
        _each(ids, self._delete, "deleted")

    @override
    async def list_summaries(
        self, query: FlowStateQuery | None = None, *, timeout: float | None = None
    ) -> FlowStateSummaryResponse:
        check_timeout(timeout)
        records, token = self._records.page(query_or_all(query))
        return FlowStateSummaryResponse(
            summaries=[record.copy_of_summary() for record in records], continuation_token=token
        )

    @override
    async def count(self, query: FlowStateQuery | None = None, *, timeout: float | None = None) -> int:
        check_timeout(timeout)
        return len(self._records.matching(query_or_all(query)))

    @override
    async def due(
        self,
        before: datetime | float | None = None,
        *,
        limit: int = 100,
        after: FlowStateSummary | None = None,
        timeout: float | None = None,
    ) -> Sequence[FlowStateSummary]:
        check_timeout(timeout)
        query = due_query(before, now=datetime.now(timezone.utc), limit=limit, after=after)
        return [record.copy_of_summary() for record in self._records.due(query)]

    @override
    def watch(self, id: str) -> AsyncIterator[FlowState | None]:
        id = check_flow_id(id)

        async def begin() -> Sights[FlowState | None]:
            return Sights(self._signals, partial(self._see, id))

        return Watch(begin)

    def _see(self, id: str) -> Sight[FlowState | None]:
        record = self._find(id)
        if record is None:
            return Sight(version=None, item=lambda: None, until=None)
        return Sight(version=record.version, item=record.state, until=record.summary.expire_at)

    @override
    def watch_list(self, query: FlowStateQuery | None = None) -> AsyncIterator[Sequence[FlowStateSummary]]:
        query = first_page_or_all(query)

        async def begin() -> Sights[Sequence[FlowStateSummary]]:
            return Sights(self._signals, partial(self._see_page, query))

        return Watch(begin)

    def _see_page(self, query: FlowStateQuery) -> Sight[Sequence[FlowStateSummary]]:
        records, _ = self._records.page(query)
        return Sight(
            version=[record.version for record in records],
            item=lambda: [record.copy_of_summary() for record in records],
            until=min((at for record in records if (at := record.summary.expire_at) is not None), default=None),
        )

    @override
    def iterate(self, query: FlowStateQuery | None = None) -> AsyncIterator[FlowState]:
        async def begin() -> _Pages:
            return _Pages(self, query_or_all(query))

        return Iteration(begin)

    @override
    async def list(
        self, query: FlowStateQuery | None = None, *, timeout: float | None = None
    ) -> FlowStateQueryResponse:
        check_timeout(timeout)
        records, token = self._records.page(query_or_all(query))
        return FlowStateQueryResponse(flow_states=[record.state() for record in records], continuation_token=token)

    def _load(self, id: str) -> FlowState | None:
        record = self._find(id)
        return record.state() if record is not None else None

    def _load_to_change(self, id: str) -> tuple[Record, Snapshot, FlowState]:
        record = self._find(id)
        if record is None:
            raise not_found(id)
        state = record.state()
        return record, Snapshot(state), state

    def _find(self, id: str) -> Record | None:
        return self._records.find(check_flow_id(id))

    def _save_many(
        self, states: Mapping[str, FlowState], *, expire_at: Mapping[str, datetime | None] | None = None
    ) -> None:
        """Store each state under its id. `expire_at` says when each of them expires; None: as the settings say."""
        forbid_nested(states, collection=self._name)

        def save(id: str) -> None:
            self._save(id, states[id], expire_at=UNSET if expire_at is None else expire_at[id])

        _each(states, save, "saved")

    def _check_storable(self, states: Mapping[str, FlowState]) -> None:
        """Raise FlowStateBatchError if some of the states could not be stored."""
        _each(states, lambda key: self._encoded(key, states[key]), "saved")

    def _save(
        self,
        id: str,
        state: FlowState,
        *,
        if_version: str | Unset | None = UNSET,
        expire_at: datetime | Unset | None = UNSET,
    ) -> None:
        id = check_flow_id(id)
        forbid_nested([id], collection=self._name)
        encoded = self._encoded(id, state)
        self._records.save(id, encoded, if_version=if_version, expire_at=expire_at).stamp(state)

    def _encoded(self, id: str, state: FlowState) -> EncodedState:
        try:
            return encode_state(check_state(id, state))
        except FlowStateEncodeError as error:
            raise with_flow_id(error, id) from error.__cause__

    def _update(self, id: str, change: Change, *, if_version: str | Unset) -> Record:
        forbid_nested([id], collection=self._name)
        return self._records.update(id, change, if_version=if_version)

    def _write_difference(self, id: str, read: Record, before: Snapshot, state: FlowState) -> None:
        latest = state._noted_of(read.document)
        if latest is not None and latest.version != read.version:
            # The block has stored it here itself. What it has changed since, the snapshot does not tell.
            self._save(id, state, if_version=latest.version)
            return
        try:
            difference = before.difference(state)
        except FlowStateEncodeError as error:
            raise with_flow_id(error, id) from error.__cause__
        if isinstance(difference, Change) and not difference.unset & read.payload:
            try:
                self._update(id, difference, if_version=read.version).stamp(state)
            except FlowStateNotFoundError:
                raise conflict(id, expected=read.version, found=None) from None
        elif difference is not None:
            self._save(id, state, if_version=read.version)
        else:
            read.stamp(state)

    def _delete(self, id: str, *, if_version: str | Unset = UNSET) -> None:
        id = check_flow_id(id)
        forbid_nested([id], collection=self._name)
        self._records.delete(id, if_version=if_version)


class _Pages:
    """The pages of whole states that `list` returns."""

    def __init__(self, store: MemoryFlowStateStore, query: FlowStateQuery) -> None:
        self._store = store
        self._query: FlowStateQuery | None = query  # None: there are no more

    async def next(self) -> Sequence[FlowState] | None:
        if self._query is None:
            return None
        page = await self._store.list(self._query)
        token = page.continuation_token
        self._query = None if token is None else replace(self._query, continuation_token=token)
        return page.flow_states

    async def end(self) -> None:
        self._query = None


def _each(ids: Iterable[str], call: Callable[[str], T], done: str) -> dict[str, T]:
    results: dict[str, T] = {}
    errors: dict[str, FlowStateError] = {}
    for id in dict.fromkeys(ids):
        try:
            results[exact(id)] = call(id)
        except FlowStateError as error:  # each is to fail by itself
            errors[id] = error
    if errors:
        raise batch(done, errors, total=len(results) + len(errors))
    return results
