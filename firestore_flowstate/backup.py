"""Flow states as JSON Lines, out of any store and into any other.

::

    with open("backup.jsonl", "w", encoding="utf-8") as file:
        async for line in export_states(store):
            file.write(line)
    with open("backup.jsonl", "rb") as file:
        report = await import_states(store, file)

``import(export(x)) == x``: id, state and expiry, whatever JSON is in them. A store that is neither
FirestoreFlowStateStore nor MemoryFlowStateStore cannot be told when a state expires, and goes by its own settings. Both
functions hold a few megabytes of states in memory at a time, however many there are. ``flowstate export`` and
``flowstate import`` do the same. docs/backup.md has the format.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Mapping,
    Sequence,
)
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import Final, Literal, TypeAlias

from . import _operations
from ._backup_line import Entry, from_line, to_line
from .blocking import SyncFlowStateStore
from .errors import FlowStateBatchError, FlowStateDecodeError, FlowStateError, InvalidFlowIdError, shown
from .firestore import FirestoreFlowStateStore
from .memory import MemoryFlowStateStore
from .models import FlowState
from .pages import FlowStateSummary
from .query import MAX_LIMIT, FlowStateQuery, query_or_all
from .store import VersionedFlowStateStore

_BATCH: Final = 100  # states of one read
_BATCH_BYTES: Final = 4 * 1024 * 1024  # of the states that are in memory at once
_IMPORT_BATCH: Final = 400  # states, which save_many sends in several commits at once
_UNKNOWN_BYTES: Final = 64 * 1024  # of a native document, which does not say how large it is
_SHOWN: Final = 3  # errors, in the text of an error

_Read: TypeAlias = Sequence[tuple[str, FlowState | FlowStateError]]


@dataclass(frozen=True, kw_only=True)
class ImportReport:
    """What `import_states` did.

    Attributes:
        imported: How many lines have a state that was stored, or would be in a dry run.
        expired: How many were left out, since they have expired since the export.
    """

    imported: int
    expired: int


async def export_states(
    store: VersionedFlowStateStore,
    query: FlowStateQuery | None = None,
    *,
    on_unreadable: Callable[[str, FlowStateError], None] | None = None,
    progress: Callable[[int], None] | None = None,
) -> AsyncGenerator[str, None]:
    r"""Yield a line, with its "\n", for each state the filters match, newest start first.

    Each state is exported as it is at its turn. A state that is first written during the export may be in it or not.
    States that lists cannot see are not exported: `flowstate doctor` finds them. A Firestore store reads each document
    once; by status, native ones among others of another status twice.

    ::

        async for line in export_states(store, FlowStateQuery(status="done")):
            print(line, end="")

    Args:
        store: Where from.
        query: Which states; None: all. Its `limit` and `on_error` are passed over.
        on_unreadable: Called with the id and the error of each state that cannot be read, which is left out; None:
            the first such error is raised.
        progress: Called after each batch with the number of states so far.

    Raises:
        FlowStateDecodeError: A state cannot be read.
        TypeError: `store` is not a store whose methods can be awaited.
    """
    _check_store(store)
    done = 0
    next_batch = await _batches_of(store, query_or_all(query))
    ahead = asyncio.ensure_future(next_batch())
    try:
        while (batch := await ahead) is not None:
            ahead = asyncio.ensure_future(next_batch())
            for id, state in batch:
                if isinstance(state, FlowState):
                    yield export_line(id, state)
                    done += 1
                elif on_unreadable is None:
                    raise state
                else:
                    on_unreadable(id, state)
            if progress is not None and batch:
                progress(done)
    finally:
        ahead.cancel()
        await asyncio.gather(ahead, return_exceptions=True)


def export_line(id: str, state: FlowState) -> str:
    r"""Return the line, with its "\n", of one flow state under its id.

    ::

        line = export_line("order-17", state)

    Args:
        id: The id.
        state: The state. Its expiry is exported with it.

    Raises:
        FlowStateEncodeError: A value has no JSON form; `path` names it.
    """
    return to_line(id, state)


async def import_states(
    store: VersionedFlowStateStore,
    lines: Iterable[str | bytes] | AsyncIterable[str | bytes],
    *,
    expiry: Literal["keep", "renew"] = "keep",
    dry_run: bool = False,
    progress: Callable[[int], None] | None = None,
) -> ImportReport:
    """Store the state of each line under its id, in place of what is there.

    If a line is wrong, or reading fails, the states of all lines before it are stored, and nothing of it or after it:
    correct it, and go on from there, or import everything once more.

    ::

        report = await import_states(store, [export_line("order-18", state)], expiry="renew")

    Args:
        store: Where to.
        lines: The lines, such as a file that is open for reading as bytes. Empty ones are passed over. A file that is
            open as text is read ahead: if a byte of it is not UTF-8, lines before it in the same few kilobytes are not
            read either.
        expiry: "keep": each state expires when it did in the store it was exported from, and those that have expired
            since are left out; a store of another class than FirestoreFlowStateStore and MemoryFlowStateStore sets the
            expiry by its own settings. "renew": each expires as the settings of the store say for a state that is
            written now.
        dry_run: Read all lines and store nothing; report what would be stored, and raise what storing them would raise
            for what is in them. A store of another class than those two cannot be asked that.
        progress: Called after each batch with the number of lines so far.

    Raises:
        FlowStateDecodeError: A line cannot be read; the text has its number, or of a text file that of the last line
            that was read, and how many states were stored.
        InvalidFlowIdError: A line has an id that nothing can be stored under; the text is as above.
        FlowStateBatchError: States cannot be stored; the text has the numbers of the first three lines, and of the last
            line that was read, and `errors` has each by id. All others up to that line are stored.
        TypeError: A line is neither text nor bytes, `lines` is not made of lines, or the methods of `store` cannot be
            awaited.
        ValueError: `expiry` is neither of the two.
        Exception: What reading the lines raised.
    """
    _check_store(store)
    _check_lines(lines)
    if expiry not in ("keep", "renew"):
        raise ValueError(f"expiry is 'keep' or 'renew', not {shown(expiry)}")
    number = imported = expired = 0
    batch = _Batch()
    wrong: FlowStateError
    reading = _each(lines)
    while True:
        try:
            line = await anext(reading)
            _check_line(line, number + 1)
        except StopAsyncIteration:
            break
        except UnicodeDecodeError as error:  # of a file that is open as text, which reads ahead
            wrong = _after_line(error, number, imported=imported, dry_run=dry_run)
            await _save(store, batch, expiry, read=number, wrong=wrong, dry_run=dry_run)
            raise wrong from error
        except Exception:
            await _save(store, batch, expiry, read=number, dry_run=dry_run)
            raise
        number += 1
        if not line.strip():
            continue
        try:
            entry = from_line(line)
        except (FlowStateDecodeError, InvalidFlowIdError) as error:
            wrong = _naming_line(error, number, imported=imported, dry_run=dry_run)
            await _save(store, batch, expiry, read=number - 1, wrong=wrong, dry_run=dry_run)
            raise wrong from error
        if expiry == "keep" and entry.expire_at is not None and entry.expire_at <= datetime.now(timezone.utc):
            expired += 1
            continue
        batch.add(entry, number, len(line))
        imported += 1
        if batch.is_full():
            await _save(store, batch, expiry, read=number, dry_run=dry_run)
            batch = _Batch()
            if progress is not None:
                progress(number)
    await _save(store, batch, expiry, read=number, dry_run=dry_run)
    if progress is not None:
        progress(number)
    return ImportReport(imported=imported, expired=expired)


@dataclass
class _Batch:
    """States that are saved together, with the lines they come from. The last line of an id counts."""

    entries: dict[str, Entry] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)
    size: int = 0

    def add(self, entry: Entry, number: int, size: int) -> None:
        self.entries[entry.id] = entry
        self.numbers[entry.id] = number
        self.size += size

    def is_full(self) -> bool:
        return len(self.entries) >= _IMPORT_BATCH or self.size >= _BATCH_BYTES


async def _save(
    store: VersionedFlowStateStore,
    batch: _Batch,
    expiry: Literal["keep", "renew"],
    *,
    read: int,
    dry_run: bool,
    wrong: FlowStateError | None = None,
) -> None:
    """Store the states of a batch, or find out whether they could be stored.

    Args:
        store: Where to.
        batch: The states.
        expiry: As for `import_states`.
        read: How many lines have been read so far without an error.
        dry_run: Store nothing.
        wrong: The error of the line behind them, which an error of this batch is to name too.
    """
    states = {id: entry.state for id, entry in batch.entries.items()}
    if not states:
        return
    try:
        if dry_run:
            await _check_storable(store, states)
        elif expiry == "keep" and isinstance(store, FirestoreFlowStateStore | MemoryFlowStateStore):
            await _save_with_expiry(store, states, {id: entry.expire_at for id, entry in batch.entries.items()})
        else:
            await store.save_many(states)
    except FlowStateBatchError as error:
        text = _naming_lines(error, batch, read, wrong, dry_run=dry_run)
        raise FlowStateBatchError(text, errors=error.errors) from error


async def _check_storable(store: VersionedFlowStateStore, states: Mapping[str, FlowState]) -> None:
    """Raise FlowStateBatchError if the store could not store some of the states for what is in them."""
    if isinstance(store, FirestoreFlowStateStore):
        collection, _ = await store._begin()
        _operations.bulk.check_each_storable(collection, states)
    elif isinstance(store, MemoryFlowStateStore):
        store._check_storable(states)


async def _save_with_expiry(
    store: FirestoreFlowStateStore | MemoryFlowStateStore,
    states: Mapping[str, FlowState],
    expire_at: Mapping[str, datetime | None],
) -> None:
    if isinstance(store, MemoryFlowStateStore):
        store._save_many(states, expire_at=expire_at)
        return
    collection, deadline = await store._begin()
    await _operations.bulk.save_many(collection, states, deadline, expire_at=expire_at)


def _naming_lines(
    error: FlowStateBatchError, batch: _Batch, read: int, wrong: FlowStateError | None, *, dry_run: bool
) -> str:
    shown = [f"line {batch.numbers[id]}: {one}" for id, one in list(error.errors.items())[:_SHOWN]]
    more = f"; and {len(error.errors) - _SHOWN} more" if len(error.errors) > _SHOWN else ""
    states = "1 flow state" if len(error.errors) == 1 else f"{len(error.errors)} flow states"
    behind = "" if wrong is None else f" {wrong}"
    others = "would be" if dry_run else "were"
    return (
        f"{states} could not be imported (errors has each by id): {'; '.join(shown)}{more}. All others up to line "
        f"{read} {others}, and nothing after it: correct these lines and import everything again, which replaces what "
        f"is there.{behind}"
    )


def _naming_line(error: FlowStateError, number: int, *, imported: int, dry_run: bool) -> FlowStateError:
    """Return the error of a line with its number, and with what becomes of the lines before it."""
    kind = InvalidFlowIdError if isinstance(error, InvalidFlowIdError) else FlowStateDecodeError
    text = str(error).rstrip(".")
    if imported:
        then = (
            f"{_so_far('before it', imported, dry_run=dry_run)}, and nothing of it or after it: correct it, and import "
            f"everything again or go on from line {number}."
        )
    else:
        then = f"Nothing {'would be' if dry_run else 'was'} imported: correct it, and import everything again."
    return kind(
        f"line {number}: {text}. {then}",
        flow_id=error.flow_id,
    )


def _after_line(error: UnicodeDecodeError, number: int, *, imported: int, dry_run: bool) -> FlowStateDecodeError:
    """Return the error of a byte somewhere behind the last line that was read."""
    so_far = _so_far("up to there", imported, dry_run=dry_run)
    return FlowStateDecodeError(
        f"after line {number}: the lines cannot be read as {error.encoding}: {error.reason}. {so_far}, and nothing "
        f"after it. Text is read ahead, so the wrong line may be a later one: import the "
        'file once more, opened as "rb", to have all lines before it imported and hear its number.'
    )


def _so_far(where: str, imported: int, *, dry_run: bool) -> str:
    states = "1 flow state" if imported == 1 else f"{imported:,} flow states"
    done = "would be imported" if dry_run else f"{'was' if imported == 1 else 'were'} imported"
    return f"{states} of the lines {where} {done}"


def _check_store(store: object) -> None:
    if isinstance(store, SyncFlowStateStore):
        raise TypeError("store is a store whose methods can be awaited: give the one that SyncFlowStateStore wraps")
    asked = ("list_summaries", "load_many", "save_many")
    if isinstance(store, type) or not all(callable(getattr(store, name, None)) for name in asked):
        raise TypeError(f"store is a VersionedFlowStateStore, such as FirestoreFlowStateStore(), not {shown(store)}")


def _check_lines(lines: object) -> None:
    if isinstance(lines, str | bytes | bytearray | Mapping) or not isinstance(lines, Iterable | AsyncIterable):
        raise TypeError(
            f'lines are lines of a backup, such as open(path, "rb") or [export_line(id, state)], not {shown(lines)}'
        )


def _check_line(line: object, number: int) -> None:
    if not isinstance(line, str | bytes | bytearray):
        raise TypeError(f"line {number} is text or bytes, as export_line makes it, not {shown(line)}")


async def _each(lines: Iterable[str | bytes] | AsyncIterable[str | bytes]) -> AsyncIterator[str | bytes]:
    if isinstance(lines, AsyncIterable):
        async for line in lines:
            yield line
    else:
        for line in lines:
            yield line


async def _batches_of(store: VersionedFlowStateStore, query: FlowStateQuery) -> Callable[[], Awaitable[_Read | None]]:
    """Return a function that gives the next states of the store with their ids, and None once there are no more."""
    if not isinstance(store, FirestoreFlowStateStore):
        return _Batches(store, query).next
    collection, _ = await store._begin()
    return _operations.listing.Export.of(collection, query).next


class _Batches:
    """The states of a store that is not in Firestore, at a time as many as take 4 MiB by the sizes in summaries."""

    def __init__(self, store: VersionedFlowStateStore, query: FlowStateQuery) -> None:
        self._store = store
        self._query: FlowStateQuery | None = replace(query, limit=MAX_LIMIT, on_error="skip")
        self._left: deque[FlowStateSummary] = deque()

    async def next(self) -> _Read | None:
        """Return the next ones."""
        unreadable: list[tuple[str, FlowStateDecodeError]] = []
        while not self._left and self._query is not None:
            page = await self._store.list_summaries(self._query)
            self._left.extend(page.summaries)
            token = page.continuation_token
            self._query = None if token is None else replace(self._query, continuation_token=token)
            for id in page.skipped:
                text = f"The flow state {id!r} cannot be read: its head is damaged."
                unreadable.append((id, FlowStateDecodeError(text, flow_id=id)))
        if not self._left:
            return unreadable or None
        ids: list[str] = []
        size = 0
        while self._left and len(ids) < _BATCH:
            size += self._left[0].size_bytes or _UNKNOWN_BYTES
            if ids and size > _BATCH_BYTES:
                break
            ids.append(self._left.popleft().id)
        return [*unreadable, *await self._load(ids)]

    async def _load(self, ids: Sequence[str]) -> _Read:
        try:
            found: Mapping[str, FlowState | FlowStateError] = await self._store.load_many(ids)
        except FlowStateBatchError as failed:
            if wrong := [error for error in failed.errors.values() if not isinstance(error, FlowStateDecodeError)]:
                raise wrong[0] from failed
            found = {**await self._store.load_many([id for id in ids if id not in failed.errors]), **failed.errors}
        return [(id, found[id]) for id in ids if id in found]
