"""What commands print: results on standard output, everything else on standard error."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from ..errors import BackendError
from ..firestore import FirestoreFlowStateStore
from ..pages import FlowStateSummary
from ..query import FlowStateQuery
from ..settings import FlowStateSettings

_NARROW = 100  # columns: a terminal with fewer gets a table without the sizes
_UNBOUNDED = 10_000  # columns of what is piped, more than any line has: it is not to be wrapped
_MOST_OF_A_NAME = 80  # characters: an id may have 1,500 bytes, and every line would be padded to the longest
_LONGEST_NUMBER = 24  # characters of what is not a time: an integer may have 4,300 digits


def say(message: str) -> None:
    """Print a line for people, to standard error."""
    _print(message, sys.stderr)


def tell(result: str) -> None:
    """Print a line of the result, to standard output."""
    _print(result, sys.stdout)


def tell_json(value: object, *, indent: int | None = None, exact: bool = False) -> None:
    """Print the result as JSON.

    Args:
        value: What to print.
        indent: How many spaces each level is indented by; None: all on one line.
        exact: Whether to print NaN and the infinities as such, which JSON does not have; otherwise they are texts.
    """
    tell(_json(value if exact else strict(value), indent))


def strict(value: Any) -> Any:
    """Return the value with texts in place of NaN and the infinities, as protobuf writes them in JSON."""
    if isinstance(value, float):
        return value if math.isfinite(value) else "NaN" if math.isnan(value) else f"{'-' * (value < 0)}Infinity"
    if isinstance(value, dict):
        return {name: strict(member) for name, member in value.items()}
    if isinstance(value, (list, tuple)):
        return [strict(member) for member in value]
    return value


def report(sentence: str, fields: dict[str, Any], *, as_json: bool) -> None:
    """Print the result of a command that has done something."""
    if as_json:
        tell_json(fields)
    else:
        tell(sentence)


def print_table(summaries: Sequence[FlowStateSummary], *, due: bool = False) -> None:
    """Print a line for each flow state; if `due`, with the moment from which a driver should look at it."""
    print_rows(table_of(summaries, due=due))


def print_rows(table: Table) -> None:
    """Print a table: as wide as the terminal, or as wide as it needs to be if the output is not a terminal."""
    console = Console(width=None if is_terminal(sys.stdout) else _UNBOUNDED, highlight=False)
    with console.capture() as capture:  # rich would end the process if nobody reads the output
        console.print(table)
    for line in capture.get().splitlines():
        tell(line.rstrip())


def table_of(summaries: Sequence[FlowStateSummary], *, due: bool = False) -> Table:
    """Return the table that `print_table` prints; if the terminal is narrow, without the sizes."""
    narrow = is_terminal(sys.stdout) and Console().width < _NARROW
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("id", "name", "status", f"started ({zone()})", "written", "steps", "bytes", "about"):
        if heading != "bytes" or not narrow:
            table.add_column(
                heading,
                justify="right" if heading in ("steps", "bytes") else "left",
                overflow="fold",
                no_wrap=heading not in ("id", "name", "about"),
            )
    for summary in summaries:
        size = f"{summary.size_bytes:,}" if summary.size_bytes else ""
        table.add_row(
            Text(_beginning(summary.id)),
            Text(_beginning(summary.name or "")),
            summary.status,
            when(summary.start_time),
            _lately(summary.updated_at),
            f"{summary.step_count:,}",
            *([] if narrow else [size]),
            Text(shown(_about(summary, due=due))),
        )
    return table


def _beginning(name: str) -> str:
    """Return the name, or the beginning of one that is very long; ``--json`` has it whole."""
    return shown(name if len(name) <= _MOST_OF_A_NAME else f"{name[:_MOST_OF_A_NAME]}…")


def _about(summary: FlowStateSummary, *, due: bool) -> str:
    about = summary.error_line or ""
    if summary.status == "blocked":
        about = f"waits for {summary.blocked_on}"
        until = summary.extra.get("wakeAt")
        if isinstance(until, (int, float)) and not due:
            about = f"{about} until {when(until)}"
    if due:
        about = ", ".join(filter(None, [f"due {when(summary.extra['wakeAt'])}", about]))
    return about


def shown(text: str) -> str:
    """Return text as a terminal may show it: what moves the cursor or colours is escaped."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def when(moment: datetime | float) -> str:
    """Return a moment, or milliseconds since the epoch, in local time, with its zone if that is not `zone`.

    A number beyond the years that `datetime` can hold stays a number, of a very long one its beginning.
    """
    try:
        if not isinstance(moment, datetime):
            moment = datetime.fromtimestamp(moment / 1000, timezone.utc)
        local = moment.astimezone()
    except (ValueError, OverflowError, OSError):
        number = f"{moment}"
        return number if len(number) <= _LONGEST_NUMBER else f"{number[:_LONGEST_NUMBER]}…"
    other = "" if local.tzname() == zone() else f" {local.tzname()}"
    return f"{local:%Y-%m-%d %H:%M:%S}{other}"


def _lately(moment: datetime) -> str:
    """Return the local time of day if the moment is of today, else its date: a terminal is narrow."""
    local, today = moment.astimezone(), datetime.now(timezone.utc).astimezone().date()
    return f"{local:%H:%M:%S}" if local.date() == today else f"{local:%Y-%m-%d}"


def zone() -> str:
    """Return the name of the time zone of this machine, as it is now: summer time has another one."""
    return datetime.now(timezone.utc).astimezone().tzname() or "local time"


def counted(number: int, what: str = "flow state") -> str:
    """Return a number of things in words, as ``1 flow state`` or ``2 flow states``."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def collection_of(settings: FlowStateSettings) -> str:
    """Return in words which collection the settings name, in which database."""
    emulator = f" on the emulator {settings.emulator_host}" if settings.emulator_host else ""
    database = "" if settings.database == "(default)" else f", database {settings.database}"
    return f"{settings.collection} in {settings.project or 'the default project'}{database}{emulator}"


@contextmanager
def progress_bar(what: str, total: int | None = None, *, in_bytes: bool = False) -> Iterator[Callable[[int], None]]:
    """Show a progress bar, if standard error is a terminal; yield the function that is told how many are done."""
    if not is_terminal(sys.stderr):  # rich before 14.3 ends a bar that it does not show by an empty line
        yield lambda done: None
        return
    amount = DownloadColumn() if in_bytes else MofNCompleteColumn()
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        amount,
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=is_terminal(sys.stdout),  # a result goes above the bar, unless it was sent elsewhere
    ) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.update(task, completed=done)


async def about(store: FirestoreFlowStateStore, query: FlowStateQuery | None = None) -> int | None:
    """Return how many flow states there are, for a progress bar; None: no bar is shown, or they cannot be counted."""
    if not is_terminal(sys.stderr):
        return None
    try:
        return await store.count(query)
    except BackendError:
        return None


def is_terminal(stream: TextIO | None) -> bool:
    """Return whether a standard stream is a terminal. Python has None for a stream that was closed, as by ``>&-``."""
    return stream is not None and stream.isatty()


def _print(text: str, file: TextIO | None) -> None:
    if file is None:
        return
    encoding = file.encoding or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding), file=file)


def _json(value: object, indent: int | None) -> str:
    """Return JSON that standard output can print: ASCII alone if its encoding lacks one of the characters."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    try:
        text.encode("utf-8" if sys.stdout is None else sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(value, indent=indent)
    return text
