"""The suites notice faults in what runners of flows need: watching, what is due, unknown keys by themselves, expiry."""

from __future__ import annotations

import asyncio
import inspect
import math
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from firestore_flowstate import (
    UNSET,
    FlowState,
    FlowStateEncodeError,
    FlowStateNotFoundError,
    FlowStateQuery,
    FlowStateSettings,
    FlowStateSummary,
    MemoryFlowStateStore,
    Unset,
)
from firestore_flowstate.testing import (
    ExpiringFlowStateStoreTests,
    FlowStateStoreMachine,
    VersionedFlowStateStoreTests,
    expected,
)
from firestore_flowstate.testing.conformance import watching

PATIENCE = 0.7  # seconds until a test that waits for what never comes gives up


class LeavesOutWhatComesFast(MemoryFlowStateStore):
    """Looks once in a while at most, and does not look again when that time is over."""

    async def watch(self, id: str) -> AsyncIterator[FlowState | None]:
        last = -math.inf
        async for state in super().watch(id):
            if time.monotonic() - last > 60:  # longer than PATIENCE by far, on any machine
                last = time.monotonic()
                yield state


class TellsNotOfTheEnd(MemoryFlowStateStore):
    """Never says that a flow is gone."""

    async def watch(self, id: str) -> AsyncIterator[FlowState | None]:
        seen = False
        async for state in super().watch(id):
            if state is not None or not seen:
                yield state
            seen = state is not None


class TellsOfOthers(MemoryFlowStateStore):
    """Yields after each write, whichever flow it was of."""

    async def watch(self, id: str) -> AsyncIterator[FlowState | None]:
        async for _ in super().watch_list(FlowStateQuery(limit=300)):
            yield await self.load(id)


class HandsOutOneObject(MemoryFlowStateStore):
    """Yields the same object to all who watch a version."""

    def __init__(self) -> None:
        super().__init__()
        self.objects: dict[str | None, FlowState] = {}

    async def watch(self, id: str) -> AsyncIterator[FlowState | None]:
        async for state in super().watch(id):
            yield state if state is None else self.objects.setdefault(state.version, state)


class EndsWithATimeout(MemoryFlowStateStore):
    """Is a generator, which the first step that is cancelled ends."""

    async def watch(self, id: str) -> AsyncIterator[FlowState | None]:
        async for state in super().watch(id):
            yield state


class ForgetsWhatWasCancelled(MemoryFlowStateStore):
    """Counts a state as seen before anybody has it."""

    def watch(self, id: str) -> Any:
        return _Forgetful(super().watch(id))


class _Forgetful(AsyncIterator[Any]):
    def __init__(self, watch: AsyncIterator[Any]) -> None:
        self.watch = watch

    async def __anext__(self) -> Any:
        state = await anext(self.watch)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return state

    async def aclose(self) -> None:
        await watching.close(self.watch)


class WatchesAll(MemoryFlowStateStore):
    """Does not filter what it watches."""

    def watch_list(self, query: FlowStateQuery | None = None) -> AsyncIterator[Sequence[FlowStateSummary]]:
        return super().watch_list(replace(query or FlowStateQuery(), name=None, status=None))


class WatchesIdsAlone(MemoryFlowStateStore):
    """Yields a page only if other flows are on it."""

    async def watch_list(self, query: FlowStateQuery | None = None) -> AsyncIterator[Sequence[FlowStateSummary]]:
        before: list[str] | None = None
        async for page in super().watch_list(query):
            if (ids := [summary.id for summary in page]) != before:
                before = ids
                yield page


class WatchesUntilExpiry(MemoryFlowStateStore):
    """Looks only when something is written."""

    async def watch(self, id: str) -> AsyncIterator[FlowState | None]:
        async for state in super().watch(id):
            if state is not None or await self.count():
                yield state


