"""The seam for spans and metrics. The class here does nothing.

A drive and a step each run inside a context manager. All else is told by `event`. The names of events, and what each
tells beside the name of the flow:

- ``run.started``; ``run.ended``: `outcome`
- ``step``: `failed`; ``step.attempt``: `failed`, and if so `error`, the name of its type
- ``checkpoint``: `seconds` that the write took
- ``unasked``: `keys` of recorded results and of answers that the function, called again, did not ask for
- ``wake``: `delay`, the seconds from the wake time to the claim
- ``recovery``, ``claim.lost``, ``lease.lost``
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any


class Telemetry:
    """Is told what happens to runs, and does nothing. Subclasses override what they need."""

    def drive(
        self, *, flow_id: str, name: str, trace_context: str | None, number: int, before: str | None = None
    ) -> AbstractContextManager[None]:
        """Return a context to run a drive in.

        Args:
            flow_id: The id of the run.
            name: The name of the flow.
            trace_context: What `trace_context` returned when the run was started.
            number: The number of the drive, from 1.
            before: What `trace_context` returned within the drive before.
        """
        return nullcontext()

    def executing(self, *, flow_id: str, name: str, key: str) -> AbstractContextManager[None]:
        """Return a context to execute a step in, with all its attempts."""
        return nullcontext()

    def step(self, *, flow_id: str, key: str, attempt: int) -> AbstractContextManager[None]:
        """Return a context to run one attempt of a step in; attempts count from 1."""
        return nullcontext()

    def trace_ids(self) -> Sequence[str]:
        """Return the ids of the current traces, for ``executions``."""
        return ()

    def trace_context(self) -> str | None:
        """Return the current span in the form of ``traceContext``, as JSON text; None: there is none."""
        return None

    def event(self, name: str, /, **about: Any) -> None:
        """Note that something happened; the module's docstring has the names."""
