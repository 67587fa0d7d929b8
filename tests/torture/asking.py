"""Asking a store: every call is recorded with what it was answered."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from firestore_flowstate import (
    FirestoreFlowStateStore,
    FlowState,
    FlowStateBatchError,
    FlowStateDecodeError,
    FlowStateError,
    StoreUnavailableError,
)

from .history import Attempt, History, Outcome, Record, UnexpectedError, now
from .marks import Look, Mark
from .model import Case, Replace, Requirement, Shows, absent, anything, described, nothing
from .site import Site

_Result = TypeVar("_Result")


class UnansweredError(Exception):
    """A read got no answer."""


@dataclass
class Asker:
    """Asks one store about one collection.

    Attributes:
        line: The connection that its calls go over.
        site: The collection.
        store: The store.
        history: The history in which everything is recorded.
    """

    line: str
    site: Site
    store: FirestoreFlowStateStore
    history: History = field(default_factory=History)

    def another(self) -> Asker:
        """Return one that asks the same store over the same connection."""
        return replace(self)

    async def write(
        self,
        what: str,
        call: Awaitable[_Result],
        attempts: Mapping[str, Attempt] | Callable[[], Mapping[str, Attempt]],
        *,
        allowed: float,
    ) -> tuple[Outcome, _Result | None]:
        """Await a write. Return how it ended, for the last of its flow states, and its result.

        Args:
            what: What it is, for people.
            call: The call of the store.
            attempts: What it was to do to each flow state, or what tells that once the call has ended.
            allowed: The seconds it may take.
        """
        began = now()
        error: BaseException | None = None
        result: _Result | None = None
        try:
            result = await call
        except FlowStateError as failed:
            error = failed
        except BaseException as failed:
            error = failed
            raise
        finally:
            ended = now()
            outcome: Outcome = "cancelled" if error is not None else "done"
            for id, attempt in (attempts() if callable(attempts) else attempts).items():
                refusal: Requirement = anything
                own = error.errors.get(id) if isinstance(error, FlowStateBatchError) else error
                if own is None:
                    outcome = "done"
                elif isinstance(own, FlowStateError):
                    outcome, refusal = attempt.outcome(own)
                self._record(id, what, attempt, outcome, refusal, attempt.began or began, ended)
        self.history.took(what, ended - began, allowed=allowed)
        return outcome, result

    async def read(self, what: str, call: Awaitable[_Result], *, allowed: float = math.inf) -> _Result:
        """Await a read.

        Raises:
            UnansweredError: It had no answer, as may happen.
            UnexpectedError: It raised what it may not raise.
        """
        began = now()
        try:
            return await call
        except FlowStateError as error:
            for one in error.errors.values() if isinstance(error, FlowStateBatchError) else [error]:
                if isinstance(one, FlowStateDecodeError):
                    self.history.unreadable.append((began, now(), f"{what}: {one}"))
                elif not isinstance(one, StoreUnavailableError):
                    raise UnexpectedError(f"{what}: {type(one).__name__}: {one}") from one
            raise UnansweredError(str(error)) from error
        finally:
            self.history.took(what, now() - began, allowed=allowed)

    def saw(self, what: str, id: str, state: FlowState | None, began: float) -> Look | None:
        """Record that a flow state was there as it was read since `began`, or none. Return how it looks."""
        look = None if state is None else self.site.look_at(state, id)
        self.noted(what, id, absent if look is None else Shows(look), began, now())
        return look

    def noted(self, what: str, id: str, requirement: Requirement, began: float, ended: float) -> None:
        """Record what was seen of a flow state at some time in between."""
        self._record(id, what, Attempt(success=Case(requirement, nothing)), "done", anything, began, ended)

    def gave_up(self, what: str, id: str, attempt: Attempt, ended: float) -> None:
        """Record a try of a call that goes on with another try, since what it rested on was not stored any more."""
        assert attempt.began is not None
        self._record(id, what, attempt, "refused", anything, attempt.began, ended)

    async def restore_standing(self, round: int) -> None:
        """Create the flow states that are to be there in every list, if they are not there yet or were lost."""
        mark = Mark.of(f"{round}.standing", whole=True, size=0, ends=False)
        attempt = Attempt(success=Case(absent, Replace(mark.text)), mark=mark.text)
        for id in self.site.ids[-self.site.standing :]:
            began = now()
            if self.saw("load", id, await self.store.load(id), began) is None:
                creating = self.store.create(id, self.site.new_state(id, mark))
                await self.write("create", creating, {id: attempt}, allowed=math.inf)

    def _record(
        self,
        id: str,
        what: str,
        attempt: Attempt,
        outcome: Outcome,
        refusal: Requirement,
        began: float,
        ended: float,
    ) -> None:
        shown = attempt.mark if attempt.mark is not None else described(attempt.success.required)
        self.history.add(
            Record(
                key=self.site.key(id),
                what=f"{what} {shown}",
                line=self.line,
                began=began,
                ended=ended,
                outcome=outcome,
                attempt=attempt,
                refusal=refusal,
            )
        )
