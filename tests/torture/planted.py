"""Stores with a planted fault: what the torture test must notice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from firestore_flowstate import (
    UNSET,
    FirestoreFlowStateStore,
    FlowState,
    FlowStateConflictError,
    FlowStateQuery,
    FlowStateQueryResponse,
    FlowStateSettings,
    StoreUnavailableError,
)

_EVERY: Final = 2  # calls, of which one is at fault


class Planted(FirestoreFlowStateStore):
    """A store that is not at fault."""

    def __init__(self, settings: FlowStateSettings) -> None:
        super().__init__(settings)
        self._calls = 0

    def _is_due(self) -> bool:
        self._calls += 1
        return self._calls % _EVERY == 0


class LosesAcknowledged(Planted):
    """Some updates return a version and are not stored."""

    async def update(self, id: str, **options: Any) -> str:
        if self._is_due() and (state := await self.load(id)) is not None and state.version is not None:
            return state.version
        return await super().update(id, **options)


class WritesHalf(Planted):
    """Some updates leave out the events."""

    async def update(self, id: str, *, events_triggered: Mapping[str, Any] | None = None, **options: Any) -> str:
        return await super().update(id, events_triggered=None if self._is_due() else events_triggered, **options)


class RepeatsInLists(Planted):
    """Pages begin with the last state of the page before."""

    _last: FlowState | None = None

    async def list(
        self, query: FlowStateQuery | None = None, *, timeout: float | None = None
    ) -> FlowStateQueryResponse:
        page = await super().list(query, timeout=timeout)
        states = list(page.flow_states)
        if query is not None and query.continuation_token is not None and self._last is not None:
            states.insert(0, self._last)
        self._last = states[-1] if states else None
        return replace(page, flow_states=states)


class LeavesOutOfLists(Planted):
    """Pages leave out their first state."""

    async def list(
        self, query: FlowStateQuery | None = None, *, timeout: float | None = None
    ) -> FlowStateQueryResponse:
        page = await super().list(query, timeout=timeout)
        return replace(page, flow_states=page.flow_states[1:])


class ReadsThePast(Planted):
    """Some loads return what was loaded some time before."""

    def __init__(self, settings: FlowStateSettings) -> None:
        super().__init__(settings)
        self._past: dict[str, FlowState] = {}

    async def load(self, id: str, *, timeout: float | None = None) -> FlowState | None:
        if self._is_due() and id in self._past:
            return self._past.pop(id)
        state = await super().load(id, timeout=timeout)
        if state is not None and id not in self._past:
            self._past[id] = state.model_copy(deep=True)
        return state


class ConflictsWithNobody(Planted):
    """Some saves on top of a version raise a conflict, though nobody else has written."""

    async def save(self, id: str, state: FlowState, *, if_version: Any = UNSET, timeout: float | None = None) -> None:
        if isinstance(if_version, str) and self._is_due():
            raise FlowStateConflictError("planted", flow_id=id)
        await super().save(id, state, if_version=if_version, timeout=timeout)


class ForgetsVersions(Planted):
    """Saves on top of a version that is gone replace whatever is there. To forget one that is there does no harm."""

    async def save(self, id: str, state: FlowState, *, if_version: Any = UNSET, timeout: float | None = None) -> None:
        try:
            await super().save(id, state, if_version=if_version, timeout=timeout)
        except FlowStateConflictError:
            await super().save(id, state, timeout=timeout)


class DeniesWhatIsStored(Planted):
    """Some updates are stored and said to be not."""

    async def update(self, id: str, **options: Any) -> str:
        version = await super().update(id, **options)
        if self._is_due():
            raise StoreUnavailableError("planted", flow_id=id)
        return version


class AppliesTwice(Planted):
    """Some saves arrive once more, later, though nothing was lost."""

    _before: tuple[str, FlowState] | None = None

    async def save(self, id: str, state: FlowState, *, if_version: Any = UNSET, timeout: float | None = None) -> None:
        if self._before is not None and self._is_due():
            await super().save(*self._before)
        if if_version is UNSET:
            self._before = (id, state.model_copy(deep=True))
        await super().save(id, state, if_version=if_version, timeout=timeout)


class IsUnsure(Planted):
    """Some updates are stored or not, and said to be unknown. That is not a fault."""

    async def update(self, id: str, **options: Any) -> str:
        if not self._is_due():
            return await super().update(id, **options)
        if self._calls % (2 * _EVERY) == 0:
            await super().update(id, **options)
        raise StoreUnavailableError("planted", flow_id=id, outcome_unknown=True)


class ForgetsKeys(Planted):
    """Some updates leave out the unknown keys."""

    async def update(self, id: str, *, extra: Any = None, **options: Any) -> str:
        return await super().update(id, extra=None if self._is_due() else extra, **options)


class LeavesOutOfWhatIsDue(Planted):
    """Answers of `due` lack their first state."""

    async def due(self, *given: Any, **options: Any) -> Any:
        return (await super().due(*given, **options))[1:]


class StopsTelling(Planted):
    """Watches tell of a few changes, and of none after those."""

    async def watch(self, id: str) -> Any:
        told = 0
        async for state in super().watch(id):
            told += 1
            if told < 4:
                yield state
