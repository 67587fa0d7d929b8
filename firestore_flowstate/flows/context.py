"""What runs now: the run, the scope and the step of the current task or thread.

A context variable has to be a module's own: it is how asyncio tells tasks apart. Otherwise modules hold no state.
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
    """The attempt of a step that runs now, as `current_step` returns it.

    Attributes:
        run_id: The id of the run.
        key: The key of the step: its name with a number or the step around it, as ``draft-1`` or ``outer/inner``.
        attempt: The number of this attempt, from 1: one more than the recorded failed attempts. An attempt that a crash
            cut off is not recorded, so its number comes again.
    """

    run_id: str
    key: str
    attempt: int
    _rewinds: int = field(default=0, repr=False)

    @property
    def idempotency_key(self) -> str:
        """A UUID that is the same on every attempt, also after a crash, for services that do a thing once a key.

        After `retry(from_step=)` the key is another one, since the step is then meant to be done again.
        """
        return uuid_in(self.run_id, "step", self.key, self._rewinds)


@dataclass(frozen=True)
class Here:
    """What runs in this context: a run, the scope that counts keys, and the step, if the code is inside of one."""

    run: Run
    scope: Scope
    step: Step | None


HERE: Final[ContextVar[Here | None]] = ContextVar("firestore_flowstate.flows", default=None)


def current_run() -> Run:
    """Return the run whose flow, or whose step, calls this.

    ::

        current_run().progress(done=3)

    Raises:
        LookupError: The call comes from outside of any run.
    """
    here = HERE.get()
    if here is None:
        raise LookupError("current_run() was called outside of a run: call it in a flow, or in the function of a step")
    return here.run


def current_step() -> Step:
    """Return the step whose function calls this, for `Step.idempotency_key` and the number of the attempt.

    ::

        key = current_step().idempotency_key

    Raises:
        LookupError: The call comes from outside of any step.
    """
    here = HERE.get()
    if here is None or here.step is None:
        raise LookupError("current_step() was called outside of a step: call it in the function of a step")
    return here.step


def uuid_in(run_id: str, *parts: object) -> str:
    """Return a UUID that is the same for the same run and parts, in every process."""
    return str(uuid.uuid5(uuid.uuid5(uuid.NAMESPACE_URL, run_id), "\n".join(map(str, parts))))
