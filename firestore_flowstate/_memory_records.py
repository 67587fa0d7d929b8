"""What the in-memory store keeps: flow states as JSON, each with the summary that lists show and filter by."""

from __future__ import annotations

import heapq
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

from ._document.difference import Change, apply
from ._document.encoded_state import EncodedState, decode_state
from ._document.head import check_head, error_line, expiry, has_expired, last_end_time, own_duration, queryable
from ._error_texts import conflict, not_a_version, not_found, not_removable, with_flow_id
from ._query.matching import Due, DueQuery, is_due, matches, order, wake_at
from ._query.token import Position, from_token, scope_of, to_token
from .copies import COLLECTED
from .errors import FlowStateDecodeError, FlowStateEncodeError
from .models import FlowState, StoredAs
from .pages import FlowStateSummary
from .query import FlowStateQuery
from .settings import FlowStateSettings
from .unset import UNSET, Unset


@dataclass(frozen=True)
class RecordedAs:
    """What a state knows of the record that it was read from or written to, without keeping it.

    Attributes:
        version: Its version.
        updated_at: When it was written.
        expire_at: When it expires; None if it does not.
        document: As `Record.document` has it.
        origin: What the state knows of the record that it was first read from or written to, if that is another one.
        sorts_keys: Always false: the order of keys is kept.
    """

    version: str
    updated_at: datetime
    expire_at: datetime | None
    document: str = ""
    origin: StoredAs | None = None
    sorts_keys: bool = False


@dataclass(frozen=True, slots=True)
class Record:
    """A stored version of a flow state, which nothing changes any more.

    Attributes:
        encoded: The state.
        version: Its version.
        summary: What lists show of the state and filter by.
        payload: The unknown keys whose values were not scalars when the state was last saved whole. A document has
            these in its payload, from which no partial write can remove a key, so this store refuses that too.
    """

    encoded: EncodedState
    version: str
    summary: FlowStateSummary
    payload: frozenset[str] = frozenset()

    def state(self) -> FlowState:
        """Return the flow state, an object of the caller's own."""
        state = decode_state(self.encoded, flow_id=self.summary.id)
        self.stamp(state)
        if (copies := COLLECTED.get()) is not None:
            copies.note(state, self.state)
        return state

    def copy_of_summary(self) -> FlowStateSummary:
        """Return the summary, an object of the caller's own."""
        return self.summary.model_copy(update={"extra": dict(self.summary.extra)})

    @property
    def document(self) -> str:
        """A text that stands for the store and the id."""
        return f"{self.version.rpartition(':')[0]}/{self.summary.id}"

    def stamp(self, state: FlowState) -> None:
        """Note on the state that it is this version."""
        summary, document = self.summary, self.document
        origin = state._origin_beside(document)
        state._note_stored(RecordedAs(self.version, summary.updated_at, summary.expire_at, document, origin))


