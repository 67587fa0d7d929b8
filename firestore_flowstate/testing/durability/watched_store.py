"""A store that notes in a journal what it is asked to write, what was committed, and what it loaded."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from ...errors import BackendError, FlowStateError
from ...flows.entries import failed, kind_of, order_of, value_of
from ...models import CacheEntry, FlowState, Operation
from ...store import VersionedFlowStateStore
from ...unset import UNSET, Unset
from .journal import Event, Journal, short

Hook = Callable[[Event], Awaitable[None]]
"""What is called at a write: it may wait, raise, or end the process."""


async def _nothing(write: Event) -> None:
    """Do nothing at a write."""


async def _nothing_in_step(key: str) -> None:
    """Do nothing inside of a step."""


class WatchedStore:
    """Passes everything on to a store, and notes writes and loads in a journal.

    Args:
        store: The store.
        journal: The journal.
        before: Called before each write is sent. What it raises is the outcome of the write.
        after: Called when the write is stored and nobody has been told. What it raises is the outcome of the write.

    Attributes:
        in_step: Called inside of each step of a sample, with the key of the step.
    """

    def __init__(
        self,
        store: VersionedFlowStateStore,
        journal: Journal,
        *,
        before: Hook = _nothing,
        after: Hook = _nothing,
    ) -> None:
        self._store = store
        self.journal = journal
        self.before = before
        self.after = after
        self.in_step: Callable[[str], Awaitable[None]] = _nothing_in_step

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def create(self, id: str, state: FlowState, **options: Any) -> None:
        """Create, and note."""
        about = {"how": "create", "on": None, "content": content_of(state)}

        async def create() -> str | None:
            await self._store.create(id, state, **options)
            return state.version

        await self._write(id, about, create)

    async def update(self, id: str, **changes: Any) -> str:
        """Update, and note."""
        about = {"how": "update", "on": changes.get("if_version"), "changes": _changes(changes)}
        version = await self._write(id, about, lambda: self._store.update(id, **changes))
        assert version is not None, "an update returns a version"
        return version

    async def load(self, id: str, **options: Any) -> FlowState | None:
        """Load, and note."""
        state = await self._store.load(id, **options)
        if state is not None:
            self.journal.note("load", id, version=state.version, content=content_of(state))
        return state

    @asynccontextmanager
    async def edit(self, id: str, **options: Any) -> AsyncIterator[FlowState]:
        """Edit, and note."""
        about: dict[str, Any] = {"how": "edit"}
        number = secrets.token_hex(6)
        try:
            async with self._store.edit(id, **options) as state:
                self.journal.note("load", id, version=state.version, content=content_of(state))
                about["on"] = state.version
                yield state
                about["content"] = content_of(state)
                self.journal.note("write", id, number=number, **about)
        except BaseException as error:
            self.journal.note(
                "not committed", id, number=number, error=type(error).__name__, unknown=_is_unknown(error)
            )
            raise
        self.journal.note("committed", id, number=number, version=state.version)

    async def _write(self, id: str, about: Mapping[str, Any], write: Callable[[], Awaitable[str | None]]) -> str | None:
        number = secrets.token_hex(6)
        await self.before({"run": id, **about})
        self.journal.note("write", id, number=number, **about)
        try:
            version = await write()
            await self.after({"run": id, "version": version, **about})
        except BaseException as error:
            self.journal.note(
                "not committed", id, number=number, error=type(error).__name__, unknown=_is_unknown(error)
            )
            raise
        self.journal.note("committed", id, number=number, version=version)
        return version


def _is_unknown(error: BaseException) -> bool:
    """Return whether the error leaves open if the write was committed."""
    if isinstance(error, BackendError):
        return bool(getattr(error, "outcome_unknown", False))
    return not isinstance(error, FlowStateError)


def content_of(state: FlowState) -> dict[str, Any]:
    """Return the parts of a state that the invariants are about."""
    wake = (state.model_extra or {}).get("wakeAt")
    return {
        "cache": {key: _entry(entry) for key, entry in state.cache.items()},
        "events": {key: short(value) for key, value in state.events_triggered.items()},
        "wake": wake,
        **_of_operation(state.operation),
    }


def _changes(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parts of an update that the invariants are about: what it replaces or adds."""
    made: dict[str, Any] = {"names": sorted(set(changes) - {"if_version"})}
    if changes.get("cache"):
        made["cache"] = {key: _entry(entry) for key, entry in changes["cache"].items()}
    if changes.get("events_triggered"):
        made["events"] = {key: short(value) for key, value in changes["events_triggered"].items()}
    operation = changes.get("operation", UNSET)
    if not isinstance(operation, Unset):
        made.update(_of_operation(operation))
    extra = changes.get("extra") or {}
    if "wakeAt" in extra:
        made["wake"] = None if isinstance(extra["wakeAt"], Unset) else extra["wakeAt"]
    return made


def _of_operation(operation: Operation) -> dict[str, Any]:
    metadata = operation.metadata if isinstance(operation.metadata, dict) else {}
    result = operation.result
    return {
        "record": metadata.get("run", {}),
        "inbox": metadata.get("inbox", {}),
        "done": bool(operation.done),
        "error": None if result is None else result.error,
    }


def _entry(entry: CacheEntry) -> dict[str, Any]:
    return {"n": order_of(entry), "kind": kind_of(entry), "failed": failed(entry), "value": short(value_of(entry))}
