"""What every suite of the contracts starts from: a store of one's own, and tests that cannot be switched off."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest

_Result = TypeVar("_Result")


def by_another(call: Coroutine[Any, Any, _Result]) -> asyncio.Future[_Result]:
    """Return the future of a call that is made as by another task, which has nothing to do with the running one."""
    return contextvars.Context().run(asyncio.ensure_future, call)


class Suite:
    """Tests of a store that keep to the protocol; `store` is to be an empty one for each test."""

    @pytest.fixture
    def store(self) -> Any:
        """Return an empty store; to be overridden by the subclass, which may close it afterwards."""
        raise NotImplementedError(f"{type(self).__name__} needs a fixture `store` that returns an empty store")

    def __init_subclass__(cls) -> None:
        for base in cls.__mro__[1:]:
            if overridden := {name for name in vars(base) if name.startswith("test_")} & vars(cls).keys():
                raise TypeError(
                    f"{cls.__name__} overrides {', '.join(sorted(overridden))} of {base.__name__}: the tests of a "
                    "contract hold for every store. Add tests under names of their own."
                )
