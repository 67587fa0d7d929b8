"""The base of every suite of the contracts: a fixture for the store, and tests that cannot be switched off."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any, Final, TypeVar

import pytest

from ...store import VersionedFlowStateStore

_Result = TypeVar("_Result")

IN_AN_HOUR: Final = timedelta(hours=1)

MakeStore = Callable[[timedelta], VersionedFlowStateStore]
"""Makes an empty store whose finished states expire so long after their last write."""


def by_another(call: Coroutine[Any, Any, _Result]) -> asyncio.Future[_Result]:
    """Return the future of a call that is made as by another task, without the context of the running one."""
    return contextvars.Context().run(asyncio.ensure_future, call)


class Suite:
    """Tests of a store that use its protocol alone. The fixture `store` is to return an empty store for each test."""

    @pytest.fixture
    def store(self) -> Any:
        """Return an empty store. The subclass overrides this, and may close the store afterwards."""
        raise NotImplementedError(f"{type(self).__name__} needs a fixture `store` that returns an empty store")

    def __init_subclass__(cls) -> None:
        for place, base in enumerate(cls.__mro__):
            tests = {name for name in vars(base) if name.startswith("test_")}
            # Python runs the test of whatever class comes first, be it a mixin or another suite.
            before = cls.__mro__[:place] if issubclass(base, Suite) else (cls,)
            for other in before:
                if other is not base and (overridden := tests & vars(other).keys()):
                    raise TypeError(
                        f"{other.__name__} overrides {', '.join(sorted(overridden))} of {base.__name__}: the tests of "
                        "a contract hold for every store. Add tests under names of their own."
                    )


class ExpiringSuite(Suite):
    """Tests of a store whose finished states expire."""

    @pytest.fixture
    def store_expiring_after(self) -> Any:
        """Return a function that returns an empty store. The subclass overrides this.

        Its argument is how long after their last write finished states expire.
        """
        raise NotImplementedError(f"{type(self).__name__} needs a fixture `store_expiring_after`")

    @pytest.fixture
    def store(self, store_expiring_after: MakeStore) -> VersionedFlowStateStore:
        """Return an empty store whose finished states expire in an hour."""
        return store_expiring_after(IN_AN_HOUR)
