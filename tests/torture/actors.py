"""Actors: each does its operations one after the other, on what it knows of the flow states."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from firestore_flowstate import (
    FlowState,
    FlowStateConflictError,
    FlowStateError,
    FlowStateExistsError,
    FlowStateNotFoundError,
)
from firestore_flowstate._operations.repacking import compact

from . import listing
from .asking import Asker, UnansweredError
from .examining import sweep
from .history import Attempt, now
from .knowledge import LONG, Known
from .marks import Look, add, changes_of, look_of
from .model import (
    Append,
    Buried,
    Case,
    Changed,
    Differs,
    Replace,
    Requirement,
    Shows,
    absent,
    anything,
    nothing,
    present,
    remove,
)
from .plan import Operation
from .wrong import WrongError


@dataclass
class Actor:
    """Does operations with one store on one collection.

    Attributes:
        name: Its own name.
        asker: Asks the store.
        begun: How many operations it has begun.
    """

    name: str
    asker: Asker
    begun: int = 0
    _known: dict[str, Known] = field(default_factory=dict)

    async def work(self, operations: Sequence[Operation]) -> None:
        """Do the operations."""
        history = self.asker.history
        for operation in operations:
            await asyncio.sleep(operation.pause)
            self.begun += 1
            ids = [self.asker.site.ids[key] for key in operation.keys]
            try:
                outcome = await self._do(operation, ids)
            except UnansweredError:
                outcome = "unavailable"
            except WrongError as error:
                history.wrong.append(f"{self.name}: {operation.kind} of {ids}: {error}")
                outcome = "wrong"
            history.count(operation.kind, outcome)

    async def _do(self, operation: Operation, ids: Sequence[str]) -> str:
        method: Callable[[Operation, Sequence[str]], Awaitable[str]] = getattr(self, f"_{operation.kind}")
        if operation.cancel_after is None:
            return await method(operation, ids)
        task = asyncio.ensure_future(method(operation, ids))
        await asyncio.wait([task], timeout=operation.cancel_after)
        task.cancel()
        try:
            return await task
        except asyncio.CancelledError:
            return "cancelled"

    # ---- whole states, on top of whatever is there
    async def _save(self, operation: Operation, ids: Sequence[str]) -> str:
        return await self._put(operation, ids[0], anything, {})

    async def _save_new(self, operation: Operation, ids: Sequence[str]) -> str:
        return await self._put(operation, ids[0], absent, {FlowStateConflictError: present}, if_version=None)

    async def _create(self, operation: Operation, ids: Sequence[str]) -> str:
        return await self._put(operation, ids[0], absent, {FlowStateExistsError: present})

    async def _put(
        self,
        operation: Operation,
        id: str,
        required: Requirement,
        refusals: Mapping[type[FlowStateError], Requirement],
        **options: Any,
    ) -> str:
        mark = operation.mark
        state = self.asker.site.new_state(id, mark)
        method = self.asker.store.create if operation.kind == "create" else self.asker.store.save
        attempt = Attempt(success=Case(required, Replace(mark.text)), refusals=refusals, mark=mark.text)
        call = method(id, state, **options, timeout=operation.timeout)
        outcome = await self._write(operation, call, {id: attempt})
        self._learn(id, outcome, state, look_of([mark.text], ordered=not self.asker.site.native))
        return outcome

    async def _save_many(self, operation: Operation, ids: Sequence[str]) -> str:
        states = {id: self.asker.site.new_state(id, operation.mark) for id in ids}
        attempt = Attempt(success=Case(anything, Replace(operation.mark.text)), mark=operation.mark.text)
        call = self.asker.store.save_many(states, timeout=operation.timeout)
        return await self._write(operation, call, dict.fromkeys(ids, attempt))

    # ---- writes on top of a version
    async def _save_version(self, operation: Operation, ids: Sequence[str]) -> str:
        id = ids[0]
        known = await self._know(operation, id, whole=True)
        if known is None or known.state is None:
            return "nothing there"
        fresh = operation.kind == "replace_version" or len(known.look) > LONG
        add(known.state, operation.mark, fresh=fresh)
        refusals = {FlowStateConflictError: Differs(known.look)}
        attempt = known.attempt(operation.mark, fresh=fresh, refusals=refusals)
        call = self.asker.store.save(id, known.state, if_version=known.version, timeout=operation.timeout)
        outcome = await self._write(operation, call, {id: attempt})
        self._learn(id, outcome, known.state, known.look.plus(operation.mark, fresh=fresh))
        return outcome

    _replace_version = _save_version

    async def _update_version(self, operation: Operation, ids: Sequence[str]) -> str:
        id, mark = ids[0], operation.mark
        known = await self._know(operation, id)
        if known is None:
            return "nothing there"
        refusals = {FlowStateConflictError: Changed(known.look), FlowStateNotFoundError: absent}
        attempt = known.attempt(mark, fresh=False, refusals=refusals)
        changes = changes_of(mark, id=id)
        call = self.asker.store.update(id, **changes, if_version=known.version, timeout=operation.timeout)
        allowed = self._allowed(operation)
        outcome, version = await self.asker.write(operation.kind, call, {id: attempt}, allowed=allowed)
        if version is not None:
            self._known[id] = Known(version=version, look=known.look.plus(mark), at=now())
        return outcome

    async def _delete_version(self, operation: Operation, ids: Sequence[str]) -> str:
        known = await self._know(operation, ids[0])
        if known is None:
            return "nothing there"
        attempt = Attempt(
            success=Case(Shows(known.look), remove),
            refusals={FlowStateConflictError: Differs(known.look)},
            since=known.since,
            # Nothing tells one deletion from another: if a reply was lost, another writer's counts as this one.
            or_else=Case(Buried(known.look), nothing),
        )
        call = self.asker.store.delete(ids[0], if_version=known.version, timeout=operation.timeout)
        return await self._write(operation, call, {ids[0]: attempt})

    # ---- writes on top of whatever is there
    async def _update(self, operation: Operation, ids: Sequence[str]) -> str:
        id, mark = ids[0], operation.mark
        attempt = Attempt(
            success=Case(present, Append(mark.text)), refusals={FlowStateNotFoundError: absent}, mark=mark.text
        )
        call = self.asker.store.update(id, **changes_of(mark, id=id), timeout=operation.timeout)
        return await self._write(operation, call, {id: attempt})

    async def _edit(self, operation: Operation, ids: Sequence[str]) -> str:
        id, seen = ids[0], list[Known]()
        began = now()

        async def edit() -> None:
            async with self.asker.store.edit(id, timeout=operation.timeout) as state:
                self._change(operation, id, state, seen, began)

        # Its timeout holds for the load and for the write.
        return await self._write(operation, edit(), lambda: self._last_change(operation, id, seen), calls=2)

    async def _modify(self, operation: Operation, ids: Sequence[str]) -> str:
        id, seen = ids[0], list[Known]()
        began = now()

        def change(state: FlowState) -> None:
            if seen:  # a server that was killed meanwhile may have stored it and forgotten that
                self.asker.gave_up(operation.kind, id, self._attempt_on(operation, seen[-1], {}), now())
            self._change(operation, id, state, seen, seen[-1].at if seen else began)

        call = self.asker.store.modify(id, change, timeout=operation.timeout)
        return await self._write(operation, call, lambda: self._last_change(operation, id, seen))

    def _change(self, operation: Operation, id: str, state: FlowState, seen: list[Known], began: float) -> None:
        look = self.asker.saw(operation.kind, id, state, began)
        assert look is not None
        assert state.version is not None
        seen.append(Known(version=state.version, look=look, at=now()))
        add(state, operation.mark, fresh=self._is_fresh(operation, look))

    def _last_change(self, operation: Operation, id: str, seen: Sequence[Known]) -> Mapping[str, Attempt]:
        refusals: dict[type[FlowStateError], Requirement] = {FlowStateNotFoundError: absent}
        if not seen:
            return {id: Attempt(success=Case(anything, nothing), refusals=refusals)}
        refusals[FlowStateConflictError] = Differs(seen[-1].look)
        return {id: self._attempt_on(operation, seen[-1], refusals)}

    def _attempt_on(
        self, operation: Operation, known: Known, refusals: Mapping[type[FlowStateError], Requirement]
    ) -> Attempt:
        fresh = self._is_fresh(operation, known.look)
        return known.attempt(operation.mark, fresh=fresh, refusals=refusals, began=known.at)

    # ---- deletions
    async def _delete(self, operation: Operation, ids: Sequence[str]) -> str:
        call = self.asker.store.delete(ids[0], timeout=operation.timeout)
        return await self._write(operation, call, {ids[0]: Attempt(success=Case(anything, remove))})

    async def _delete_many(self, operation: Operation, ids: Sequence[str]) -> str:
        attempts = {id: Attempt(success=Case(anything, remove)) for id in ids}
        return await self._write(operation, self.asker.store.delete_many(ids, timeout=operation.timeout), attempts)

    # ---- reads
    async def _load(self, operation: Operation, ids: Sequence[str]) -> str:
        began = now()
        call = self.asker.store.load(ids[0], timeout=operation.timeout)
        state = await self.asker.read("load", call, allowed=self._allowed(operation))
        self._saw(ids[0], state, began)
        return "done"

    async def _load_many(self, operation: Operation, ids: Sequence[str]) -> str:
        began = now()
        call = self.asker.store.load_many(ids, timeout=operation.timeout)
        states = await self.asker.read("load_many", call, allowed=self._allowed(operation))
        for id in ids:
            self._saw(id, states.get(id), began)
        return "done"

    async def _list(self, operation: Operation, ids: Sequence[str]) -> str:
        return await listing.walk(self.asker, operation, allowed=self._allowed(operation))

    async def _iterate(self, operation: Operation, ids: Sequence[str]) -> str:
        return await listing.iterate(self.asker, operation)

    async def _list_summaries(self, operation: Operation, ids: Sequence[str]) -> str:
        return await listing.walk(self.asker, operation, allowed=self._allowed(operation), summaries=True)

    async def _due(self, operation: Operation, ids: Sequence[str]) -> str:
        return await listing.due(self.asker, operation, allowed=self._allowed(operation))

    async def _gc(self, operation: Operation, ids: Sequence[str]) -> str:
        await sweep(self.asker, "gc")
        return "done"

    async def _compact(self, operation: Operation, ids: Sequence[str]) -> str:
        store = self.asker.store

        async def maintain() -> None:
            # It compacts light logs too: no version that somebody holds may become worthless by it.
            collection, deadline = await store._begin(operation.timeout)
            await compact(collection, ids[0], deadline)

        await self.asker.read("compact", maintain(), allowed=self._allowed(operation))
        return "done"

    # ---- what it knows
    async def _know(self, operation: Operation, id: str, *, whole: bool = False) -> Known | None:
        """Return what it knows of a flow state, loaded if it knows nothing. It is to be used once."""
        known = self._known.get(id)
        if known is None or (whole and known.state is None):
            await self._load(operation, [id])
        return self._known.pop(id, None)

    def _saw(self, id: str, state: FlowState | None, began: float) -> None:
        look = self.asker.saw("load", id, state, began)
        self._known.pop(id, None)
        if state is not None and state.version is not None and look is not None:
            self._known[id] = Known(version=state.version, look=look, at=began, state=state)

    def _learn(self, id: str, outcome: str, state: FlowState, look: Look) -> None:
        self._known.pop(id, None)
        if outcome == "done" and state.version is not None:
            self._known[id] = Known(version=state.version, look=look, at=now(), state=state)

    # ---- how it asks
    def _is_fresh(self, operation: Operation, look: Look) -> bool:
        return operation.mark.whole and (operation.fresh or len(look) > LONG)

    async def _write(
        self,
        operation: Operation,
        call: Awaitable[object],
        attempts: Mapping[str, Attempt] | Callable[[], Mapping[str, Attempt]],
        *,
        calls: int = 1,
    ) -> str:
        allowed = calls * self._allowed(operation)
        outcome, _ = await self.asker.write(operation.kind, call, attempts, allowed=allowed)
        return outcome

    def _allowed(self, operation: Operation) -> float:
        """Return the seconds that a call may take: its timeout, and one more for each megabyte that it writes."""
        return (operation.timeout or self.asker.site.settings.timeout) + operation.mark.size / 2**20