class Due(MemoryFlowStateStore):
    """Finds what is due by looking at all states. Each fault is another way to choose or to sort."""

    def is_due(self, moment: Any, before: float) -> bool:
        return isinstance(moment, (int, float)) and not isinstance(moment, bool) and moment <= before

    def key(self, summary: FlowStateSummary) -> Any:
        return summary.extra["wakeAt"], summary.id.encode()

    async def due(
        self,
        before: datetime | float | None = None,
        *,
        limit: int = 100,
        after: FlowStateSummary | None = None,
        timeout: float | None = None,
    ) -> Sequence[FlowStateSummary]:
        await super().due(before, limit=limit, after=after, timeout=timeout)
        moment: Any = time.time() * 1000 if before is None else before
        moment = moment.timestamp() * 1000 if isinstance(moment, datetime) else moment
        all_of_them = (await self.list_summaries(FlowStateQuery(limit=300))).summaries
        found = [summary for summary in all_of_them if self.is_due(summary.extra.get("wakeAt"), moment)]
        behind = [one for one in found if after is None or self.key(one) > self.key(after)]
        return sorted(behind, key=self.key)[:limit]


class DueBefore(Due):
    """Leaves out the moment itself."""

    def is_due(self, moment: Any, before: float) -> bool:
        return super().is_due(moment, before) and moment < before


class DueByTruth(Due):
    """Takes true for the number that Python says it is."""

    def is_due(self, moment: Any, before: float) -> bool:
        return isinstance(moment, (int, float)) and moment <= before


class DueLosesTies(Due):
    """Goes on behind the moment of the last, not behind the last."""

    def key(self, summary: FlowStateSummary) -> Any:
        return summary.extra["wakeAt"]


class DueByUtf16(Due):
    """Sorts ids as JavaScript does."""

    def key(self, summary: FlowStateSummary) -> Any:
        return summary.extra["wakeAt"], summary.id.encode("utf-16-be")


class DueForEver(Due):
    """Returns those that have expired too."""

    async def save_many(self, states: Mapping[str, FlowState], **options: Any) -> None:
        await super().save_many(states, **options)
        self.kept = [record.copy_of_summary() for record in self._records.by_id.values()]

    async def due(self, *given: Any, **options: Any) -> Sequence[FlowStateSummary]:
        return [*await super().due(*given, **options), *self.kept]


class ExtraForgetsTheOthers(MemoryFlowStateStore):
    """Sets the unknown keys that are named, and takes out all others."""

    async def update(self, id: str, *, extra: Mapping[str, Any] | None = None, **options: Any) -> str:
        state = await self.load(id)
        kept = {} if state is None else state.model_extra or {}
        others = {key: UNSET for key, value in kept.items() if isinstance(value, str | int)}
        return await super().update(id, extra=None if extra is None else {**others, **extra}, **options)


class UnsetIsNull(MemoryFlowStateStore):
    """Stores null in place of taking a key out."""

    async def update(self, id: str, *, extra: Mapping[str, Any] | None = None, **options: Any) -> str:
        version = await super().update(id, extra=extra, **options)
        state = await self.load(id)
        if state is None or not any(isinstance(value, Unset) for value in (extra or {}).values()):
            return version
        for key, value in (extra or {}).items():
            if isinstance(value, Unset):
                setattr(state, key, None)
        await self.save(id, state)
        return state.version or ""


class ExtraComesLater(MemoryFlowStateStore):
    """Writes unknown keys by a second write."""

    async def update(self, id: str, *, extra: Mapping[str, Any] | None = None, **options: Any) -> str:
        version = await super().update(id, **options)
        if extra:
            await super().update(id, extra=extra)
        return version


class ForgetsTheTimeOfItsOwn(MemoryFlowStateStore):
    """Goes by the settings again at the next partial write."""

    async def update(self, id: str, *, expire_after: Any = UNSET, **options: Any) -> str:
        version = await super().update(id, expire_after=expire_after, **options)
        if not isinstance(expire_after, Unset):
            return await super().update(id, extra={"expireAfter": UNSET})
        return version


def case(store: Callable[..., MemoryFlowStateStore], test: str, /, **arguments: Any) -> Any:
    """Return a fault with the test that is to notice it."""
    return pytest.param(store, test, arguments, id=f"{getattr(store, '__name__', store)} {test}")


