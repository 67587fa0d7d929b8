"""The types that functions are annotated with, as values are read: names are found, and awaitables are awaited."""

from __future__ import annotations

import asyncio
import functools
import inspect
import sys
import typing
from collections.abc import Awaitable, Callable, Coroutine
from types import FunctionType, GenericAlias, MethodType, SimpleNamespace, UnionType
from typing import Any, Final, ForwardRef, Literal, NoReturn, TypeVar, Union, get_args, get_origin

from typing_extensions import Never, Self

_NEVER: Final = (NoReturn, Never, getattr(typing, "Never", Never))
_SELF: Final = (Self, getattr(typing, "Self", Self))
_AWAITED: Final = (Awaitable, Coroutine, asyncio.Future, asyncio.Task)


def plain_function(function: Callable[..., Any]) -> Any:
    """Return the function behind partials, bound methods and callable objects."""
    if type(function) is MethodType:
        function = function.__func__
    if type(function) is FunctionType:  # as nearly always
        return function
    function = _whole(function)
    function = getattr(function, "__func__", function)
    if isinstance(function, type) or inspect.isfunction(function) or inspect.isbuiltin(function):
        return function
    return getattr(type(function), "__call__", function)  # noqa: B004  # the method, to read its annotations


def is_async(function: Callable[..., Any]) -> bool:
    """Return whether a call of the function gives a coroutine at once."""
    function = _whole(function)
    if isinstance(function, type):  # a call of a class makes an object, whatever a call of that object does
        return False
    return inspect.iscoroutinefunction(function) or (
        not inspect.isfunction(function) and inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004  # the method itself is asked
    )


def _whole(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function whose arguments partials have filled in."""
    while isinstance(function, functools.partial):
        function = function.func
    return function


def parameter_type(function: Callable[..., Any], name: str) -> Any:
    """Return the annotated type of a parameter; `Any` if it has none."""
    return own_class(_annotation(plain_function(function), name), function)


def return_type(function: Callable[..., Any]) -> Any:
    """Return the type that the function, or what it returns to be awaited, is annotated to return, with `Self` in it.

    `Any`: there is no annotation, or the function is not to return.
    """
    annotation = _annotation(plain_function(function), "return")
    if not is_async(function):
        if annotation in _AWAITED:
            return Any
        if get_origin(annotation) in _AWAITED:
            annotation = (get_args(annotation) or (Any,))[-1]
    return Any if annotation in _NEVER else annotation


def own_class(annotation: Any, function: Callable[..., Any]) -> Any:
    """Return the annotation with the class that the function is bound to for `Self`; `Any` if that is not known."""
    if not _has(annotation, _is_self):
        return annotation
    owner = getattr(_whole(function), "__self__", None)
    known = Any if owner is None else owner if isinstance(owner, type) else type(owner)
    return _replaced(annotation, lambda part: known if _is_self(part) else part)


def _annotation(function: Any, name: str) -> Any:
    annotations = getattr(function, "__annotations__", None) or {}
    annotation = annotations.get(name, Any)
    if annotation is None:
        return type(None)
    if _has(annotation, _is_text):
        annotation = _found(function, name, annotation)
    if _has(annotation, _is_bound_to_text):
        annotation = _replaced(annotation, _bound)
    return annotation


def _found(function: Any, name: str, annotation: Any) -> Any:
    """Return the annotation with what its texts name.

    Raises:
        TypeError: It is not found.
    """
    function = _annotated(function, name, annotation)
    try:
        names = _closure(function)
        return typing.get_type_hints(
            _Only(function, name), getattr(function, "__globals__", {}), names, include_extras=True
        )[name]
    except (NameError, AttributeError) as error:
        raise TypeError(
            f"{getattr(function, '__qualname__', function)}: the annotation {annotation!r} cannot be found when the "
            f"flow runs ({error}). Import it outside of TYPE_CHECKING, or give the type by options(result=...)."
        ) from error


def _is_text(part: Any) -> bool:
    return isinstance(part, (str, ForwardRef))


def _is_self(part: Any) -> bool:
    return part in _SELF


def _is_bound_to_text(part: Any) -> bool:
    return isinstance(part, TypeVar) and _is_text(part.__bound__)


def _bound(part: Any) -> Any:
    """Return what a type variable is bound to by text, as in ``TypeVar("T", bound="Item")``; else the part itself."""
    if not _is_bound_to_text(part):
        return part
    holder = SimpleNamespace(__annotations__={"bound": part.__bound__})
    try:
        names = vars(sys.modules[part.__module__])
        return typing.get_type_hints(holder, names, include_extras=True)["bound"]
    except (KeyError, NameError, AttributeError) as error:
        raise TypeError(f"{part!r} is bound to {part.__bound__!r}, which cannot be found when the flow runs") from error


def _has(annotation: Any, what: Callable[[Any], bool]) -> bool:
    """Return whether a part of the annotation is that. The texts of a Literal are values."""
    if get_origin(annotation) is Literal:
        return False
    inside = getattr(annotation, "__args__", ())
    return what(annotation) or (isinstance(inside, tuple) and any(_has(part, what) for part in inside))


def _replaced(annotation: Any, swap: Callable[[Any], Any]) -> Any:
    """Return the annotation with each of its parts swapped."""
    inside, origin = getattr(annotation, "__args__", ()), get_origin(annotation)
    if origin is None or origin is Literal or not isinstance(inside, tuple):
        return swap(annotation)
    parts = tuple(_replaced(part, swap) for part in inside)
    if parts == inside:
        return annotation
    if origin in (Union, UnionType):
        return Union[parts]  # noqa: UP007  # of as many as there are
    if isinstance(annotation, GenericAlias):
        return GenericAlias(origin, parts)
    return annotation.copy_with(parts)  # what the aliases of typing have, Annotated too


def _annotated(function: Any, name: str, annotation: Any) -> Any:
    """Return the function that the annotation was written at: `functools.wraps` copies it to one of another module."""
    while getattr(inner := getattr(function, "__wrapped__", None), "__annotations__", {}).get(name) == annotation:
        function = inner
    return function


class _Only:
    """What has one annotation of a function, so that the others need not be found."""

    def __init__(self, function: Any, name: str) -> None:
        annotation = function.__annotations__[name]
        if not isinstance(annotation, str):  # Python 3.10 finds no name in list["Item"], whose text is plain
            annotation = _replaced(annotation, lambda part: ForwardRef(part) if isinstance(part, str) else part)
        self.__annotations__ = {name: annotation}


def _closure(function: Any) -> dict[str, Any]:
    names: dict[str, Any] = {}
    code, cells = getattr(function, "__code__", None), getattr(function, "__closure__", None)
    if code is None or not cells:
        return names
    for name, cell in zip(code.co_freevars, cells, strict=False):
        try:
            names[name] = cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    return names
