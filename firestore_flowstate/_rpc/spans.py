"""A span of OpenTelemetry around each call, if the application uses OpenTelemetry."""

from __future__ import annotations

import sys
from collections.abc import Awaitable
from typing import Any, TypeVar

from .. import __version__
from .outcome import CallFailed
from .retry import Exhausted

_Result = TypeVar("_Result")


async def traced(call: Awaitable[_Result], *, method: str, database: str) -> _Result:
    """Return what the call returns, under a span of its own; it spans all attempts.

    A document that is missing is not an error. Without OpenTelemetry in the process, which is never imported here, this
    does nothing.
    """
    trace: Any = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return await call
    attributes = {
        "rpc.system": "grpc",
        "rpc.service": "google.firestore.v1.Firestore",
        "rpc.method": method,
        "db.namespace": database,
    }
    tracer = trace.get_tracer("firestore_flowstate", __version__)
    with tracer.start_as_current_span(
        f"Firestore/{method}",
        kind=trace.SpanKind.CLIENT,
        attributes=attributes,
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        try:
            return await call
        except (CallFailed, Exhausted) as end:
            failure = end if isinstance(end, CallFailed) else end.failure
            code = failure.code if failure is not None else "DEADLINE_EXCEEDED"
            span.set_attribute("error.type", code)
            if code != "NOT_FOUND":
                span.set_status(trace.StatusCode.ERROR, str(failure or "the time was up before the call"))
            raise
