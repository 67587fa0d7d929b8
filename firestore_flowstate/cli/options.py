"""Options that commands share, and the settings and the query that they make.

Click does not pass these options to the functions of the commands, which call `given_settings` and `given_query`.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any, Final, TypeAlias, get_args

import click
from pydantic import ValidationError
from pydantic_settings import SettingsError

from ..errors import FlowStateWarning, InvalidQueryError
from ..models import FlowStatus
from ..query import FlowStateQuery
from ..settings import FlowStateSettings, misspelt_variables
from .output import is_terminal
from .parameters import duration, key_value, moment

Command: TypeAlias = Callable[..., Any]


class MisusedError(click.ClickException):
    """The command was given arguments or settings that cannot be. The message says what to give; the exit code is 2."""

    exit_code = 2


FLOWS_VARIABLE: Final = "FLOWSTATE_FLOWS"
"""The variable that names the flows of an application. It is not one of the settings of a store."""
_STORE: Final = "firestore_flowstate.store"
_WARNED: Final = "firestore_flowstate.warned"
_FILTERS: Final = "firestore_flowstate.filters"


def _option(group: str, name: str, help: str, **attributes: Any) -> Callable[[Command], Command]:
    """Return an option whose value click's context keeps under the name of a group, with those of others."""

    def keep(ctx: click.Context, param: click.Parameter, value: Any) -> None:
        if value is not None and value != ():
            ctx.meta.setdefault(group, {})[param.name] = value

    return click.option(name, help=help, expose_value=False, callback=keep, **attributes)


_STORE_OPTIONS: Final = (
    _option(_STORE, "--project", "The project.  [FLOWSTATE_PROJECT, or as Google's libraries find it]", metavar="ID"),
    _option(_STORE, "--database", "The database.  [FLOWSTATE_DATABASE or (default)]", metavar="ID"),
    _option(_STORE, "--collection", "The collection.  [FLOWSTATE_COLLECTION or genkit-flows]", metavar="PATH"),
    _option(
        _STORE, "--shards", "How many shards writes are spread over.  [FLOWSTATE_SHARDS or 1]", type=int, metavar="N"
    ),
    _option(
        _STORE, "--timeout", "Seconds that a call may take.  [FLOWSTATE_TIMEOUT or 30]", type=float, metavar="SECONDS"
    ),
    _option(_STORE, "--emulator-host", "The emulator to use.  [FIRESTORE_EMULATOR_HOST]", metavar="HOST:PORT"),
)
_FILTER_OPTIONS: Final = (
    _option(
        _FILTERS,
        "--status",
        f"Only those with this status: {', '.join(get_args(FlowStatus))}. Repeatable, for any of several.",
        type=click.Choice(get_args(FlowStatus)),
        metavar="STATUS",
        multiple=True,
    ),
    _option(_FILTERS, "--name", "Only flows of this name.", metavar="NAME"),
    _option(_FILTERS, "--blocked-on", "Only those that wait for this step.", metavar="STEP"),
    _option(
        _FILTERS,
        "--started-after",
        "Only those started then or later: 2024-05-31, 2024-05-31T12:00+02:00, or milliseconds since the epoch. A time "
        "without a zone is local.",
        type=moment,
        metavar="TIME",
    ),
    _option(_FILTERS, "--started-before", "Only those started before that time.", type=moment, metavar="TIME"),
    _option(
        _FILTERS,
        "--since",
        "Only those started within this time: 2h, 7d, 1d12h.",
        type=duration,
        metavar="DURATION",
    ),
    _option(
        _FILTERS,
        "--where",
        "Only those with this key beside the state, such as owner=ana; KEY:=JSON for numbers and booleans. Repeatable.",
        type=key_value,
        metavar="KEY=TEXT",
        multiple=True,
    ),
)

as_json_option: Final = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")


def _printing(_: click.Context, __: click.Parameter, is_dry: bool) -> bool:
    if is_dry:
        need_output()
    return is_dry


dry_run_option: Final = click.option(
    "--dry-run", is_flag=True, callback=_printing, help="Change nothing, and print what would be changed."
)
confirmation_option: Final = click.option("--yes", "-y", is_flag=True, help="Do not ask.")


