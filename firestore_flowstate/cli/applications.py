"""The flows of an application, named as MODULE:NAME: loading them, and opening and closing their store."""

from __future__ import annotations

import importlib
import os
import re
import sys
import sysconfig
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import click

from ..firestore import FirestoreFlowStateStore
from ..flows import Dispatcher, Flow, Flows
from ..settings import FlowStateSettings
from .connecting import look_for_server, opened
from .options import FLOWS_VARIABLE, MisusedError, given_settings, gives_store, warn_of_misspelt_variables

_SEPARATOR: Final = ":"


def flows_named(text: str) -> Flows:
    """Return the Flows that MODULE:NAME names.

    Raises:
        MisusedError: The name is of something else, or of nothing.
    """
    found = _named(text)
    if not isinstance(found, Flows):
        raise MisusedError(f"{text} is {_a(found)}, not a Flows")
    return found


def flow_named(text: str) -> Flow[Any, Any]:
    """Return the flow that MODULE:NAME names.

    Raises:
        MisusedError: The name is of something else, or of nothing.
    """
    found = _named(text)
    if not isinstance(found, Flow):
        raise MisusedError(f"{text} is {_a(found)}, not a flow: name a function that `flows.flow` decorates")
    return found


class Notes(Dispatcher):
    """A dispatcher that notes whether it was called, and passes the call on to the dispatcher of the application.

    Args:
        dispatcher: The dispatcher of the application; None: there is none, and the run is left to a sweep or a worker.

    Attributes:
        asked: Whether a run was to be dispatched.
    """

    def __init__(self, dispatcher: Dispatcher | None) -> None:
        self.dispatcher = dispatcher
        self.asked = False

    async def dispatch(self, id: str, *, wake: str, at: datetime | None = None) -> None:
        """Note the call, and pass it on."""
        self.asked = True
        if self.dispatcher is not None:
            await self.dispatcher.dispatch(id, wake=wake, at=at)

    async def close(self) -> None:
        """Close the dispatcher of the application."""
        if self.dispatcher is not None:
            await self.dispatcher.close()


def application_settings(application: Flows | None) -> FlowStateSettings | None:
    """Return the settings of the store to open; None: the application has its own store.

    Raises:
        MisusedError: The settings are wrong, or are given although the application has a store.
    """
    if application is None:
        return given_settings()
    if gives_store():
        raise MisusedError(
            "--flows uses the store of the application: leave out the options that name a project, a collection or "
            "another setting of a store"
        )
    return None


@asynccontextmanager
async def flows_over(
    application: Flows | None, settings: FlowStateSettings | None
) -> AsyncIterator[tuple[Flows, Notes]]:
    """Give Flows that drive no runs in this process, and close their store at the end.

    Args:
        application: The flows of the application, whose store, dispatcher and lease are used; None: there is no
            application.
        settings: The settings of the store if there is no application.
    """
    notes = Notes(application.dispatcher if application is not None else None)
    if application is None:
        assert settings is not None  # noqa: S101  # settings are given if no application is
        async with opened(settings) as store:
            yield Flows(store, dispatcher=notes), notes
        return
    try:
        await look_for_store(application)
        lease = timedelta(milliseconds=application._engine.lease)
        yield Flows(application.store, dispatcher=notes, lease=lease), notes
    finally:
        await notes.close()
        await close_store(application)


async def look_for_store(application: Flows) -> None:
    """Return if the server of the application's store can be reached; see `look_for_server`.

    Raises:
        StoreUnavailableError: Nothing listens at the address that the settings of the store name.
    """
    if isinstance(application.store, FirestoreFlowStateStore):
        await look_for_server(application.store.settings)


async def close_store(application: Flows) -> None:
    """Close the application's store, if it is one that can be closed."""
    close = getattr(application.store, "close", None)
    if close is not None:
        await close()


def _named(text: str) -> object:
    module, separator, name = text.partition(_SEPARATOR)
    if not (module and separator and name):
        raise MisusedError(f"{text!r} is not MODULE:NAME, such as shop.app:flows")
    if "/" in module or "\\" in module or module.endswith(".py"):
        meant = ".".join(re.split(r"[/\\]", module.removesuffix(".py"))).lstrip(".")
        raise MisusedError(f"{module} is the path of a file: name the module, as in {meant}:{name}")
    if not all(part.isidentifier() for part in (*module.split("."), *name.split("."))):
        raise MisusedError(f"{text!r} is not MODULE:NAME, such as shop.app:flows")
    warn_of_misspelt_variables()  # the application's own store does not read them either
    if "" not in sys.path:  # as python -m has it: the application lies in the current directory
        sys.path.insert(0, "")
    try:
        found: object = importlib.import_module(module)
    except (Exception, SystemExit) as error:
        # The text of a SyntaxError has its line too, and of its file the name alone.
        reason = error.msg if isinstance(error, SyntaxError) else error
        raise MisusedError(
            f"the module {module} cannot be imported: {type(error).__name__}: {reason}{_place(error)}"
        ) from error
    for part in name.split("."):
        if not hasattr(found, part):
            raise MisusedError(f"the module {module} has no {name}")
        found = getattr(found, part)
    return found


def _place(error: BaseException) -> str:
    """Return the last line of the application at which an import failed, though a library may have raised the error."""
    if isinstance(error, SyntaxError) and error.filename:
        return f" ({_shortest(error.filename)}:{error.lineno})"
    libraries = tuple(f"{path}{os.sep}" for path in {*sysconfig.get_paths().values(), str(Path(__file__).parents[1])})
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<")]
    own = [frame for frame in frames if not frame.filename.startswith(libraries)]
    return f" ({_shortest(own[-1].filename)}:{own[-1].lineno})" if own else ""


def _shortest(file: str) -> str:
    return min(file, os.path.relpath(file), key=len)


def _a(found: object) -> str:
    name = type(found).__name__
    return f"an {name}" if name[0] in "aeiouAEIOU" else f"a {name}"


def flows_option(command: Any) -> Any:
    """Add the option that names the flows of an application."""
    option = click.option(
        "--flows",
        "application",
        metavar="MODULE:FLOWS",
        envvar=FLOWS_VARIABLE,
        callback=lambda ctx, param, value: None if value is None else flows_named(value),
        help="Use the store, the dispatcher and the lease of this application.  [FLOWSTATE_FLOWS]",
    )
    return option(command)
