"""The command that shows flow states as they change."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import aclosing
from datetime import datetime
from typing import Any, get_args

import click
from pydantic.alias_generators import to_camel
from rich.console import Console
from rich.live import Live

from ..models import FlowState, FlowStatus
from ..pages import FlowStateSummary
from ..query import FlowStateQuery
from ..settings import FlowStateSettings
from .connecting import opened
from .interruptible import run
from .options import MisusedError, filter_options, given_query, given_settings, need_output, store_options
from .output import is_terminal, shown, table_of, tell, tell_json

_ENDED = ("done", "failed")


@click.command()
@click.argument("id", required=False)
@click.option(
    "--until",
    type=click.Choice(get_args(FlowStatus)),
    metavar="STATUS",
    help="End when ID has this status, or has ended otherwise.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object a line for each change.")
@filter_options
@store_options
def watch(id: str | None, until: str | None, as_json: bool) -> int:
    """Show a flow as it goes on, or the newest flows as they change.

    With ID it prints the status and the steps of that flow, with the time of each change. Without ID it shows the first
    page of the list: on a terminal it draws the page anew, otherwise it prints a line for each flow that changes. Each
    change is billed as a read. With --until it exits with 0 when the flow has that status, and with 1 when the flow has
    ended otherwise or was deleted. Without --until it goes on until it is interrupted.
    """
    if until is None:  # otherwise the exit code tells what became of the flow
        need_output()
    settings, query = given_settings(), given_query()
    if id is None:
        if until is not None:
            raise MisusedError("--until needs the ID of the flow to wait for")
        return run(_watch_list(settings, query, as_json=as_json))
    if query != FlowStateQuery():
        raise MisusedError("filters are for the list: leave them out, or leave out the ID")
    return run(_watch_one(settings, id, until, as_json=as_json))


async def _watch_one(settings: FlowStateSettings, id: str, until: str | None, *, as_json: bool) -> int:
    before: FlowState | None = None
    async with opened(settings) as store, aclosing(store.watch(id)) as states:  # type: ignore[type-var]  # a generator
        async for state in states:
            if as_json:
                tell_json(_change(id, before, state))
            else:
                for line in _lines(id, before, state):
                    tell(shown(line))
            _flush()
            if until is not None and state is not None and state.status == until:
                return 0
            if until is not None and (before if state is None else state.status in _ENDED):
                return 1
            before = state
    return 0


async def _watch_list(settings: FlowStateSettings, query: FlowStateQuery, *, as_json: bool) -> int:
    before: dict[str, FlowStateSummary] = {}
    is_drawn = is_terminal(sys.stdout) and not as_json
    with Live(console=Console(), auto_refresh=False, transient=False) if is_drawn else _Nothing() as live:
        async with opened(settings) as store, aclosing(store.watch_list(query)) as pages:  # type: ignore[type-var]  # as above
            async for page in pages:
                if isinstance(live, Live):
                    live.update(table_of(page), refresh=True)
                    continue
                after = {summary.id: summary for summary in page}
                for id in [*(id for id in before if id not in after), *reversed(after)]:
                    if after.get(id) != before.get(id):
                        _tell_of(id, after.get(id), as_json=as_json)
                _flush()
                before = after
    return 0


class _Nothing:
    """Stands in for rich's Live if there is no terminal to draw on."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, *exc: object) -> None:
        return None


def _flush() -> None:
    """Flush standard output, so that whoever reads a pipe gets each change at once."""
    if sys.stdout is not None:  # closed, as by ``>&-``
        sys.stdout.flush()


def _tell_of(id: str, summary: FlowStateSummary | None, *, as_json: bool) -> None:
    if summary is None:
        if as_json:
            tell_json({"id": id, "gone": True})
        else:
            tell(shown(f"{_time(None)}  {id}  is not on the page any more"))
    elif as_json:
        fields = summary.model_dump(mode="json", exclude={"extra"})
        tell_json({to_camel(name): value for name, value in fields.items()} | {"extra": dict(summary.extra)})
    else:
        about = f"waits for {summary.blocked_on}" if summary.status == "blocked" else summary.error_line or ""
        words = (_time(summary.updated_at), id, summary.name or "", summary.status, about)
        tell(shown("  ".join(word for word in words if word)))


def _lines(id: str, before: FlowState | None, state: FlowState | None) -> Iterator[str]:
    """Yield a line for each thing that has changed in a flow."""
    if state is None:
        yield f"{_time(None)}  {'deleted' if before is not None else f'there is no flow state {id!r}; waiting for it'}"
        return
    at = _time(state.updated_at)
    for step in _new_steps(before, state):
        yield f"{at}  step {step}"
    for step in () if before is None else [step for step in before.cache if step not in state.cache]:
        yield f"{at}  step {step} removed"
    if before is None or _status(before) != _status(state):
        yield f"{at}  {_status(state)}"


def _change(id: str, before: FlowState | None, state: FlowState | None) -> Mapping[str, Any]:
    if state is None:
        return {"id": id, "status": None}
    blocked = state.blocked_on_step
    result = state.operation.result
    return {
        "id": id,
        "status": state.status,
        "updatedAt": None if state.updated_at is None else state.updated_at.isoformat(),
        "newSteps": _new_steps(before, state),
        "blockedOn": None if blocked is None else blocked.name,
        "error": None if result is None else result.error,
    }


def _new_steps(before: FlowState | None, state: FlowState) -> Sequence[str]:
    known = {} if before is None else before.cache
    return [step for step, entry in state.cache.items() if step not in known or known[step] != entry]


def _status(state: FlowState) -> str:
    if state.status == "blocked" and state.blocked_on_step is not None:
        return f"blocked: waits for {state.blocked_on_step.name}"
    if state.status == "failed" and state.operation.result is not None:
        return f"failed: {(state.operation.result.error or '').strip().partition(chr(10))[0]}"
    return state.status


def _time(moment: datetime | None) -> str:
    """Return the local time of day of the moment; None: of now."""
    return (datetime.now().astimezone() if moment is None else moment.astimezone()).strftime("%H:%M:%S")
