"""Checks of what `Flows` and `Run` are given: what cannot be right is refused at once.

Otherwise the first run would fail by it, or the first outage.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final

from firestore_flowstate import InvalidFlowIdError, SyncFlowStateStore
from firestore_flowstate._limits import is_utf8
from firestore_flowstate.errors import shown

from .errors import UnknownFlowError
from .flow import Flow
from .retry import Retry

_EMAIL: Final = re.compile(r"[^@\s]+@[^@\s.]+(\.[^@\s.]+)+")
_ASKED_OF_A_STORE = ("create", "load", "update", "due")


def check_store(store: Any) -> None:
    """Refuse what is not a store of flow states, and a store that lets waiting runs expire.

    Raises:
        TypeError: What is given is not a store whose methods can be awaited.
        ValueError: The store lets states expire that have not ended.
    """
    if isinstance(store, SyncFlowStateStore):
        raise TypeError("store is a store whose methods can be awaited: give the one that SyncFlowStateStore wraps")
    if isinstance(store, type) or not all(callable(getattr(store, name, None)) for name in _ASKED_OF_A_STORE):
        raise TypeError(f"store is a VersionedFlowStateStore, such as FirestoreFlowStateStore(), not {shown(store)}")
    if getattr(getattr(store, "settings", None), "expire_when", None) == "always":
        raise ValueError('the store has expire_when="always", so that a run which waits would expire: use "finished"')


def check_dispatcher(dispatcher: Any) -> None:
    """Refuse what is neither a dispatcher nor None.

    Raises:
        TypeError: What is given is neither.
    """
    if dispatcher is not None and (isinstance(dispatcher, type) or not callable(getattr(dispatcher, "dispatch", None))):
        raise TypeError(f"dispatcher is a Dispatcher, such as CloudTasks(...), or None, not {shown(dispatcher)}")


def check_retry(retry: Any) -> None:
    """Refuse what is neither a Retry nor None.

    Raises:
        TypeError: What is given is neither.
    """
    if retry is not None and not isinstance(retry, Retry):
        raise TypeError(f"retry is a Retry, such as Retry(3), or None, not {shown(retry)}")


def check_text(text: Any, name: str) -> None:
    """Refuse what is neither a text that can be stored nor None.

    Raises:
        TypeError: What is given is not text.
        ValueError: The text is empty, or has a lone surrogate, which UTF-8 cannot hold.
    """
    if text is None:
        return
    if not isinstance(text, str):
        raise TypeError(f"{name} is a text or None, not {shown(text)}")
    if not text or not is_utf8(text):
        raise ValueError(f"{name} is a text that is not empty and can be written as UTF-8, not {shown(text)}")


def check_named(text: Any, name: str) -> None:
    """Refuse what is not text: most often the None of an environment variable that is not set.

    Raises:
        TypeError: What is given is not text.
    """
    if not isinstance(text, str):
        raise TypeError(f"{name} is a text, not {shown(text)}")


def check_account(text: str, name: str) -> None:
    """Refuse what is not the email of an account.

    Raises:
        ValueError: The text has another form.
    """
    if not _EMAIL.fullmatch(text):
        raise ValueError(
            f"{name} is the email of the account, such as tasks@my-project.iam.gserviceaccount.com, not {shown(text)}"
        )


def check_id(id: Any) -> None:
    """Refuse what cannot be the id of a run.

    Raises:
        InvalidFlowIdError: It is not text, or empty.
    """
    if not isinstance(id, str):
        raise InvalidFlowIdError(f"A flow id is a string, not {type(id).__name__}: {shown(id, 200)}")
    if not id:
        raise InvalidFlowIdError("The flow id '' is empty.", flow_id=id)


def check_count(count: Any, name: str, *, least: int) -> None:
    """Refuse what is not a whole number of at least `least`.

    Raises:
        TypeError: What is given is not a whole number.
        ValueError: The number is less.
    """
    if isinstance(count, bool) or not isinstance(count, int):
        raise TypeError(f"{name} is a whole number, not {shown(count)}")
    if count < least:
        raise ValueError(f"{name} is at least {least}, not {shown(count)}")


def check_flow(flow: Any) -> None:
    """Refuse what is not a flow: most often a function that was not decorated.

    Raises:
        TypeError: What is given is not a flow.
    """
    if not isinstance(flow, Flow):
        raise TypeError(f"{shown(flow)} is not a flow: decorate the async function with @flows.flow")


def check_flag(flag: Any, name: str) -> None:
    """Refuse what is neither True nor False: most often a text of the environment, of which "no" is true.

    Raises:
        TypeError: What is given is neither.
    """
    if not isinstance(flag, bool):
        raise TypeError(f"{name} is True or False, not {shown(flag)}")


def check_moment(moment: Any, name: str) -> None:
    """Refuse what is not a moment, such as a text or a date.

    Raises:
        TypeError: What is given is not a datetime.
    """
    if not isinstance(moment, datetime):
        raise TypeError(f"{name} is a datetime with its time zone, not {shown(moment)}")


def check_home(flow: Flow[Any, Any], known: Flow[Any, Any] | None, use: str) -> None:
    """Refuse a flow of another `Flows`, whose code these flows do not run.

    Args:
        flow: The flow that is given.
        known: The flow of that name here; None: there is none.
        use: What to do instead, as ``start it by the Flows``.

    Raises:
        UnknownFlowError: The flow is not that one.
    """
    if known is not flow:
        raise UnknownFlowError(
            f"the flow {flow.name!r} belongs to another Flows: {use} whose @flows.flow made it", name=flow.name
        )


def check_verify(verify: Any) -> None:
    """Refuse a `verify` that cannot decide whether a request is let in.

    A class cannot, though it can be called: it makes an object of each request, which is true.

    Raises:
        TypeError: What is given is neither None nor callable, or is a class.
    """
    if verify is not None and (isinstance(verify, type) or not callable(verify)):
        raise TypeError(f"verify is an Oidc, a function of the request, or None, not {shown(verify)}")


def check_function(function: Any, name: Any) -> None:
    """Refuse what a step cannot call: most often the coroutine or result of a function that was called too early.

    Raises:
        TypeError: What is given cannot be called.
    """
    if callable(function):
        return
    if inspect.iscoroutine(function):
        function.close()  # otherwise Python warns that the coroutine was never awaited
        raise TypeError(
            f"the step {shown(name)} is given a coroutine, which can run once only: give it the function and its "
            f"arguments, as run.step({shown(name)}, f, x) for f(x)"
        )
    raise TypeError(
        f"the step {shown(name)} is given {shown(function)}, which cannot be called: give it a function and its "
        f"arguments, as run.step({shown(name)}, f, x) for f(x)"
    )


def check_items(items: Any, name: Any) -> list[Any]:
    """Return the items of a map as a list.

    Raises:
        TypeError: What is given cannot be iterated over.
    """
    if not isinstance(items, Iterable):
        raise TypeError(f"the items of the map {shown(name)} cannot be iterated over: they are {shown(items)}")
    return list(items)
