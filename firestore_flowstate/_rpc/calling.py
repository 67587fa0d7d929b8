"""One call over a link: its attempts, its span, its metadata, and the messages it answers with."""

from __future__ import annotations

import random
import sys
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any, Final, TypeVar

from google.protobuf.message import DecodeError

from .._version import __version__
from ..errors import BackendError
from .call_errors import exhausted_error, is_about_database, public_error
from .deadline import Deadline, monotonic, sleep
from .link import Link
from .messages import CommitRequest, Write
from .outcome import CallFailed, Exhausted, is_ambiguous, read_again

_Result = TypeVar("_Result")
_WRITES: Final = b"\x12"  # the field `writes` of a CommitRequest: 2 << 3, and 2 for what has a length
_FIRST_DELAY: Final = 0.025  # seconds before the second attempt: about what a call takes
_DELAY_GROWTH: Final = 2.0  # times the delay before
_LONGEST_DELAY: Final = 1.0  # seconds, before the jitter: how late it may be noticed that a server has come back
_ATTEMPT_SHARE: Final = 0.6  # of the time left: if a reply is lost, the rest is for another attempt
_SHORTEST_ATTEMPT: Final = 0.5  # seconds, if so many are left: a slow call would never end in less
_TOO_LATE: Final = 0.01  # seconds left, in which no call ends
# If it is known how all attempts so far have failed, no attempt follows that the deadline might cut off. It is too late
# for one if less time is left than either of these.
_TOO_LATE_TO_DOUBT: Final = 0.05  # seconds
_TIMES_THE_LAST: Final = 3.0  # times what the last attempt took


class NoDocument(Exception):  # noqa: N818  # an outcome, as in `outcome`
    """No document has the name that was asked for."""


async def call(
    link: Link,
    method: str,
    request: bytes,
    route: tuple[str, str],
    *,
    deadline: Deadline,
    again: Callable[[CallFailed], bool],
) -> list[bytes]:
    """Return the server's messages, serialized, after as many attempts as `again` and the deadline allow.

    Args:
        link: What to call over.
        method: The name of the method of Firestore's service.
        request: The message to send, serialized, so that a large one is not in memory twice while it is on its way.
        route: The field by which Google's front ends find the database, and its value.
        deadline: When the last attempt must have ended.
        again: Tells whether another attempt is allowed after a failure.

    Raises:
        CallFailed: An attempt failed in a way that `again` does not allow.
        Exhausted: The deadline is too near for another attempt.
    """
    attempts = repeat(deadline, partial(link.call, method, request, link.metadata_of(*route)), again=again)
    trace = sys.modules.get("opentelemetry.trace")  # there if the application has imported it: this package never does
    if trace is None:
        return await attempts
    return await traced(attempts, trace, method=method, database=link.database.name)


async def read(
    link: Link, method: str, request: Any, route: tuple[str, str], *, deadline: Deadline, flow_id: str | None
) -> list[bytes]:
    """Return the server's messages to a request that changes nothing, tried again until the deadline.

    The arguments are those of `call`, and `flow_id`, the flow state that errors are to name.

    Raises:
        NoDocument: The document of a GetDocument is not there.
        BackendError: The call failed.
    """
    database = link.database.name
    try:
        return await call(link, method, request.SerializeToString(), route, deadline=deadline, again=read_again)
    except CallFailed as failure:
        if failure.code == "NOT_FOUND" and method == "GetDocument" and not is_about_database(failure):
            raise NoDocument from failure
        raise public_error(failure, what=method, database=database, flow_id=flow_id) from failure
    except Exhausted as end:
        raise exhausted_error(end, deadline=deadline, what=method, database=database, flow_id=flow_id) from end.failure


def parsed(message: Any, reply: bytes) -> Any:
    """Return the reply as a message of this class.

    Raises:
        BackendError: The reply is not such a message.
    """
    try:
        return message.FromString(reply)
    except DecodeError as error:
        raise BackendError("the server's reply is not one of Firestore's: look at the endpoint") from error


def serialized_commit(database: str, writes: Iterable[Write | bytes]) -> bytes:
    """Return a CommitRequest, serialized, of writes that are serialized or not.

    It is put together by hand. The gain: to put a write into a request, protobuf would serialize the write and read it
    again.
    """
    pieces = [CommitRequest(database=database).SerializeToString()]
    for write in writes:
        message = write if isinstance(write, bytes) else write.SerializeToString()
        pieces += (_WRITES, _varint(len(message)), message)
    return b"".join(pieces)


def _varint(number: int) -> bytes:
    """Return a number as protobuf encodes it: seven bits in each byte, the lowest first."""
    groups = bytearray()
    while number > 0x7F:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    groups.append(number)
    return bytes(groups)


async def repeat(
    deadline: Deadline, attempt: Callable[[float], Awaitable[_Result]], *, again: Callable[[CallFailed], bool]
) -> _Result:
    """Return what `attempt` returns, called again with growing pauses for as long as `again` and the deadline allow.

    Args:
        deadline: When the last attempt must have ended.
        attempt: Makes one attempt, in the seconds that it is given.
        again: Tells whether another attempt is allowed after a failure.

    Raises:
        CallFailed: An attempt failed in a way that `again` does not allow.
        Exhausted: The deadline is too near for another attempt.
    """
    failure: CallFailed | None = None
    attempts = 0
    delay = _FIRST_DELAY
    too_late = _TOO_LATE
    while True:
        remaining = deadline.remaining()
        if remaining <= too_late:
            raise Exhausted(attempts, failure) from failure
        attempts += 1
        began = monotonic()
        try:
            return await attempt(_attempt_seconds(remaining))
        except CallFailed as failed:
            failed.began = began
            if not again(failed):
                raise
            # Keep the failure of an earlier attempt if this one failed only because the time was up: it says more.
            if failure is None or failed.code != "DEADLINE_EXCEEDED" or deadline.remaining() > _TOO_LATE:
                failure = failed
            if not is_ambiguous(failed):
                # It is known so far that nothing was applied. An attempt that the deadline cuts off would end that.
                took = remaining - deadline.remaining()
                too_late = max(_TOO_LATE_TO_DOUBT, _TIMES_THE_LAST * took)
        remaining = deadline.remaining()
        # Jitter keeps writers that collided from colliding again. At most half of the time left goes into the pause.
        await sleep(max(0.0, min(delay * random.uniform(0.5, 1.5), remaining / 2)))  # noqa: S311  # jitter
        delay = min(delay * _DELAY_GROWTH, _LONGEST_DELAY)


def _attempt_seconds(remaining: float) -> float:
    return min(remaining, max(remaining * _ATTEMPT_SHARE, _SHORTEST_ATTEMPT))


async def traced(call: Awaitable[_Result], trace: Any, *, method: str, database: str) -> _Result:
    """Return what the call returns, under a span of its own; it spans all attempts.

    A document that is missing is not an error.

    Args:
        call: The call.
        trace: The module opentelemetry.trace, if the process has OpenTelemetry.
        method: The name of the method of Firestore's service.
        database: The resource name of the database.
    """
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
