"""What runs now: the run, the scope and the step of the current task or thread.

A context variable is the one thing of this kind that lives in a module: it is how asyncio tells tasks apart.
"""

from __future__ import annotations

import uuid
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from .keys import Scope

if TYPE_CHECKING:
    from .run import Run


@dataclass(frozen=True)
class Step:
    """What runs now inside a step; `current_step` returns it.

    Attributes:
        run_id: The id of the run.
        key: The resolved name, such as ``draft-1`` or ``outer/inner``.
        attempt: The number of this attempt, from 1. It is one more than the failed attempts on record.
    """

    run_id: str
    key: str
    attempt: int
    _rewinds: int = field(default=0, repr=False)

    @property
    def idempotency_key(self) -> str:
        """The same on every attempt, also after a crash, for services that do a thing once a key.

        It is another one after `retry(from_step=)`, which means to do it again.
        """
        return uuid_in(self.run_id, "step", self.key, self._rewinds)


@dataclass(frozen=True)
class Here:
    """What runs in this context."""

    run: Run
    scope: Scope
    step: Step | None


HERE: Final[ContextVar[Here | None]] = ContextVar("firestore_flowstate.flows", default=None)


def current_run() -> Run:
    """Return the run that this code runs in, in a flow or in a step of it.

    Raises:
        LookupError: It runs in none.
    """
    here = HERE.get()
    if here is None:
        raise LookupError("no run of a flow is going on in this task or thread")
    return here.run


def current_step() -> Step:
    """Return the step that this code runs in; for `Step.idempotency_key` and the number of the attempt.

    Raises:
        LookupError: It runs in none.
    """
    here = HERE.get()
    if here is None or here.step is None:
        raise LookupError("no step of a flow is going on in this task or thread")
    return here.step


def uuid_in(run_id: str, *parts: object) -> str:
    """Return a UUID that is the same for the same run and parts, in every process."""
    return str(uuid.uuid5(uuid.uuid5(uuid.NAMESPACE_URL, run_id), "\n".join(map(str, parts))))
