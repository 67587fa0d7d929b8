"""The last write of a drive: how the drive leaves the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from firestore_flowstate import FlowResult

from .image import Image
from .record import Ended, RunRecord, Todo, Wait, has_told

DriveOutcome = Literal["done", "failed", "cancelled", "waiting", "busy", "handed over", "missing"]
"""How a drive ended, as `Flows.drive` returns it.

- done, failed, cancelled: the run has ended so, by this drive or before.
- waiting: the run waits for an answer, a time, a child or a retry, and nobody drives it.
- busy: another drive of the run goes on; or this drive has lost its lease, or has left the run to the end of it.
- handed over: the budget was used, or the process is to end; the dispatcher has another drive begun.
- missing: there is no run with this id.
"""


@dataclass(frozen=True)
class Final:
    """What the last write of a drive leaves.

    Attributes:
        outcome: What the drive returns.
        record: The record that the driver leaves, without an owner.
        wake: The ``wakeAt`` that it leaves, in milliseconds since the epoch; None: the key is removed.
        operation: The fields of the operation that change, by name.
        error: The error that ended the run.
    """

    outcome: DriveOutcome
    record: RunRecord
    wake: int | None = None
    operation: Mapping[str, Any] = field(default_factory=dict)
    error: BaseException | None = None

    def stored_in(self, image: Image) -> None:
        """Note in the image that this write is stored."""
        image.operation = image.operation_with(self.record, **self.operation)
        image.record = self.record


def suspended(image: Image, token: str, waits: Mapping[str, Wait]) -> Final:
    """Return how a drive leaves a run that waits.

    What an earlier drive waited for, and the function has not come to in this one, is forgotten. A child goes on.
    """
    record = replace(image.record, owner=None, last=token, waits=dict(waits), fruitless=False, trying=[])
    left = {key: child for key, child in image.record.children().items() if key not in waits}
    record.dropped_children = {**record.dropped_children, **left}
    ends = [wait.until for wait in waits.values() if wait.until is not None]
    if record.deadline is not None:
        ends.append(record.deadline)
    return Final("waiting", record, wake=min(ends, default=None))


def handed_over(image: Image, token: str, *, now: int, fruitless: bool) -> Final:
    """Return how a drive leaves a run that another one is to go on with at once."""
    record = replace(image.record, owner=None, last=token, fruitless=fruitless)
    return Final("handed over", record, wake=now)


def ended(
    image: Image,
    token: str | None,
    *,
    now: int,
    how: Ended,
    result: FlowResult | None,
    failed_by: Sequence[str] = (),
    error: BaseException | None = None,
) -> Final:
    """Return the last write of a run.

    What is left to do afterwards stands in ``todo`` of the run's record. The children of a run that is cancelled are
    cancelled. Those of one that failed go on, and the run keeps them, since it may be retried.
    """
    todo: Todo = {}
    children = image.record.open_children(image.events)
    earlier = {
        child: key
        for child, key in image.record.earlier_children.items()
        if how != "done" and not has_told(image.events.get(key), child)
    }
    if image.parent is not None and image.record.parent is not None:
        todo["knock"] = image.record.parent
    if how == "cancelled" and (children or earlier):
        todo["children"] = list(dict.fromkeys([*children.values(), *earlier]))
    if how == "failed":
        earlier |= {child: key for key, child in children.items()}
    record = replace(
        image.record,
        owner=None,
        last=token or image.record.last,
        ended=how,
        waits={},
        trying=[],
        fruitless=False,
        failed_by=list(failed_by),
        dropped_children={},
        cancelled_children=children if how == "cancelled" else {},
        earlier_children=earlier,
        todo=todo or None,
    )
    operation: dict[str, Any] = {"done": True}
    if result is not None:
        operation["result"] = result
    return Final(how, record, wake=now if todo else None, operation=operation, error=error)
