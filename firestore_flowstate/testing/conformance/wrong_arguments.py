"""Arguments that mean nothing are refused at once, by the same error in every store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final, TypeAlias

import pytest

from ...errors import FlowStateBatchError, FlowStateEncodeError, InvalidFlowIdError, InvalidQueryError
from ...models import CacheEntry
from ...store import VersionedFlowStateStore
from ...unset import UNSET
from ..comparison import exactly
from .states import started, with_steps
from .suite import Suite

Call: TypeAlias = Callable[[VersionedFlowStateStore, Any], Awaitable[object]]


async def _entered(store: VersionedFlowStateStore, id: Any = "id", **arguments: Any) -> None:
    async with store.edit(id, **arguments):
        pass


async def _first(states: AsyncIterator[object]) -> None:
    async for _ in states:
        return


NONSENSE: Final[Mapping[str, Any]] = {
    "5": 5,
    "1.5": 1.5,
    "NaN": float("nan"),
    "True": True,
    "bytes": b"id",
    "empty list": [],
    "list of a number": [5],
    "list of a list": [[]],
    "dict": {"id": 1},
    "object": object(),
    "exception": ValueError("id"),
    "type": str,
    "timedelta": timedelta(seconds=0),
    "datetime": datetime(2024, 1, 1),  # noqa: DTZ001  # to be refused as such
}
"""What is of no type that any of the arguments below takes, beside the exceptions in `MEANT`."""

CALLS: Final[Mapping[str, tuple[type[Exception] | tuple[type[Exception], ...], Call]]] = {
    "id of save": (InvalidFlowIdError, lambda store, value: store.save(value, started())),
    "id of create": (InvalidFlowIdError, lambda store, value: store.create(value, started())),
    "id of load": (InvalidFlowIdError, lambda store, value: store.load(value)),
    "id of update": (InvalidFlowIdError, lambda store, value: store.update(value)),
    "id of edit": (InvalidFlowIdError, lambda store, value: _entered(store, value)),
    "id of modify": (InvalidFlowIdError, lambda store, value: store.modify(value, lambda _: None)),
    "id of delete": (InvalidFlowIdError, lambda store, value: store.delete(value)),
    "id of watch": (InvalidFlowIdError, lambda store, value: _first(store.watch(value))),
    "ids of load_many": (
        (TypeError, InvalidFlowIdError, FlowStateBatchError),
        lambda store, value: store.load_many(value),
    ),
    "ids of delete_many": (
        (TypeError, InvalidFlowIdError, FlowStateBatchError),
        lambda store, value: store.delete_many(value),
    ),
    "states of save_many": ((TypeError, FlowStateBatchError), lambda store, value: store.save_many(value)),
    "state of save": (FlowStateEncodeError, lambda store, value: store.save("id", value)),
    "state of create": (FlowStateEncodeError, lambda store, value: store.create("new", value)),
    "if_version of save": (TypeError, lambda store, value: store.save("id", started(), if_version=value)),
    "if_version of update": (TypeError, lambda store, value: store.update("id", if_version=value)),
    "if_version of delete": (TypeError, lambda store, value: store.delete("id", if_version=value)),
    "cache of update": (FlowStateEncodeError, lambda store, value: store.update("id", cache=value)),
    "entry of update": (FlowStateEncodeError, lambda store, value: store.update("id", cache={"step": value})),
    "remove of update": (FlowStateEncodeError, lambda store, value: store.update("id", remove=value)),
    "event of update": (FlowStateEncodeError, lambda store, value: store.update("id", events_triggered=value)),
    "operation of update": (FlowStateEncodeError, lambda store, value: store.update("id", operation=value)),
    "blocked_on_step of update": (FlowStateEncodeError, lambda store, value: store.update("id", blocked_on_step=value)),
    "executions of update": (FlowStateEncodeError, lambda store, value: store.update("id", executions=value)),
    "trace_context of update": (FlowStateEncodeError, lambda store, value: store.update("id", trace_context=value)),
    "extra of update": (FlowStateEncodeError, lambda store, value: store.update("id", extra=value)),
    "expire_after of save": (TypeError, lambda store, value: store.save("id", started(), expire_after=value)),
    "expire_after of create": (TypeError, lambda store, value: store.create("new", started(), expire_after=value)),
    "expire_after of update": (TypeError, lambda store, value: store.update("id", expire_after=value)),
    "expire_after of edit": (TypeError, lambda store, value: _entered(store, expire_after=value)),
    "change of modify": (TypeError, lambda store, value: store.modify("id", value)),
    "attempts of modify": (ValueError, lambda store, value: store.modify("id", lambda _: None, attempts=value)),
    "query of list": (InvalidQueryError, lambda store, value: store.list(value)),
    "query of list_summaries": (InvalidQueryError, lambda store, value: store.list_summaries(value)),
    "query of count": (InvalidQueryError, lambda store, value: store.count(value)),
    "query of iterate": (InvalidQueryError, lambda store, value: _first(store.iterate(value))),
    "query of watch_list": (InvalidQueryError, lambda store, value: _first(store.watch_list(value))),
    "before of due": (InvalidQueryError, lambda store, value: store.due(value)),
    "limit of due": (InvalidQueryError, lambda store, value: store.due(limit=value)),
    "after of due": (InvalidQueryError, lambda store, value: store.due(after=value)),
    "timeout of save": (ValueError, lambda store, value: store.save("id", started(), timeout=value)),
    "timeout of create": (ValueError, lambda store, value: store.create("new", started(), timeout=value)),
    "timeout of load": (ValueError, lambda store, value: store.load("id", timeout=value)),
    "timeout of load_many": (ValueError, lambda store, value: store.load_many(["id"], timeout=value)),
    "timeout of save_many": (ValueError, lambda store, value: store.save_many({"id": started()}, timeout=value)),
    "timeout of delete_many": (ValueError, lambda store, value: store.delete_many(["id"], timeout=value)),
    "timeout of update": (ValueError, lambda store, value: store.update("id", timeout=value)),
    "timeout of edit": (ValueError, lambda store, value: _entered(store, timeout=value)),
    "timeout of modify": (ValueError, lambda store, value: store.modify("id", lambda _: None, timeout=value)),
    "timeout of delete": (ValueError, lambda store, value: store.delete("id", timeout=value)),
    "timeout of list": (ValueError, lambda store, value: store.list(timeout=value)),
    "timeout of list_summaries": (ValueError, lambda store, value: store.list_summaries(timeout=value)),
    "timeout of count": (ValueError, lambda store, value: store.count(timeout=value)),
    "timeout of due": (ValueError, lambda store, value: store.due(timeout=value)),
}
"""Each argument with the error of a value that means nothing there."""

MEANT: Final = {
    "ids of load_many": ("empty list", "dict"),
    "ids of delete_many": ("empty list", "dict"),
    "entry of update": ("dict",),
    "remove of update": ("empty list", "dict"),
    "event of update": ("dict",),
    "executions of update": ("empty list",),
    "extra of update": ("dict",),
    "expire_after of save": ("timedelta",),
    "expire_after of create": ("timedelta",),
    "expire_after of update": ("timedelta",),
    "expire_after of edit": ("timedelta",),
    "change of modify": ("type",),
    "attempts of modify": ("5",),
    "before of due": ("5", "1.5"),
    "limit of due": ("5",),
}
"""What means something there after all. A time is a number of seconds, too; a duration of 0 is a ValueError."""


class ArgumentTests(Suite):
    """Arguments of a wrong type, and values that nobody can mean."""

    @pytest.mark.asyncio
    @pytest.mark.parametrize("argument", CALLS)
    async def test_refuses_what_means_nothing_there(self, store: VersionedFlowStateStore, argument: str) -> None:
        """A value of a wrong type is an error of its own kind before anything is written, never a conflict."""
        state = with_steps("one")
        await store.save("id", state)
        error, call = CALLS[argument]
        meant = MEANT.get(argument, ("5", "1.5") if argument.startswith("timeout") else ())
        for kind, value in NONSENSE.items():
            if kind in meant:
                continue
            with pytest.raises(error) as refusal:  # so that a failure tells of which value
                await call(store, value)
                pytest.fail(f"takes {kind}")
            assert refusal.type is not AttributeError, kind

        assert exactly(state) == exactly(await store.load("id"))
        assert await store.load("new") is None
        assert 1 == await store.count()

    @pytest.mark.asyncio
    @pytest.mark.parametrize("argument", ["if_version of update", "if_version of delete"])
    async def test_no_version_is_not_any_version(self, store: VersionedFlowStateStore, argument: str) -> None:
        """The version of a state that was never stored, which is None, changes and deletes nothing, stored or not."""
        _, call = CALLS[argument]
        with pytest.raises(TypeError, match="never stored"):
            await call(store, started().version)
        state = with_steps("one")
        await store.save("id", state)
        with pytest.raises(TypeError, match="leave if_version out"):
            await call(store, started().version)

        assert exactly(state) == exactly(await store.load("id"))
        await call(store, UNSET)

    @pytest.mark.asyncio
    @pytest.mark.parametrize("ids", ["id", "", b"id"], ids=repr)
    async def test_one_id_is_not_many(self, store: VersionedFlowStateStore, ids: Any) -> None:
        """A single string is an iterable of strings too: of other ids than was meant."""
        for id in ("i", "d", "id"):
            await store.save(id, started())
        with pytest.raises(TypeError, match="ids are an iterable"):
            await store.delete_many(ids)
        with pytest.raises(TypeError, match="ids are an iterable"):
            await store.load_many(ids)

        assert 3 == await store.count()

    @pytest.mark.asyncio
    async def test_an_iterable_of_pairs_is_not_a_mapping(self, store: VersionedFlowStateStore) -> None:
        """`save_many` takes a mapping, as it says, in every store."""
        with pytest.raises(TypeError, match="mapping"):
            await store.save_many([("id", started())])  # type: ignore[arg-type]  # to be refused

        assert 0 == await store.count()

    @pytest.mark.asyncio
    async def test_a_change_that_cannot_be_called_is_refused_before_the_state_is_read(
        self, store: VersionedFlowStateStore
    ) -> None:
        """The error comes whether there is a state or not."""
        with pytest.raises(TypeError, match="change is a function"):
            await store.modify("missing", CacheEntry(value=1))  # type: ignore[arg-type]  # to be refused
        for attempts in (0, -1, True):
            with pytest.raises(ValueError, match="attempts is a whole number"):
                await store.modify("missing", lambda _: None, attempts=attempts)