@pytest.mark.parametrize(
    ("store", "test", "arguments"),
    [
        case(LeavesOutWhatComesFast, "test_watch_never_misses_the_last_state"),
        case(TellsNotOfTheEnd, "test_watch_yields_the_state_now_and_after_each_change"),
        case(TellsOfOthers, "test_watch_yields_nothing_if_nothing_changes"),
        case(HandsOutOneObject, "test_watch_yields_a_state_of_its_own"),
        case(EndsWithATimeout, "test_watch_bears_a_timeout_around_a_step"),
        case(ForgetsWhatWasCancelled, "test_watch_bears_a_timeout_around_a_step"),
        case(WatchesAll, "test_watch_list_keeps_to_its_filters_and_limit"),
        case(WatchesAll, "test_watch_list_by_status"),
        case(WatchesIdsAlone, "test_watch_list_yields_the_page_now_and_after_each_change"),
        case(DueBefore, "test_due_is_what_has_come_earliest_first"),
        case(DueByUtf16, "test_due_is_what_has_come_earliest_first"),
        case(DueByTruth, "test_without_a_number_nothing_is_due", value=True),
        case(DueLosesTies, "test_due_goes_on_behind_a_summary"),
        case(ExtraForgetsTheOthers, "test_extra_changes_only_what_it_names"),
        case(UnsetIsNull, "test_extra_changes_only_what_it_names"),
        case(ExtraComesLater, "test_extra_goes_with_all_else_in_one_write"),
    ],
)
async def test_a_fault_is_noticed(
    store: type[MemoryFlowStateStore], test: str, arguments: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test that should fail for a fault does, and passes for the store without it."""
    run = getattr(VersionedFlowStateStoreTests(), test)
    await run(Due() if issubclass(store, Due) else MemoryFlowStateStore(), **arguments)
    monkeypatch.setattr(watching, "PATIENCE", PATIENCE)
    with pytest.raises((AssertionError, asyncio.TimeoutError, RuntimeError, StopAsyncIteration)):
        await run(store(), **arguments)


@pytest.mark.parametrize(
    ("store", "test", "arguments"),
    [
        case(WatchesUntilExpiry, "test_whoever_watches_sees_a_state_expire"),
        case(DueForEver, "test_an_expired_state_is_gone_at_once"),
        case(ForgetsTheTimeOfItsOwn, "test_a_flow_may_never_expire", by="update"),
    ],
)
async def test_a_fault_of_expiry_is_noticed(
    store: type[MemoryFlowStateStore], test: str, arguments: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test of expiry that should fail for a fault does, and passes for the store without it."""
    run = getattr(ExpiringFlowStateStoreTests(), test)

    def made(kind: type[MemoryFlowStateStore]) -> Any:
        def make(expire_after: timedelta) -> MemoryFlowStateStore:
            return kind(FlowStateSettings(expire_after=expire_after))

        return make(timedelta(hours=1)) if "store" in inspect.signature(run).parameters else make

    await run(made(MemoryFlowStateStore), **arguments)
    monkeypatch.setattr(watching, "PATIENCE", PATIENCE)
    with pytest.raises((AssertionError, asyncio.TimeoutError, FlowStateNotFoundError)):
        await run(made(store), **arguments)


_WRITES = {"save", "update", "change", "delete"}
_RULES = {name for name, rule in inspect.getmembers(FlowStateStoreMachine) if hasattr(rule, "hypothesis_stateful_rule")}


@pytest.mark.parametrize(
    ("store", "rules"),
    [
        (DueBefore, {"save", "due"}),
        (DueLosesTies, {"save", "due"}),
        (ExtraForgetsTheOthers, _WRITES),
        (ForgetsTheTimeOfItsOwn, _WRITES),
        (TellsNotOfTheEnd, _WRITES | {"start_following", "follow"}),
        (EndsWithATimeout, _WRITES | {"start_following", "follow"}),
    ],
)
def test_random_operations_come_upon_a_fault(
    store: type[MemoryFlowStateStore], rules: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state machine draws what it takes, and knows the right answer.

    It draws from the operations that the fault is about. From all of them it would come upon some faults once in a few
    hundred examples. The examples are others after each change of the package, since hypothesis draws constants of its
    source.
    """
    assert rules <= _RULES
    monkeypatch.setattr(expected, "_PATIENCE_SECONDS", PATIENCE)
    machine = settings(
        max_examples=2_000,  # the first that fails is the last. It is one of the first 200 as a rule
        stateful_step_count=30,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    kind = type("Machine", (FlowStateStoreMachine,), dict.fromkeys(_RULES - rules))
    with pytest.raises((AssertionError, asyncio.TimeoutError, RuntimeError, StopAsyncIteration, FlowStateEncodeError)):
        run_state_machine_as_test(lambda: kind(store()), settings=machine)
