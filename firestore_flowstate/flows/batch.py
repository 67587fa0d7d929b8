"""What goes into one commit, and the partial write that it becomes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic_core import to_json

from firestore_flowstate import UNSET, CacheEntry, FlowStateEncodeError, FlowStateExecution

from .entries import order_of
from .final import Final
from .image import Image, blocked_on
from .scalars import parent_scalar
from .stretches import closed


@dataclass
class Batch:
    """What goes into one commit.

    Attributes:
        entries: Results by key.
        progress: The scalars that `Run.progress` was given.
        record: Whether the record has changed, and with it perhaps what the run is blocked on.
        needed: Whether the record must be stored before the next step begins.
        everything: Whether another writer came in between, so that all that is not a result is written once more.
    """

    entries: dict[str, CacheEntry] = field(default_factory=dict)
    progress: dict[str, Any] = field(default_factory=dict)
    record: bool = False
    needed: bool = False
    everything: bool = False

    def add(self, later: Batch) -> None:
        """Take over what a later batch has."""
        self.entries.update(later.entries)
        self.progress.update(later.progress)
        self.record = self.record or later.record
        self.needed = self.needed or later.needed
        self.everything = self.everything or later.everything

    @property
    def size(self) -> int:
        """How many entries and progress scalars it has: what the store may refuse one of."""
        return len(self.entries) + len(self.progress)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to write."""
        return not (self.entries or self.progress or self.record or self.everything)

    @property
    def is_needed(self) -> bool:
        """Whether the batch must be stored before the next step begins."""
        return bool(self.entries or self.needed)

    def results(self, image: Image) -> int:
        """Return how many of the entries are results that are not stored yet."""
        return sum(order_of(entry) is not None and key not in image.cache for key, entry in self.entries.items())


def changes_of(batch: Batch, image: Image, ending: Final | None, *, now: int, until: int | None) -> dict[str, Any]:
    """Return the arguments of the store's `update`.

    Args:
        batch: What is to be written.
        image: The run as its driver knows it.
        ending: How the drive ends; None: it goes on.
        now: The time, in milliseconds since the epoch.
        until: The new end of the lease, in milliseconds since the epoch; None: the lease is not extended.
    """
    changes: dict[str, Any] = {}
    extra: dict[str, Any] = dict(batch.progress)
    if batch.entries:
        changes["cache"] = batch.entries
    if batch.record or batch.everything or ending is not None:
        record = image.record if ending is None else ending.record
        changes["operation"] = image.operation_with(record, **({} if ending is None else ending.operation))
        changes["blocked_on_step"] = blocked_on(record)
    if batch.everything or ending is not None:
        changes["executions"] = image.executions if ending is None else _closed(image, ending, now=now)
    if batch.everything:
        extra.update(parent_scalar(image.parent))
    if ending is not None:
        extra["wakeAt"] = UNSET if ending.wake is None else ending.wake
    elif until is not None:
        extra["wakeAt"] = until
    return {**changes, "extra": extra} if extra else changes


def _closed(image: Image, ending: Final, *, now: int) -> Sequence[FlowStateExecution]:
    dropped = image.record.waits if ending.record.ended in ("failed", "cancelled") else {}
    return closed(image.executions, now=now, waits=dropped)


def unstorable_key(error: FlowStateEncodeError, batch: Batch) -> str | None:
    """Return the key of the entry or scalar that the store cannot hold; None: it is the result of the run itself."""
    path = error.path or ""
    if path in batch.progress:
        return path
    if path == "extra" and batch.progress:  # they are too large together
        return max(batch.progress, key=lambda name: len(str(batch.progress[name])))
    if path.startswith(("operation", "blocked_on_step")):
        return None
    if path.startswith('cache["'):
        try:
            key = str(json.JSONDecoder().raw_decode(path[len("cache[") :])[0])
        except ValueError:
            key = ""
        if key in batch.entries:
            return key
    # The values are too large together, or the path in the error is cut short: the largest entry is left out.
    return max(batch.entries, key=lambda key: len(to_json(batch.entries[key].value, fallback=str)), default=None)
