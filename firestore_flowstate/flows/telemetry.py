"""The seam for spans and counters. What is here does nothing.

A drive and a step each run inside a context manager; all else is told by `event`. The names of events and their
numbers: ``run.started``, ``run.ended`` (outcome), ``step`` (failed), ``step.attempt`` (failed, error), ``checkpoint``
(seconds), ``wake`` (delay in seconds), ``recovery``, ``claim.lost``, ``lease.lost``; each with the name of the flow.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any


class Telemetry:
    """Watches runs and measures nothing; to be overridden."""

    @contextmanager
    def drive(
        self, *, flow_id: str, name: str, trace_context: str | None, number: int, before: str | None = None
    ) -> Iterator[None]:
        """Run a drive inside this; `before` is what `trace_context` returned within the drive before."""
        yield

    def executing(self, *, flow_id: str, name: str, key: str) -> AbstractContextManager[None]:
        """Execute a step inside this, with all its attempts."""
        return nullcontext()

    def step(self, *, flow_id: str, key: str, attempt: int) -> AbstractContextManager[None]:
        """Run an attempt of a step inside this."""
        return nullcontext()

    def trace_ids(self) -> Sequence[str]:
        """Return the ids of the traces that go on, for ``executions``."""
        return ()

    def trace_context(self) -> str | None:
        """Return the trace to continue, as JSON text, for a run that starts now."""
        return None

    def event(self, name: str, /, **about: Any) -> None:
        """Note that something happened."""
