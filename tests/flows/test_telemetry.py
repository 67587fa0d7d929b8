"""Spans and metrics of OpenTelemetry, with its own SDK."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from firestore_flowstate import FlowState
from firestore_flowstate.flows import FlowFailedError, Flows, Retry, Run, current_step, open_telemetry
from firestore_flowstate.flows.clock import SystemClock
from tests.flows.counting_store import CountingStore, lost_after
from tests.flows.test_background import given_up
from tests.flows.test_closing import NoTasks
from tests.flows.test_fence import abandoned
from tests.flows.test_waits import blocked
from tests.support.spans import spans

__all__ = ["spans"]  # a fixture


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
    """A drive is a trace of its own, linked to the start and the drive before. A step is a span, with its attempts."""

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
    assert [None, None] == [first.parent, second.parent]
    assert 3 == len({request.get_span_context().trace_id, first.context.trace_id, second.context.trace_id})
    assert [begun] == [link.context.span_id for link in first.links]
    assert {begun, first.context.span_id} <= {link.context.span_id for link in second.links}
    assert ["attempt", "attempt failed", "attempt"] == [event.name for event in step.events]
    assert {"flow.id": "x", "flow.name": "work", "flow.drive": 1} == dict(first.attributes)


async def test_metrics_of_a_run(reader: InMemoryMetricReader, flows: Flows) -> None:
    """They count what happened. Their attributes are the name of the flow and the outcome, and never an id."""

    @flows.flow
    async def work(run: Run) -> int:
        return await run.options(retry=Retry(first=0.001)).step("work", second_time)

    assert 2 == await flows.run(work, id="x")
    found = measured(reader)

    assert (1, 1, 1, 2) == tuple(
        found[f"flowstate.{name}"] for name in ("runs.started", "runs.ended", "steps", "attempts")
    )
    assert found["flowstate.checkpoint.duration"] >= 2


def points(reader: InMemoryMetricReader, name: str) -> list[dict[str, Any]]:
    """Return the attributes of each point of the metric, with its value or its sum."""
    data = reader.get_metrics_data()
    assert data is not None
    return [
        {**(point.attributes or {}), "value": getattr(point, "value", getattr(point, "sum", 0))}
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == name
        for point in metric.data.data_points
    ]


async def test_the_attributes_of_metrics(reader: InMemoryMetricReader, flows: Flows) -> None:
    """Beside the name of the flow they say whether something failed, with which error, and how a run ended."""

    @flows.flow
    async def work(run: Run) -> int:
        return await run.options(retry=Retry(first=0.001)).step("work", second_time)

    @flows.flow
    async def fails(run: Run) -> None:
        await run.step("fails", fail)

    assert 2 == await flows.run(work, id="x")
    with pytest.raises(FlowFailedError):
        await flows.run(fails, id="y")
    error = {"failed": True, "error.type": "ConnectionError"}
    expected: dict[str, list[dict[str, Any]]] = {
        "runs.started": [{"flow.name": "fails"}, {"flow.name": "work"}],
        "runs.ended": [{"flow.name": "fails", "outcome": "failed"}, {"flow.name": "work", "outcome": "done"}],
        "steps": [{"flow.name": "fails", "failed": True}, {"flow.name": "work", "failed": False}],
        "attempts": [{"flow.name": name, **error} for name in ("fails", "work")]
        + [{"flow.name": "work", "failed": False}],
    }

    for metric, attributes in expected.items():
        found = points(reader, f"flowstate.{metric}")
        assert sorted(({**each, "value": 1} for each in attributes), key=str) == sorted(found, key=str), metric
    durations = points(reader, "flowstate.checkpoint.duration")
    assert [{"flow.name", "value"}] * 2 == [set(point) for point in durations]


async def fail() -> None:
    raise ConnectionError("the card number is 4711")


async def test_a_step_that_failed_has_a_span_with_error_status(spans: InMemorySpanExporter, flows: Flows) -> None:
    """A step that did not fail has a span without it, also after a failed attempt."""

    @flows.flow
    async def work(run: Run) -> None:
        await run.options(retry=Retry(first=0.001)).step("second", second_time)
        await run.step("fails", fail)

    with pytest.raises(FlowFailedError):
        await flows.run(work, id="x")
    status = {span.name: span.status.status_code for span in spans.get_finished_spans()}

    assert trace.StatusCode.UNSET == status["step second"]
    assert trace.StatusCode.ERROR == status["step fails"]


async def test_runs_that_end_without_a_drive_are_counted(
    reader: InMemoryMetricReader, flows: Flows, store: CountingStore
) -> None:
    """A run that is cancelled while it waits is counted, and so is one that is given up."""

    @flows.flow
    async def work(run: Run) -> None:
        await run.interrupt("more", int)

    await flows.start(work, id="x")
    await blocked(store, "x")
    await flows.cancel("x")
    await flows.store.save("y", abandoned("work", recoveries=10))
    assert "failed" == await flows.drive("y")
    ended = points(reader, "flowstate.runs.ended")

    assert [("work", "cancelled", 1), ("work", "failed", 1)] == sorted(
        (each["flow.name"], each["outcome"], each["value"]) for each in ended
    )


async def test_a_run_that_is_taken_over_is_a_recovery_and_a_lost_lease(
    reader: InMemoryMetricReader, store: CountingStore
) -> None:
    """The process that takes the run counts a recovery, and the one that lost it counts a lost lease."""
    goes_on = asyncio.Event()

    async def wait() -> int:
        await goes_on.wait()
        return 1

    first, second = Flows(store), Flows(store)
    for flows in (first, second):

        @flows.flow
        async def work(run: Run) -> int:
            return await run.step("wait", wait)

    await first.start("work", id="x")
    while "x" not in first._engine.drives or not first._engine.drives["x"].flights:  # noqa: ASYNC110  # no event tells of it
        await asyncio.sleep(0)
    await store.update("x", extra={"wakeAt": 1})
    taking_over = asyncio.ensure_future(second.drive("x"))
    while "x" not in second._engine.drives:  # noqa: ASYNC110  # no event tells of it
        await asyncio.sleep(0)
    goes_on.set()
    assert "done" == await taking_over
    while "x" in first._engine.drives:  # noqa: ASYNC110  # no event tells of it
        await asyncio.sleep(0)
    found = measured(reader)
    await first.close()
    await second.close()

    assert (1, 1) == (found["flowstate.recoveries"], found["flowstate.leases.lost"])


async def test_a_claim_that_another_process_made_first_is_lost(
    reader: InMemoryMetricReader, flows: Flows, store: CountingStore
) -> None:
    """The drive looks at the run again, and finds it busy."""

    @flows.flow
    async def work(run: Run) -> None: ...

    async def another_first(update: Callable[[], Awaitable[str]]) -> str:
        state = await store.store.load("x")
        state.operation.metadata["run"]["owner"] = "another"
        await store.store.save(
            "x", FlowState.model_validate({**state.model_dump(), "wakeAt": time.time() * 1000 + 60_000})
        )
        return await update()

    state = abandoned("work")
    state.operation.metadata = {"run": {}}
    await store.save("x", state)
    store.faults[1] = another_first

    assert "busy" == await flows.drive("x")
    assert [{"flow.name": "work", "value": 1}] == points(reader, "flowstate.claims.lost")


async def test_a_claim_is_lost_though_the_drive_of_the_other_process_is_over(
    reader: InMemoryMetricReader, flows: Flows, store: CountingStore
) -> None:
    """The run has no owner any more, and one drive more than before."""
    others = Flows(store, dispatcher=NoTasks())
    for each in (flows, others):

        @each.flow
        async def work(run: Run) -> None: ...

    async def another_first(update: Callable[[], Awaitable[str]]) -> str:
        assert "done" == await others.drive("x")
        return await update()

    await others.start("work", id="x")
    store.faults[1] = another_first

    assert "done" == await flows.drive("x")
    assert [{"flow.name": "work", "value": 1}] == points(reader, "flowstate.claims.lost")


@pytest.mark.parametrize(("what", "outcome"), [("an answer", "done"), ("a deletion", "missing")])
async def test_a_claim_is_not_lost_to_one_who_drives_nothing(
    reader: InMemoryMetricReader, store: CountingStore, what: str, outcome: str
) -> None:
    """What conflicts with the claim is an answer, or the run is deleted: no other process drives it."""
    flows = Flows(store, dispatcher=NoTasks())

    @flows.flow
    async def work(run: Run) -> int:
        return await run.interrupt("number", int)

    async def meanwhile(update: Callable[[], Awaitable[str]]) -> str:
        await (flows.resume("x", 5, step="number") if what == "an answer" else store.delete("x"))
        return await update()

    await flows.start(work, id="x")
    store.faults[1] = meanwhile

    assert outcome == await flows.drive("x")
    assert [] == points(reader, "flowstate.claims.lost")


@pytest.mark.parametrize("is_abandoned", [False, True])
async def test_a_claim_whose_reply_is_lost_is_counted_as_any_other(
    reader: InMemoryMetricReader, flows: Flows, store: CountingStore, is_abandoned: bool
) -> None:
    """The drive finds that the run is its own when it looks again."""

    @flows.flow
    async def work(run: Run) -> None: ...

    state = abandoned("work")
    if not is_abandoned:
        state.operation.metadata = {"run": {}}
    await store.save("x", state)
    store.faults[1] = lost_after
    assert "done" == await flows.drive("x")
    found = measured(reader)

    counted = {name: found.get(f"flowstate.{name}") for name in ("recoveries", "wake.delay", "claims.lost")}
    expected = {"recoveries": 1, "wake.delay": None} if is_abandoned else {"recoveries": None, "wake.delay": 1}
    assert {**expected, "claims.lost": None} == counted


async def test_a_run_that_was_taken_over_and_then_waited_is_one_recovery(
    reader: InMemoryMetricReader, flows: Flows, store: CountingStore
) -> None:
    """The drive that takes its answer takes over from nobody, though there was no new result in between."""

    @flows.flow
    async def work(run: Run) -> int:
        return await run.interrupt("number", int)

    await store.save("x", abandoned("work"))
    assert "waiting" == await flows.drive("x")
    await flows.resume("x", 5)
    assert 5 == await flows.result("x", timeout=5)
    found = measured(reader)

    assert (1, 1) == (found["flowstate.recoveries"], found["flowstate.wake.delay"])


async def test_the_wake_delay_is_measured(reader: InMemoryMetricReader, flows: Flows) -> None:
    """It is the time from the moment at which a run was due to the claim."""

    @flows.flow
    async def work(run: Run) -> int:
        return 1

    state = abandoned("work")
    state.operation.metadata = {"run": {}}
    state.wakeAt = SystemClock().now() - 90_000
    await flows.store.save("x", state)
    assert "done" == await flows.drive("x")
    [delay] = points(reader, "flowstate.wake.delay")

    assert "work" == delay["flow.name"]
    assert 90 <= delay["value"] < 150


@pytest.mark.parametrize(
    "text",
    [
        '{"traceId":"1","spanId":"1","traceFlags":1e999}',
        '{"traceId":"1","spanId":"1","traceFlags":NaN}',
        '{"traceId":1,"spanId":"1","traceFlags":1}',
        '{"traceId":"-1","spanId":"1","traceFlags":1}',
        "[" * 100_000,
        "[]",
        "5",
        "",
    ],
    ids=lambda text: text[:50],
)
async def test_a_trace_context_that_is_none(spans: InMemorySpanExporter, flows: Flows, text: str) -> None:
    """The run is driven, and its span has no link. It was claimed and left, again and again, until its lease ended."""

    @flows.flow
    async def work(run: Run) -> str:
        return "done"

    handle = await flows.start(work, id="x", delay=timedelta(seconds=0.3))
    await flows.store.update("x", trace_context=text)
    assert "done" == await handle.result(timeout=5)
    await flows.close()
    [span] = [span for span in spans.get_finished_spans() if span.name == "drive work"]

    assert () == tuple(span.links)


@pytest.mark.parametrize("method", ["on_start", "on_end"])
async def test_a_span_processor_that_fails(
    monkeypatch: pytest.MonkeyPatch, flows: Flows, caplog: pytest.LogCaptureFixture, method: str
) -> None:
    """A run goes on without its spans, and the log says so. An error of its own passes as ever."""

    class Failing(SpanProcessor): ...

    def fails(*_: Any, **__: Any) -> None:
        raise LookupError("no room")

    setattr(Failing, method, fails)
    provider = TracerProvider()
    provider.add_span_processor(Failing())
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)

    @flows.flow
    async def work(run: Run, wrong: bool) -> int:
        if wrong:
            await run.step("fails", fail)
        return await run.options(retry=Retry(first=0.001)).step("work", second_time)

    assert 2 == await flows.run(work, False, id="x")
    with pytest.raises(FlowFailedError, match="ConnectionError"):
        await flows.run(work, True, id="y")

    assert "Telemetry failed (LookupError). Runs go on." in caplog.text


def test_the_page_names_each_metric() -> None:
    """The page names every metric, and none that does not exist."""
    page = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
    metrics = {*open_telemetry._COUNTERS.values(), *(name for name, _ in open_telemetry._HISTOGRAMS.values())}

    assert metrics == set(re.findall(r"^\| `(flowstate\.[a-z.]+)` \|", page, re.MULTILINE))


async def test_lines_at_info_have_no_payload(flows: Flows, caplog: pytest.LogCaptureFixture) -> None:
    """Each beginning and end of a drive has a line, and so has a failed attempt, which names the type of its error."""
    caplog.set_level(logging.INFO, "firestore_flowstate.flows")

    @flows.flow
    async def work(run: Run, input: str) -> str:
        await run.options(retry=Retry(2, first=0.001)).step("fails", fail_once, input)
        return input

    async def fail_once(input: str) -> str:
        if current_step().attempt == 1:
            raise ConnectionError(input)
        return input

    await flows.run(work, "the card number is 4711", id="x")
    lines = [record for record in caplog.records if record.levelno == logging.INFO]

    assert ["begins", "failed with ConnectionError", "ends: done"] == [
        word
        for line in lines
        for word in ("begins", "failed with ConnectionError", "ends: done")
        if word in line.message
    ]
    assert "4711" not in caplog.text


@pytest.mark.parametrize("how", ["cancelled", "an error of the store"])
async def test_a_drive_that_is_cut_off_has_a_line_at_its_end(
    flows: Flows, store: CountingStore, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    """The line names the type of the error, and not its message."""
    caplog.set_level(logging.INFO, "firestore_flowstate.flows")
    began = asyncio.Event()

    async def wait() -> None:
        began.set()
        await asyncio.sleep(60)

    @flows.flow
    async def work(run: Run) -> None:
        await (run.step("wait", wait) if how == "cancelled" else run.step("next", second_time))

    async def broken(update: Callable[[], Awaitable[str]]) -> str:
        raise OSError("the card number is 4711")

    if how == "cancelled":
        await given_up(flows.run(work, id="x"), began)
    else:
        store.faults[1] = broken
        with pytest.raises(OSError, match="4711"):
            await flows.run(work, id="x")
    error = "CancelledError" if how == "cancelled" else "OSError"

    lines = [record.message for record in caplog.records if record.message.startswith("Drive")]
    assert [
        "Drive 1 of the run 'x' (work) begins.",
        f"Drive 1 of the run 'x' (work) ends: cut off by {error}.",
    ] == lines
    assert "4711" not in "".join(lines)


async def test_a_run_that_ends_without_a_drive_has_a_line(
    flows: Flows, store: CountingStore, caplog: pytest.LogCaptureFixture
) -> None:
    """The line says how the run ended, and not why: a reason may be anything."""
    caplog.set_level(logging.INFO, "firestore_flowstate.flows")

    @flows.flow
    async def work(run: Run) -> None:
        await run.interrupt("more", int)

    await flows.start(work, id="x")
    await blocked(store, "x")
    await flows.cancel("x", "the card number is 4711")

    assert "The run 'x' (work) ends without a drive: cancelled." in caplog.messages
    assert "4711" not in caplog.text
