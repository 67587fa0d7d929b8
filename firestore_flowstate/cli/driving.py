"""Commands that drive runs, by the code of an application: start, sweep, worker."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import datetime, timedelta, timezone
from typing import Any, Final

import click

from ..errors import BackendError, FlowStateError
from ..flows import Flow, Flows, InvalidPayloadError, UnknownFlowError
from ..flows.record import ended_of, is_owned, record_of, wake_at
from ..models import FlowState
from ..pages import FlowStateSummary
from ..unset import UNSET
from .answering import json_argument
from .applications import close_store, flow_named, flows_named, flows_option, look_for_store
from .interruptible import run
from .logs import logged
from .options import MisusedError
from .output import counted, say, shown, tell, when
from .parameters import pause

_OVERDUE: Final = timedelta(seconds=10)  # as in `Flows.sweep`: what is due for less is left to its dispatcher
_PAGE: Final = 300  # summaries of one query, the most that a store gives
_LINE: Final = "flowstate: %(message)s"  # the form of all that the command says of trouble
_AT_ONCE: Final = 16  # runs driven at a time, as in `Flows.worker`


@click.command()
@click.argument("flow", metavar="MODULE:FLOW")
@click.option("--json", "input", metavar="INPUT", help="The input as JSON; - reads it from standard input.")
@click.option("--id", metavar="ID", help="The id of the run; otherwise a random one.")
def start(flow: str, input: str | None, id: str | None) -> int:
    """Start a run of a flow, and print its id.

    If there is a run with the id already, prints how that run stands. If the application has no dispatcher, the run is
    driven by this command until it ends or waits. Exits with 1 if the run failed or was cancelled.
    """
    found = flow_named(flow)
    with logged(_LINE, level=logging.WARNING):
        state = run(_start(found, UNSET if input is None else json_argument(input), id))
    how = ended_of(state)
    if how is not None:
        result = state.operation.result
        say(shown(f"{how}{f': {result.error}' if result is not None and result.error else ''}"))
    elif state.blocked_on_step is not None:
        say(shown(f"waits for {state.blocked_on_step.name}"))
    else:
        say(_what_is_next(state, has_dispatcher=found.home.dispatcher is not None))
    return 1 if how in ("failed", "cancelled") else 0


def _what_is_next(state: FlowState, *, has_dispatcher: bool) -> str:
    """Return what happens to a run that goes on, and waits for no step."""
    if is_owned(state, record_of(state)):
        return "it is being driven"
    if has_dispatcher:
        return "the dispatcher wakes it"
    begins = wake_at(state)  # a run without a dispatcher is left alone if it was started with a delay
    until = "" if begins is None else f" from {when(begins)} on"
    return f"it has not begun: a worker or a sweep drives it{until}"


async def _start(flow: Flow[Any, Any], input: Any, id: str | None) -> FlowState:
    flows: Flows = flow.home
    try:
        await look_for_store(flows)
        async with flows:
            began = time.time() * 1000
            try:
                handle = await flows.start(flow, input, id=id)
            except InvalidPayloadError as error:
                raise MisusedError(str(error)) from None
            tell(shown(handle.id))
            async for state in handle.watch():
                if flows.dispatcher is not None or not _is_driven(state, began):
                    return state
        raise FlowStateError(f"The run {handle.id!r} was deleted meanwhile.", flow_id=handle.id)
    finally:
        await close_store(flows)


def _is_driven(state: FlowState, began: float) -> bool:
    """Return whether a drive holds the run, or one of this process is about to, since the run was due at the start."""
    if ended_of(state) is not None:
        return False
    wake = wake_at(state)
    return record_of(state).owner is not None or (wake is not None and wake <= began)


@click.command()
@click.option("--limit", type=click.IntRange(1), metavar="N", default=1000, show_default=True, help="At most so many.")
@flows_option
def sweep(limit: int, application: Flows | None) -> int:
    """Have runs driven that have been due for 10 seconds.

    A scheduler calls this each minute. The dispatcher of the application wakes the runs. If the application has no
    dispatcher, they are driven by this command until they end or wait. Runs of flows that the application does not know
    are passed over. So are runs that cannot be driven, such as one whose record was spoilt: they are named on standard
    error, and the exit code is 1.
    """
    if application is None:
        raise MisusedError("a sweep needs the application, which knows the flows: --flows MODULE:FLOWS")
    with logged(_LINE, level=logging.WARNING):
        swept, failed = run(_sweep(application, limit))
    tell(swept)
    return 1 if failed else 0


async def _sweep(flows: Flows, limit: int) -> tuple[str, bool]:
    """Return what the sweep has done, in words, and whether there were runs that could not be driven."""
    try:
        await look_for_store(flows)
        async with flows:
            if flows.dispatcher is not None:
                return f"{counted(await flows.sweep(limit=limit), 'run')} dispatched", False
            outcomes, failed = await _drive_what_is_due(flows, limit)
    finally:
        await close_store(flows)
    ended = ", ".join(f"{number} {outcome}" for outcome, number in sorted(outcomes.items()))
    return f"{counted(outcomes.total(), 'run')} driven{f': {ended}' if ended else ''}", failed


async def _drive_what_is_due(flows: Flows, limit: int) -> tuple[Counter[str], bool]:
    outcomes: Counter[str] = Counter()
    failed = False
    driving: set[asyncio.Task[None]] = set()

    async def drive(id: str) -> None:
        nonlocal failed
        try:
            outcomes[await flows.drive(id)] += 1
        except UnknownFlowError:
            return  # it is a run of another application
        except BackendError:
            raise  # the store cannot be reached, for any run
        except FlowStateError as error:
            say(shown(f"flowstate: {id} cannot be driven: {error}"))
            failed = True

    try:
        async with aclosing(_due(flows)) as summaries:
            async for summary in summaries:
                # A run that is passed over does not count, which is known when the attempt to drive it has ended.
                while len(driving) >= min(_AT_ONCE, limit - outcomes.total()):
                    if not driving:
                        return outcomes, failed
                    ended, driving = await asyncio.wait(driving, return_when=asyncio.FIRST_COMPLETED)
                    await asyncio.gather(*ended)
                driving.add(asyncio.ensure_future(drive(summary.id)))
        await asyncio.gather(*driving)
    finally:
        for task in driving:
            task.cancel()
        await asyncio.gather(*driving, return_exceptions=True)
    return outcomes, failed


async def _due(flows: Flows) -> AsyncGenerator[FlowStateSummary, None]:
    before, after = datetime.now(timezone.utc) - _OVERDUE, None
    while True:
        page = await flows.store.due(before, limit=_PAGE, after=after)
        for summary in page:
            yield summary
        if len(page) < _PAGE:
            return
        after = page[-1]


@click.command()
@click.argument("flows", metavar="MODULE:FLOWS")
@click.option(
    "--at-once", type=click.IntRange(1), metavar="N", default=_AT_ONCE, show_default=True, help="How many runs at once."
)
@click.option(
    "--poll",
    type=pause,
    metavar="SECONDS",
    default=1.0,
    show_default=True,
    help="The pause before the worker looks again if nothing is due, from 0.01; a look is a query.",
)
def worker(flows: str, at_once: int, poll: float) -> None:
    """Drive the runs of an application that are due, until SIGTERM or Ctrl-C.

    The runs that are driven then are handed over to another process, and the exit code is 0. The beginning and the end
    of each drive are logged to standard error, unless the application has set up logging.
    """
    application = flows_named(flows)
    with logged("%(asctime)s %(levelname)s %(message)s", level=logging.INFO):
        run(_work(application, at_once, poll))


async def _work(flows: Flows, at_once: int, poll: float) -> None:
    try:
        await look_for_store(flows)
        async with flows, flows.worker(at_once=at_once, poll=poll):
            say("the worker looks for runs that are due")
            await asyncio.get_running_loop().create_future()
    except asyncio.CancelledError:  # a signal cancels, and that is how a worker ends
        say("the worker has ended")
    finally:
        await close_store(flows)