class Records:
    """The records of one store by id. May be used from any thread.

    Args:
        settings: They say when states expire.
        name: The beginning of each version.
        changed: Called after each change, with the lock held.
    """

    def __init__(self, settings: FlowStateSettings, *, name: str, changed: Callable[[], object]) -> None:
        self.by_id: dict[str, Record] = {}
        self._settings = settings
        self._name = name
        self._changed = changed
        self._writes = 0
        self._locks = {os.getpid(): threading.Lock()}

    def lock(self) -> threading.Lock:
        """Return the lock of this process. A forked child makes one of its own: its parent's may be held for ever."""
        return self._locks.setdefault(os.getpid(), threading.Lock())

    def find(self, id: str) -> Record | None:
        """Return what is kept under an id; None if nothing is, or it has expired."""
        with self.lock():
            return self._live(id)

    def live(self) -> Sequence[Record]:
        """Return all that have not expired."""
        with self.lock():
            return [record for id in tuple(self.by_id) if (record := self._live(id)) is not None]

    def matching(self, query: FlowStateQuery) -> Sequence[Record]:
        """Return all that a query asks for, in no particular order. Its limit and token are passed over."""
        return [record for record in self.live() if matches(query, record.summary)]

    def page(self, query: FlowStateQuery) -> tuple[Sequence[Record], str | None]:
        """Return a page of what a query asks for, and the token of the next page; None if there is none."""
        limit = self._settings.page_size if query.limit is None else query.limit
        scope = scope_of(self._name, query)
        records = self.matching(query)
        if query.continuation_token is not None:
            last = order(*from_token(query.continuation_token, scope))
            records = [record for record in records if _order(record) < last]
        page = heapq.nlargest(limit + 1, records, key=_order)
        if len(page) <= limit:
            return page, None
        last_shown = page[limit - 1].summary
        return page[:limit], to_token(Position(last_shown.start_time, last_shown.id), scope)

    def due(self, query: DueQuery) -> Sequence[Record]:
        """Return those that are due, earliest first."""
        due = [record for record in self.live() if is_due(query, record.summary)]
        return heapq.nsmallest(query.limit, due, key=_due_order)

    def save(
        self,
        id: str,
        encoded: EncodedState,
        *,
        if_version: str | Unset | None,
        expire_at: datetime | Unset | None = UNSET,
    ) -> Record:
        """Keep a whole state.

        Args:
            id: The key.
            encoded: The state.
            if_version: The version that must be there; None: none must; UNSET: any may.
            expire_at: When it expires; UNSET: as the settings say.

        Raises:
            FlowStateConflictError: Another version is there than is asked for.
            FlowStateEncodeError: The state could not be read back.
        """
        with self.lock():
            self._check_is_version(id, if_version)
            found = self._live(id)
            if not isinstance(if_version, Unset):
                _check_version(id, if_version, found)
            return self._write(id, encoded, expire_at=expire_at, payload=None)

    def update(self, id: str, change: Change, *, if_version: str | Unset) -> Record:
        """Keep the stored state with what the change names.

        Raises:
            FlowStateNotFoundError: There is no state.
            FlowStateConflictError: Another version is there than is asked for.
            FlowStateEncodeError: A value cannot be stored, or an unknown key cannot be removed.
        """
        with self.lock():
            self._check_is_version(id, if_version)
            found = self._live(id)
            if found is None:
                raise not_found(id)
            if not isinstance(if_version, Unset):
                _check_version(id, if_version, found)
            for key in sorted(change.unset & found.payload):
                raise not_removable(id, key)
            try:
                encoded = apply(change, found.encoded)
            except FlowStateEncodeError as error:
                raise with_flow_id(error, id) from error.__cause__
            kept = UNSET if change.names_expiry else found.summary.expire_at
            return self._write(id, encoded, expire_at=kept, payload=found.payload)

    def delete(self, id: str, *, if_version: str | Unset) -> None:
        """Keep the state no more.

        Raises:
            FlowStateConflictError: Another version is there than is asked for.
        """
        with self.lock():
            self._check_is_version(id, if_version)
            found = self._live(id)
            if not isinstance(if_version, Unset):
                _check_version(id, if_version, found)
            self.by_id.pop(id, None)
            self._changed()

    def _check_is_version(self, id: str, if_version: str | Unset | None) -> None:
        """Raise FlowStateConflictError if a text was never a version of this store, whatever is stored."""
        if isinstance(if_version, str) and not if_version.startswith(f"{self._name}:"):
            raise not_a_version(id, expected=if_version)

    def _write(
        self, id: str, encoded: EncodedState, *, expire_at: datetime | Unset | None, payload: frozenset[str] | None
    ) -> Record:
        """Keep the state. `payload` is that of `Record`; None: the state is saved whole, which determines it.

        `expire_at` is when it expires; UNSET: as the settings say.
        """
        shown = without_steps(id, encoded)
        now = datetime.now(timezone.utc)
        if isinstance(expire_at, Unset):
            settings = self._settings
            own = own_duration(shown.model_extra or {})
            expire_at = expiry(shown.status, now, own=own, after=settings.expire_after, when=settings.expire_when)
        self._writes += 1
        summary = summarize(id, encoded, shown, updated_at=now, expire_at=expire_at)
        if payload is None:
            payload = frozenset((shown.model_extra or {}).keys() - summary.extra.keys())
        record = self.by_id[id] = Record(encoded, f"{self._name}:{self._writes}", summary, payload)
        self._changed()
        return record

    def _live(self, id: str) -> Record | None:
        """Return the record, unless it has expired, which drops it; the lock is held."""
        record = self.by_id.get(id)
        if record is not None and has_expired(record.summary.expire_at, datetime.now(timezone.utc)):
            del self.by_id[id]
            return None
        return record


def without_steps(id: str, encoded: EncodedState) -> FlowState:
    """Return the state without its steps; raise FlowStateEncodeError if it could not be read back."""
    try:
        shown = decode_state(encoded.without_steps(), flow_id=id)
        check_head(shown)
    except FlowStateEncodeError as error:
        raise with_flow_id(error, id) from error.__cause__
    except FlowStateDecodeError as error:
        raise FlowStateEncodeError(f"Nothing was written: {error}", flow_id=id) from None
    return shown


def summarize(
    id: str, encoded: EncodedState, shown: FlowState, *, updated_at: datetime, expire_at: datetime | None
) -> FlowStateSummary:
    """Return the summary of a state that is stored under the id, given without its steps as `shown`."""
    return FlowStateSummary(
        id=id,
        flow_id=shown.flow_id,
        name=shown.name,
        status=shown.status,
        start_time=shown.start_time,
        blocked_on=shown.blocked_on_step.name if shown.blocked_on_step is not None else None,
        step_count=len(encoded.cache),
        size_bytes=encoded.size,
        last_end_time=last_end_time(shown.executions),
        error_line=error_line(shown.operation),
        updated_at=updated_at,
        expire_at=expire_at,
        extra=queryable(shown.model_extra or {}),
    )


def _order(record: Record) -> tuple[float, bytes]:
    return order(record.summary.start_time, record.summary.id)


def _due_order(record: Record) -> tuple[float, bytes]:
    return Due(wake_at(record.summary.extra) or 0, record.summary.id).key


def _check_version(id: str, expected: str | None, found: Record | None) -> None:
    stored = found.version if found is not None else None
    if stored != expected:
        raise conflict(id, expected=expected, found=stored)
