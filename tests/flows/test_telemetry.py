"""Spans and metrics of OpenTelemetry, with its own SDK."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from firestore_flowstate.flows import Flows, Retry, Run, current_step


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)  # the global provider can be set only once
    yield exporter
    provider.shutdown()


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemoryMetricReader]:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    monkeypatch.setattr(metrics, "get_meter", provider.get_meter)
    yield reader
    provider.shutdown()


def measured(reader: InMemoryMetricReader) -> dict[str, float]:
    """Return the sum of each counter, and how often each histogram was told."""
    data = reader.get_metrics_data()
    assert data is not None
    return {
        metric.name: sum(getattr(point, "value", getattr(point, "count", 0)) for point in metric.data.data_points)
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }


async def second_time() -> int:
    if current_step().attempt == 1:
        raise ConnectionError("not yet")
    return 2


async def test_spans_of_a_run_that_waits(spans: InMemorySpanExporter, flows: Flows) -> None:
    """A span a drive, linked to where it was started and to the drive before; a span a step, attempts as events."""

    @flows.flow
    async def work(run: Run) -> int:
        number = await run.options(retry=Retry(first=0.001)).step("work", second_time)
        return number + await run.interrupt("more", int)

    with trace.get_tracer("test").start_as_current_span("request") as request:
        handle = await flows.start(work, id="x")
    async for state in handle.watch():
        if state.blocked_on_step is not None and "owner" not in state.operation.metadata["run"]:
            break
    await handle.resume(3)
    assert 5 == await handle.result(timeout=5)
    await flows.close()

    first, second = [span for span in spans.get_finished_spans() if span.name == "drive work"]
    [step] = [span for span in spans.get_finished_spans() if span.name == "step work"]
    begun = request.get_span_context().span_id
    assert first.context.span_id == step.parent.span_id
    assert [begun] == [link.context.span_id for link in first.links]
    assert {begun, first.context.span_id} <= {link.context.span_id for link in second.links}
    assert ["attempt", "attempt failed", "attempt"] == [event.name for event in step.events]
    assert {"flow.id": "x", "flow.name": "work", "flow.drive": 1} == dict(first.attributes)


async def test_metrics_of_a_run(reader: InMemoryMetricReader, flows: Flows) -> None:
    """Counted by what happened; the attributes are the name of the flow and the outcome, and no id."""

    @flows.flow
    async def work(run: Run) -> int:
        return await run.options(retry=Retry(first=0.001)).step("work", second_time)

    assert 2 == await flows.run(work, id="x")
    found = measured(reader)

    assert (1, 1, 1, 2) == tuple(
        found[f"flowstate.{name}"] for name in ("runs.started", "runs.ended", "steps", "attempts")
    )
    assert found["flowstate.checkpoint.duration"] >= 2
