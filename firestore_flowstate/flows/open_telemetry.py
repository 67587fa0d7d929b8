"""Spans and metrics of OpenTelemetry, if the application has imported it. This module never imports it first."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Final

from typing_extensions import override

from .telemetry import Telemetry

_SCOPE: Final = "firestore_flowstate.flows"
_COUNTERS: Final = {
    "run.started": "flowstate.runs.started",
    "run.ended": "flowstate.runs.ended",
    "step": "flowstate.steps",
    "step.attempt": "flowstate.attempts",
    "recovery": "flowstate.recoveries",
    "claim.lost": "flowstate.claims.lost",
    "lease.lost": "flowstate.leases.lost",
}
_HISTOGRAMS: Final = {
    "checkpoint": ("flowstate.checkpoint.duration", "seconds"),
    "wake": ("flowstate.wake.delay", "delay"),
}
_ATTRIBUTES: Final = {"name": "flow.name", "error": "error.type"}
_NOT_ATTRIBUTES: Final = ("flow_id", "key")  # of which there are too many for a metric


class OpenTelemetry(Telemetry):
    """Makes spans of drives and steps, and counters and histograms; does nothing if OpenTelemetry is not imported."""

    def __init__(self) -> None:
        self._instruments: dict[str, Any] = {}

    @override
    @contextmanager
    def drive(
        self, *, flow_id: str, name: str, trace_context: str | None, number: int, before: str | None = None
    ) -> Iterator[None]:
        trace: Any = sys.modules.get("opentelemetry.trace")
        if trace is None:
            yield
            return
        from opentelemetry.context import Context

        here = trace.get_current_span().get_span_context()
        contexts = [_parsed(trace, trace_context), _parsed(trace, before), here if here.is_valid else None]
        links = {each.span_id: trace.Link(each) for each in contexts if each is not None}
        attributes = {"flow.id": flow_id, "flow.name": name, "flow.drive": number}
        # A trace of its own: a run may go on for months, and no trace lasts so long.
        with trace.get_tracer(_SCOPE).start_as_current_span(
            f"drive {name}", context=Context(), links=list(links.values()), attributes=attributes
        ):
            yield

    @override
    def executing(self, *, flow_id: str, name: str, key: str) -> AbstractContextManager[None]:
        trace: Any = sys.modules.get("opentelemetry.trace")
        if trace is None:
            return nullcontext()
        attributes = {"flow.id": flow_id, "flow.name": name, "flow.step": key}
        span: AbstractContextManager[None] = trace.get_tracer(_SCOPE).start_as_current_span(
            f"step {key}", attributes=attributes
        )
        return span

    @override
    def step(self, *, flow_id: str, key: str, attempt: int) -> AbstractContextManager[None]:
        trace: Any = sys.modules.get("opentelemetry.trace")
        if trace is not None:
            trace.get_current_span().add_event("attempt", {"number": attempt})
        return nullcontext()

    @override
    def trace_ids(self) -> Sequence[str]:
        context = self.trace_context()
        return () if context is None else (json.loads(context)["traceId"],)

    @override
    def trace_context(self) -> str | None:
        trace: Any = sys.modules.get("opentelemetry.trace")
        here = None if trace is None else trace.get_current_span().get_span_context()
        if here is None or not here.is_valid:
            return None
        ids = {"traceId": trace.format_trace_id(here.trace_id), "spanId": trace.format_span_id(here.span_id)}
        return json.dumps({**ids, "traceFlags": int(here.trace_flags)})

    @override
    def event(self, name: str, /, **about: Any) -> None:
        trace: Any = sys.modules.get("opentelemetry.trace")
        if trace is not None and about.get("failed"):
            if name == "step.attempt":
                trace.get_current_span().add_event("attempt failed", {"error.type": about.get("error", "")})
            elif name == "step":
                trace.get_current_span().set_status(trace.StatusCode.ERROR)
        metrics: Any = sys.modules.get("opentelemetry.metrics")
        if metrics is None:
            return
        attributes = {_ATTRIBUTES.get(key, key): value for key, value in about.items() if key not in _NOT_ATTRIBUTES}
        if name in _HISTOGRAMS:
            called, value = _HISTOGRAMS[name]
            amount = attributes.pop(value)
            if called not in self._instruments:
                self._instruments[called] = metrics.get_meter(_SCOPE).create_histogram(called, unit="s")
            self._instruments[called].record(amount, attributes)
        elif name in _COUNTERS:
            called = _COUNTERS[name]
            if called not in self._instruments:
                self._instruments[called] = metrics.get_meter(_SCOPE).create_counter(called)
            self._instruments[called].add(1, attributes)


def _parsed(trace: Any, text: str | None) -> Any:
    """Return the context of the span that the text names, in the form of ``traceContext``; None: it names no span."""
    try:
        form = json.loads(text or "")
        context = trace.SpanContext(
            int(form["traceId"], 16),
            int(form["spanId"], 16),
            is_remote=True,
            trace_flags=trace.TraceFlags(int(form["traceFlags"]) & 0xFF),
        )
    except (ValueError, TypeError, LookupError, ArithmeticError, RecursionError):  # whatever somebody has stored there
        return None
    return context if context.is_valid else None
