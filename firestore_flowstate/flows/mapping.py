"""`Run.map`: the same step for each item, some at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .calls import Called
from .entries import failed, order_of
from .errors import StepFailedError
from .stepping import StepCall, outcome

if TYPE_CHECKING:
    from .driving import Drive


@dataclass
class _Progress:
    """How far a map is.

    Attributes:
        drive: The drive that executes it.
        calls: The step of each item.
        results: The result of each item, by index.
        errors: The error of each item that failed, by the number of its result.
        in_flight: The items without a result that go on although an item has failed, by index.
    """

    drive: Drive
    calls: Sequence[StepCall]
    results: dict[int, Any] = field(default_factory=dict)
    errors: dict[int, StepFailedError] = field(default_factory=dict)
    in_flight: Collection[int] = ()


async def map_items(called: Called, calls: Sequence[StepCall], at_once: int) -> list[Any]:
    """Return the result of each call, in the order of the calls; at most `at_once` are executed at a time.

    After an item has failed no further item begins. Those that are in flight are awaited and recorded, also if they
    wait for so long that other drives go on with them. Then the error of the item that failed first is raised.
    """
    await called.begin()
    progress = _Progress(called.drive, calls)
    entries = [called.drive.recorded(call.key, "step") for call in calls]
    recorded = sorted((order_of(entry) or 0, index) for index, entry in enumerate(entries) if entry is not None)
    live = [index for index, entry in enumerate(entries) if entry is None]
    if any(entry is not None and failed(entry) for entry in entries):
        begun = _begun(called.drive)
        live = progress.in_flight = [index for index in live if calls[index].key in begun]
    rest = iter(live)
    workers = [asyncio.ensure_future(_work(progress, rest)) for _ in range(min(at_once, len(live)))]
    try:
        for _, index in recorded:
            await _one(progress, index)
        await asyncio.gather(*workers)
    finally:
        for worker in workers:
            worker.cancel()
    if progress.errors:
        first, *others = (progress.errors[n] for n in sorted(progress.errors))
        progress.drive.not_told(error.step for error in others)
        raise first
    return [progress.results[index] for index in range(len(calls))]


async def _work(progress: _Progress, rest: Iterator[int]) -> None:
    for index in rest:
        if progress.errors and index not in progress.in_flight:
            return
        await _one(progress, index)


def _begun(drive: Drive) -> set[str]:
    """Return the keys of the steps of which earlier drives have stored anything, also of what is inside of them."""
    image = drive.image
    record = image.record
    own = {*record.waits, *record.retries, *record.intents}
    inside = {*own, *drive.checkpoint.entries(), *image.events}
    return own | {key[:end] for key in inside for end, letter in enumerate(key) if letter == "/"}


async def _one(progress: _Progress, index: int) -> None:
    call = progress.calls[index]
    try:
        progress.results[index] = await outcome(progress.drive, call)
    except StepFailedError as error:
        entry = progress.drive.checkpoint.entry(call.key)
        if entry is None or not failed(entry):
            raise
        progress.errors[order_of(entry) or 0] = error
