"""A durable flow: an async function, its name, and the types of its input and result."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from firestore_flowstate import UNSET, FlowStateEncodeError, Unset
from firestore_flowstate.errors import shown

from .annotations import is_async, parameter_type
from .errors import InvalidPayloadError
from .json_round_trip import Values, fit_error

Input = TypeVar("Input", contravariant=True)  # the public names have no suffix
Result = TypeVar("Result", covariant=True)  # as above


class Flow(Generic[Input, Result]):
    """A durable flow: what `Flows.flow` makes of an async function ``(run, input)`` or ``(run)``.

    Attributes:
        name: The name that the runs of the flow are stored with.
        function: The function that was decorated.
        timeout: How long a run may take in all, in milliseconds; None: as long as it likes.
        home: The `Flows` that the flow belongs to.
    """

    def __init__(self, function: Callable[..., Awaitable[Result]], *, name: str, timeout: int | None) -> None:
        if not is_async(function):
            raise TypeError(f"the flow {shown(name)} is not an async function: write `async def`")
        self.name = name
        self.function = function
        self.timeout = timeout
        self.home: Any = None
        self._input = _input_parameter(function, name)
        self.__doc__ = function.__doc__
        self.__module__ = function.__module__

    def __repr__(self) -> str:
        return f"Flow({self.name!r})"

    @property
    def takes_input(self) -> bool:
        """Whether the function has a second parameter."""
        return self._input is not None

    def call(self, run: Any, input: Any) -> Coroutine[Any, Any, Result]:
        """Call the function with the validated input, if it takes one."""
        coroutine: Any = self.function(run, input) if self.takes_input else self.function(run)
        return coroutine  # type: ignore[no-any-return]  # it is an async function

    def dump_input(self, input: Any | Unset, values: Values) -> Any | Unset:
        """Return the input in its JSON form, if it fits what the function takes; without one the function's default.

        UNSET: there is none, or the default is not of the parameter's type, and so is not stored.

        Raises:
            InvalidPayloadError: The input does not fit.
            FlowStateEncodeError: The input has no JSON form.
        """
        if self._input is None:
            if not isinstance(input, Unset) and input is not None:
                raise InvalidPayloadError(f"the flow {self.name!r} takes no input")
            return UNSET
        if isinstance(input, Unset):
            if self._input.default is inspect.Parameter.empty:
                raise InvalidPayloadError(f"the flow {self.name!r} needs an input, {self._input.name}")
            return self._dump_default(values)
        kind = parameter_type(self.function, self._input.name)
        try:
            form = values.dump(input, kind, f"the input of the flow {self.name!r}")
            values.read(form, kind)
        except ValidationError as error:
            raise InvalidPayloadError(self._unfit(error)) from error
        return form

    def read_input(self, form: Any, values: Values, *, is_there: bool, id: str) -> Any:
        """Return the stored input as the function takes it.

        Args:
            form: The input in its JSON form.
            values: What reads it.
            is_there: Whether the state has an input; if not, a copy of the function's default is the input.
            id: The id of the run.

        Raises:
            InvalidPayloadError: The stored input does not fit.
        """
        if self._input is None:
            return None
        if not is_there and self._input.default is not inspect.Parameter.empty:
            return _copied(self._input.default)
        try:
            return values.read(form, parameter_type(self.function, self._input.name))
        except ValidationError as error:
            raise InvalidPayloadError(self._unfit(error), flow_id=id) from error

    def prepare(self, values: Values) -> None:
        """Build pydantic's adapter of the result's type before the function is called.

        To build one can take longer than the 10 ms in which the last result is to be committed with the end.
        """
        values.check_type(values.returned_by(self.function), f"the result of the flow {self.name!r}")

    def dump_result(self, result: Any, values: Values) -> Any:
        """Return the result in its JSON form, if it fits what the function is annotated to return.

        Raises:
            FlowStateEncodeError: The result has no JSON form, or does not fit.
        """
        kind, what = values.returned_by(self.function), f"the result of the flow {self.name!r}"
        form = values.dump(result, kind, what)
        try:
            values.read(form, kind)
        except ValidationError as error:
            raise FlowStateEncodeError(f"Cannot store {what}: {fit_error(error)}", path="operation") from error
        return form

    def _dump_default(self, values: Values) -> Any | Unset:
        """Return the JSON form of the default, which a replay and a retry see, whatever the code has as one by then."""
        assert self._input is not None  # noqa: S101  # there is a default
        try:
            kind = parameter_type(self.function, self._input.name)
            form = values.dump(self._input.default, kind, f"the default of the input of the flow {self.name!r}")
            values.read(form, kind)
        except Exception:  # noqa: BLE001  # a default needs not fit, and a validator of the application may raise anything
            return UNSET
        return form

    def _unfit(self, error: ValidationError) -> str:
        return f"the input does not fit the flow {self.name!r}: {fit_error(error)}"


def own_name(function: Any) -> str:
    """Return the name of an async function, for the flow that it becomes.

    Raises:
        TypeError: What is given cannot be called, or is a callable object without a name.
    """
    if not callable(function):
        raise TypeError(f"a flow is made of an async function, not of {shown(function)}")
    name = getattr(function, "__name__", None)
    if not isinstance(name, str):
        raise TypeError(f"{shown(function)} has no name of its own: give it one by flow(name=...)")
    return name


def _copied(default: Any) -> Any:
    """Return a copy, so that no drive changes the default of the next one; the default itself if it has none."""
    try:
        return copy.deepcopy(default)
    except Exception:  # noqa: BLE001  # whatever a class of the application raises
        return default


def _input_parameter(function: Callable[..., Any], name: str) -> inspect.Parameter | None:
    parameters = list(inspect.signature(function).parameters.values())
    positional = [each for each in parameters if each.kind not in (each.VAR_KEYWORD, each.KEYWORD_ONLY)]
    if not positional:
        raise TypeError(f"the flow {name!r} takes a Run first: async def {name}(run: Run, ...)")
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    required = [each for each in parameters if each.default is each.empty and each.kind not in variadic]
    for each in required:
        if each.kind is each.KEYWORD_ONLY:
            raise TypeError(
                f"the flow {name!r} is called with a Run and its input, both by position, and so never gets "
                f"{each.name}: async def {name}(run: Run, {each.name}), without the *"
            )
    if len(required) > 2:
        raise TypeError(f"the flow {name!r} takes a Run and one input, no more: put the rest into a model")
    return positional[1] if len(positional) > 1 else None