def store_options(command: Command) -> Command:
    """Add the options of a store, such as its project and collection."""
    for option in reversed(_STORE_OPTIONS):
        command = option(command)
    return command


def filter_options(command: Command) -> Command:
    """Add the options that filter flow states."""
    for option in reversed(_FILTER_OPTIONS):
        command = option(command)
    return command


def given_settings(
    changes: Mapping[str, Any] | None = None, *, named: Mapping[str, str] | None = None
) -> FlowStateSettings:
    """Return the settings that the options of the running command and the environment give.

    Args:
        changes: Settings to use in place of those.
        named: By setting, the option that a change comes from, if it is not named like the setting.

    Raises:
        MisusedError: A setting is wrong. The message names its option or variable.
    """
    given = {**click.get_current_context().meta.get(_STORE, {}), **(changes or {})}
    options = {name: f"--{name.replace('_', '-')}" for name in given} | dict(named or {})
    warn_of_misspelt_variables()
    try:
        return FlowStateSettings(**given)
    except ValidationError as error:
        raise MisusedError("; ".join(_wrong(line, options) for line in error.errors(include_input=False))) from None
    except SettingsError as error:  # the value of a variable, which the error names, is not what it should be
        raise MisusedError(str(error)) from None


def gives_store() -> bool:
    """Return whether the running command was given an option of a store."""
    return bool(click.get_current_context().meta.get(_STORE))


def given_query(*, token: str | None = None) -> FlowStateQuery:
    """Return the query that the options of the running command give.

    Raises:
        MisusedError: The filters contradict each other, or one has a value that no query can have.
    """
    given = dict(click.get_current_context().meta.get(_FILTERS, {}))
    where, since = given.pop("where", ()), given.pop("since", None)
    if since is not None:
        if "started_after" in given:
            raise MisusedError("--since and --started-after both give the earliest start: leave one out")
        given["started_after"] = _before_now(since)
    keys = [key for key, _ in where]
    if repeated := [key for key in dict.fromkeys(keys) if keys.count(key) > 1]:
        raise MisusedError(f"--where names {repeated[0]!r} twice, and a key has one value: leave one out")
    try:
        return FlowStateQuery(**given, where=dict(where), continuation_token=token)
    except InvalidQueryError as error:
        raise MisusedError(str(error)) from error


def need_output() -> None:
    """Refuse to run a command that does nothing but print, if what it prints would be lost.

    Raises:
        MisusedError: Standard output is closed, as by ``>&-``.
    """
    if sys.stdout is None:
        raise MisusedError("standard output is closed: the result would be lost")


def _before_now(age: timedelta) -> datetime:
    try:
        return datetime.now(timezone.utc) - age
    except OverflowError:
        return datetime.min.replace(tzinfo=timezone.utc)


def warn_of_misspelt_variables() -> None:
    """Warn of environment variables that look like settings and are not, once in a command."""
    meta = click.get_current_context().meta
    if not meta.setdefault(_WARNED, False):  # `migrate` asks for two settings
        meta[_WARNED] = True
        for name, meant in misspelt_variables().items():
            if name == FLOWS_VARIABLE:
                continue
            meaning = f"; is {meant} meant?" if meant else ""
            warnings.warn(f"{name} is not one of the settings{meaning}", FlowStateWarning, stacklevel=2)


def confirm(question: str, *, yes: bool) -> None:
    """Ask whether to go on, unless `yes`.

    Raises:
        MisusedError: Standard input is not a terminal, so that nobody can be asked.
        click.Abort: The answer is no, or there is none: the input has ended, or it was Ctrl-C.
    """
    if yes:
        return
    if not is_terminal(sys.stdin):
        raise MisusedError(f"{question} Standard input is not a terminal, so that nobody can be asked: give --yes.")
    click.confirm(question, abort=True, err=True)


def _wrong(line: Mapping[str, Any], options: Mapping[str, str]) -> str:
    location = [options.get(str(part), str(part)) for part in line["loc"]]
    return ": ".join(filter(None, [".".join(location), line["msg"].removeprefix("Value error, ")]))
