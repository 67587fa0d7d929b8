"""Commands that tell a run something: resume, retry, cancel. They need no code of the application."""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import click

from ..errors import FlowStateError
from ..flows import Flows, InvalidPayloadError
from ..flows.record import ended_of, is_owned, open_interrupts, record_of
from ..models import FlowState
from .applications import Notes, application_settings, flows_option, flows_over
from .interruptible import run
from .options import MisusedError, store_options
from .output import shown, tell


@click.command()
@click.argument("id")
@click.option("--step", metavar="STEP", help="The key of the interrupt; otherwise the first that is open.")
@click.option(
    "--json", "payload", metavar="PAYLOAD", help="The answer as JSON; - reads it from standard input.  [default: null]"
)
@click.option(
    "--key", metavar="KEY", help="A name for this answer. One of the same name again succeeds and changes nothing."
)
@flows_option
@store_options
def resume(id: str, step: str | None, payload: str | None, key: str | None, application: Flows | None) -> None:
    """Answer a run, so that it goes on.

    The answer is checked by the JSON Schema that is stored with the interrupt. An answer to an interrupt that the run
    has not reached yet is kept for it. An answer to a sleep ends the sleep.
    """
    answer = json_argument(payload)
    said = f"has its answer{f' to {step}' if step is not None else ''}"

    async def resume_run(flows: Flows) -> None:
        try:
            await flows.resume(id, answer, step=step, key=key)
        except InvalidPayloadError as error:
            missing = "" if payload is not None else ". Without --json the answer is null: give it by --json"
            raise MisusedError(f"{error}{missing}") from None

    tell(shown(f"{id} {_told(id, application, resume_run, lambda state, notes: _kept(state, notes, said, step))}"))


@click.command()
@click.argument("id")
@click.option(
    "--from-step",
    metavar="STEP",
    help="Run this step again, and all that reached the function after it, also of parallel branches.",
)
@flows_option
@store_options
def retry(id: str, from_step: str | None, application: Flows | None) -> None:
    """Have a run that failed or was cancelled go on.

    The steps that made it fail run again, and all others are kept. The history keeps how the run had ended.
    """

    def said(state: FlowState | None, notes: Notes) -> str:
        return _what_is_next(state, notes, "is to be retried")

    tell(shown(f"{id} {_told(id, application, lambda flows: flows.retry(id, from_step=from_step), said)}"))


@click.command()
@click.argument("id")
@click.option("--reason", metavar="TEXT", default="", help="Why, for those who look at the run.")
@flows_option
@store_options
def cancel(id: str, reason: str, application: Flows | None) -> None:
    """Cancel a run: at once if nobody drives it, else when its steps in flight have ended.

    A run that has ended stays as it is. Exits with 1 if it ended otherwise than by being cancelled.
    """

    def said(state: FlowState | None, notes: Notes) -> str:
        how = None if state is None else ended_of(state)
        if how in ("done", "failed"):
            raise FlowStateError(f"{id} was not cancelled: it has ended: {how}.", flow_id=id)
        return _what_is_next(state, notes, "is to be cancelled")

    tell(shown(f"{id} {_told(id, application, lambda flows: flows.cancel(id, reason), said)}"))


def json_argument(text: str | None) -> Any:
    """Return the value of an option that takes JSON, which ``-`` reads from standard input; None: it was not given.

    Raises:
        MisusedError: The text is not JSON.
    """
    if text is None:
        return None
    try:
        return json.loads(sys.stdin.read() if text == "-" and sys.stdin is not None else text)
    except (ValueError, RecursionError) as error:
        raise MisusedError(
            f"--json takes JSON, and texts in JSON have quotes, as in --json '\"yes\"': {error}"
        ) from None


def _told(
    id: str,
    application: Flows | None,
    do: Callable[[Flows], Awaitable[None]],
    said: Callable[[FlowState | None, Notes], str],
) -> str:
    """Tell the run something, and return what `said` makes of the state that it has then."""
    settings = application_settings(application)

    async def work() -> str:
        async with flows_over(application, settings) as (flows, notes):
            try:
                await do(flows)
            except ValueError as error:  # an answer that does not fit, a step that has no result, an id
                raise MisusedError(str(error)) from None
            return said(await flows.store.load(id), notes)

    return run(work())


def _kept(state: FlowState | None, notes: Notes, said: str, step: str | None) -> str:
    """Return as `_what_is_next`, and what the run waits for if the answer is to another step."""
    next = _what_is_next(state, notes, said)
    if state is None or step is None or ended_of(state) is not None or step in state.cache:
        return next
    record = record_of(state)
    asked = [] if step in record.waits else open_interrupts(state, record)
    return f"{next} It waits for an answer to {', '.join(asked)} now." if asked else next


def _what_is_next(state: FlowState | None, notes: Notes, said: str) -> str:
    """Return a sentence that says what the run does next; `said` is what the command has done."""
    how = None if state is None else ended_of(state)
    if state is None or how is not None:
        return f"has ended: {how}." if how is not None else f"{said}, and was deleted meanwhile."
    if notes.asked and notes.dispatcher is not None:
        return f"{said}. The dispatcher wakes it."
    if notes.asked:  # also for a run whose owner has died
        return f"{said}. No dispatcher is configured (--flows): a worker goes on with it, or a sweep from 10 s on."
    if is_owned(state, record_of(state)):
        return f"{said}. The process that drives it sees that when it writes next, at the latest in half a lease."
    return f"{said}, which is kept until the run asks for it."
