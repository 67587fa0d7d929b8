"""What a run is to start with, checked before anything is written."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from firestore_flowstate import UNSET, Unset
from firestore_flowstate.errors import shown

from .arguments import check_home, check_id
from .engine import Engine
from .errors import UnknownFlowError
from .flow import Flow
from .starting import Start
from .step_options import milliseconds


def prepared(
    engine: Engine,
    flow: Flow[Any, Any] | str,
    input: Any,
    *,
    id: str | None = None,
    delay: timedelta | None = None,
    extra: Mapping[str, Any] | None = None,
    expire_after: timedelta | Unset | None = UNSET,
    here: bool = False,
) -> Start:
    """Return what the run starts with; its parameters are those of `Flows.start`.

    Args:
        engine: What all drives share.
        flow: The flow, or its name.
        input: The input.
        id: The id.
        delay: The delay.
        extra: The scalars.
        expire_after: How long the state is kept after the end.
        here: Whether this process is to drive the run, also if there is a dispatcher.

    Raises:
        TypeError: What is given is neither a flow nor the name of one.
        InvalidFlowIdError: The id is not text.
        InvalidPayloadError: The input does not fit.
        UnknownFlowError: This process does not know the flow, and is to drive the run; or the flow is of another
            `Flows`.
    """
    if not isinstance(flow, (Flow, str)):
        raise TypeError(f"{shown(flow)} is not a flow: decorate the async function with @flows.flow, or give a name")
    if id is not None:
        check_id(id)
    name = flow if isinstance(flow, str) else flow.name
    known = engine.flows.get(name)
    if not isinstance(flow, str):
        check_home(flow, known, "start it by the Flows")
    if known is None and engine.drives_here is not None:
        raise UnknownFlowError(
            f"this process does not know the flow {name!r}, and without a dispatcher no other process drives the run: "
            "import the module that defines the flow, or give Flows a dispatcher",
            name=name,
        )
    if known is None and here:
        raise UnknownFlowError(
            f"this process does not know the flow {name!r}, which it is to drive: import the module that defines the "
            "flow, or start it and await the result",
            name=name,
        )
    if known is not None:
        form = known.dump_input(input, engine.values)
    else:
        form = input if isinstance(input, Unset) else engine.values.dump(input, Any, f"the input of the flow {name!r}")
    about = {} if id is None else {"id": id}
    return Start(
        name,
        form,
        flow=known,
        delay=0 if delay is None else milliseconds(delay, "delay"),
        extra=extra or {},
        expire_after=expire_after,
        **about,
    )
