"""What `Flows` is given, refused at once if it cannot be right: else the first run would tell, or the first outage."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

from firestore_flowstate import SyncFlowStateStore
from firestore_flowstate.errors import shown

from .flow import Flow
from .retry import Retry

_ASKED_OF_A_STORE = ("create", "load", "update", "due")


def check_store(store: Any) -> None:
    """Refuse what is not a store of flow states, or one that lets runs expire that wait.

    Raises:
        TypeError: It is not a store that can be awaited.
        ValueError: It lets states expire that have not ended.
    """
    if isinstance(store, SyncFlowStateStore):
        raise TypeError("store is one that can be awaited: give the store that SyncFlowStateStore wraps")
    if isinstance(store, type) or not all(callable(getattr(store, name, None)) for name in _ASKED_OF_A_STORE):
        raise TypeError(f"store is a VersionedFlowStateStore, such as FirestoreFlowStateStore(), not {shown(store)}")
    if getattr(getattr(store, "settings", None), "expire_when", None) == "always":
        raise ValueError('the store has expire_when="always", so that a run which waits would expire: use "finished"')


def check_dispatcher(dispatcher: Any) -> None:
    """Refuse what is neither a dispatcher nor None.

    Raises:
        TypeError: It is not.
    """
    if dispatcher is not None and (isinstance(dispatcher, type) or not callable(getattr(dispatcher, "dispatch", None))):
        raise TypeError(f"dispatcher is a Dispatcher, such as CloudTasks(...), or None, not {shown(dispatcher)}")


def check_retry(retry: Any) -> None:
    """Refuse what is neither a Retry nor None.

    Raises:
        TypeError: It is not.
    """
    if retry is not None and not isinstance(retry, Retry):
        raise TypeError(f"retry is a Retry, such as Retry(3), or None, not {shown(retry)}")


def check_text(text: Any, name: str) -> None:
    """Refuse what is neither a text that can be stored nor None.

    Raises:
        TypeError: It is not text.
        ValueError: It is empty, or has half of a character.
    """
    if text is None:
        return
    if not isinstance(text, str):
        raise TypeError(f"{name} is a text or None, not {shown(text)}")
    if not text or any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError(f"{name} is a text that is not empty and can be written as UTF-8, not {shown(text)}")


def check_named(text: Any, name: str) -> None:
    """Refuse what is not text: most often the None of a variable of the environment that is not set.

    Raises:
        TypeError: It is not.
    """
    if not isinstance(text, str):
        raise TypeError(f"{name} is a text, not {shown(text)}")


def check_count(count: Any, name: str, *, least: int) -> None:
    """Refuse what is not a whole number of at least so many.

    Raises:
        TypeError: It is not a whole number.
        ValueError: It is less.
    """
    if isinstance(count, bool) or not isinstance(count, int):
        raise TypeError(f"{name} is a whole number, not {shown(count)}")
    if count < least:
        raise ValueError(f"{name} is at least {least}, not {shown(count)}")


def check_flow(flow: Any) -> None:
    """Refuse what is not a flow: most often a function that was not decorated.

    Raises:
        TypeError: It is not.
    """
    if not isinstance(flow, Flow):
        raise TypeError(f"{shown(flow)} is not a flow: give what their `flow` makes of an async function")


def check_verify(verify: Any) -> None:
    """Refuse what cannot say whether a request may call.

    Raises:
        TypeError: It is neither callable nor None.
    """
    if verify is not None and not callable(verify):
        raise TypeError(f"verify is an Oidc, a function of the request, or None, not {shown(verify)}")


def check_function(function: Any, name: Any) -> None:
    """Refuse what a step cannot call: most often what calling the function gives.

    Raises:
        TypeError: It cannot be called.
    """
    if callable(function):
        return
    if inspect.iscoroutine(function):
        function.close()  # else Python warns that nobody awaits it
        raise TypeError(
            f"the step {shown(name)} is given a coroutine, which can run once only: give it the function and its "
            f"arguments, as run.step({shown(name)}, f, x) for f(x)"
        )
    raise TypeError(
        f"the step {shown(name)} is given {shown(function)}, which cannot be called: give it a function and its "
        f"arguments, as run.step({shown(name)}, f, x) for f(x)"
    )


def check_items(items: Any, name: Any) -> list[Any]:
    """Return the items of a map.

    Raises:
        TypeError: They cannot be gone through.
    """
    if not isinstance(items, Iterable):
        raise TypeError(f"the items of the map {shown(name)} cannot be gone through: they are {shown(items)}")
    return list(items)
