"""The type of what `Flows.flow` returns if it is given options: a decorator."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar, overload

from .flow import Flow
from .run import Run

Input = TypeVar("Input")
Result = TypeVar("Result")


class FlowDecorator(Protocol):
    """The decorator that `Flows.flow` returns if it is given options, such as ``@flows.flow(name="publish")``."""

    @overload
    def __call__(self, function: Callable[[Run, Input], Awaitable[Result]], /) -> Flow[Input, Result]: ...
    @overload
    def __call__(self, function: Callable[[Run], Awaitable[Result]], /) -> Flow[None, Result]: ...
    def __call__(self, function: Callable[..., Awaitable[Any]], /) -> Flow[Any, Any]:
        """Make a flow of an async function."""
        ...
