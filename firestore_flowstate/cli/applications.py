"""Flows of an application, named as MODULE:NAME, and what a command needs of them."""

from __future__ import annotations

import importlib
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
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
        MisusedError: It names none.
    """
    found = _named(text)
    if not isinstance(found, Flows):
        raise MisusedError(f"{text} is {_a(found)}, not a Flows")
    return found


def flow_named(text: str) -> Flow[Any, Any]:
    """Return the flow that MODULE:NAME names.

    Raises:
        MisusedError: It names none.
    """
    found = _named(text)
    if not isinstance(found, Flow):
        raise MisusedError(f"{text} is {_a(found)}, not a flow: name a function that `flows.flow` decorates")
    return found


class Notes(Dispatcher):
    """Passes on to the dispatcher of the application, if there is one, and notes what was asked.

    Args:
        dispatcher: The application's; None: nothing has runs driven now.

    Attributes:
        asked: A run was to be driven.
    """

    def __init__(self, dispatcher: Dispatcher | None) -> None:
        self.dispatcher = dispatcher
        self.asked = False

    async def dispatch(self, id: str, *, wake: str, at: datetime | None = None) -> None:
        """Note it, and pass it on."""
        self.asked = True
        if self.dispatcher is not None:
            await self.dispatcher.dispatch(id, wake=wake, at=at)

    async def close(self) -> None:
        """Release what the application's dispatcher holds."""
        if self.dispatcher is not None:
            await self.dispatcher.close()


def application_settings(application: Flows | None) -> FlowStateSettings | None:
    """Return the settings of the store to open; None: the application has its own store.

    Raises:
        MisusedError: They are wrong, or are given although the application has a store.
    """
    if application is None:
        return given_settings()
    if gives_store():
        raise MisusedError("--flows goes with no option that says where the flow states are: the application does")
    return None


@asynccontextmanager
async def flows_over(
    application: Flows | None, settings: FlowStateSettings | None
) -> AsyncIterator[tuple[Flows, Notes]]:
    """Give flows that drive nothing here, over the application's store or one with the settings; close it."""
    notes = Notes(application.dispatcher if application is not None else None)
    if application is None:
        assert settings is not None  # noqa: S101  # one of the two says where the flow states are
        async with opened(settings) as store:
            yield Flows(store, dispatcher=notes), notes
        return
    try:
        await look_for_store(application)
        yield Flows(application.store, dispatcher=notes), notes
    finally:
        await notes.close()
        await close_store(application)


async def look_for_store(application: Flows) -> None:
    """Return if the server of the application's store can be reached, as far as that can be told at once.

    Raises:
        StoreUnavailableError: Nothing listens where its settings lead to.
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
    warn_of_misspelt_variables()  # which the application's own store does not read either
    if "" not in sys.path:  # as python -m has it: the application lies where the command is run
        sys.path.insert(0, "")
    try:
        found: object = importlib.import_module(module)
    except Exception as error:
        raise MisusedError(f"the module {module} cannot be imported: {type(error).__name__}: {error}") from error
    for part in name.split("."):
        if not hasattr(found, part):
            raise MisusedError(f"the module {module} has no {name}")
        found = getattr(found, part)
    return found


def _a(found: object) -> str:
    return f"a {type(found).__name__}"


def flows_option(command: Any) -> Any:
    """Add the option that names the flows of an application."""
    option = click.option(
        "--flows",
        "application",
        metavar="MODULE:FLOWS",
        envvar=FLOWS_VARIABLE,
        callback=lambda ctx, param, value: None if value is None else flows_named(value),
        help="Use the store and the dispatcher of this application.  [FLOWSTATE_FLOWS]",
    )
    return option(command)
