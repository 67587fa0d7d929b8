"""Which calls are tried again, after which failures, how often and how long apart."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from .deadline import Deadline, sleep
from .outcome import CHANNEL_CLOSED, CallFailed

_Result = TypeVar("_Result")

_FIRST_DELAY: Final = 0.025
_DELAY_GROWTH: Final = 2.0
_LONGEST_DELAY: Final = 1.0
_ATTEMPT_SHARE: Final = 0.6  # of the time left: after a swallowed reply there is time to ask again
_SHORTEST_ATTEMPT: Final = 0.5
_TOO_LATE: Final = 0.01
_TOO_LATE_TO_DOUBT: Final = 0.05
_TIMES_THE_LAST: Final = 3.0

_TRANSIENT: Final = frozenset(
    {"UNAVAILABLE", "DEADLINE_EXCEEDED", "INTERNAL", "UNKNOWN", "CANCELLED", "ABORTED", "RESOURCE_EXHAUSTED"}
)
_AMBIGUOUS: Final = frozenset({"UNAVAILABLE", "DEADLINE_EXCEEDED", "INTERNAL", "UNKNOWN", "CANCELLED", "DATA_LOSS"})

PLUGIN_FAILED: Final = "Getting metadata from plugin failed"
"""What grpc says, as UNAVAILABLE, when google.auth raised an error instead of giving a token."""

# What grpc's own client says if the request has never left. Were a text to change, a commit would be judged
# ambiguous instead, which is slower but never wrong.
_NEVER_SENT: Final = ("failed to connect to all addresses", "DNS resolution failed", PLUGIN_FAILED, CHANNEL_CLOSED)
# What google.auth says of credentials that no retry will make good.
_LOST: Final = (
    "invalid_grant",
    "invalid_client",
    "invalid_scope",
    "unauthorized_client",
    "invalid_rapt",
    "Reauthentication",
)
# What servers and grpc's client say of a message over their limit, which has the code of a used up quota.
_SIZE: Final = ("larger than max", "exceeds maximum size", "payload size exceeds")


class Exhausted(Exception):  # noqa: N818  # an outcome that the mapper judges
    """The deadline does not allow another attempt. The cause is the last failure that was told.

    Attributes:
        attempts: How many attempts were made, possibly none.
        failure: How the last one that was answered failed; None if none was made.
    """

    def __init__(self, attempts: int, failure: CallFailed | None) -> None:
        super().__init__(attempts, failure)
        self.attempts = attempts
        self.failure = failure


def is_about_size(failure: CallFailed) -> bool:
    """Tell a request or reply over a message limit, which no retry makes smaller, from a used up quota."""
    return failure.code == "RESOURCE_EXHAUSTED" and any(words in failure.message for words in _SIZE)


def is_ambiguous(failure: CallFailed) -> bool:
    """Tell whether a commit that failed so may have been applied all the same."""
    return failure.code in _AMBIGUOUS and not _was_never_sent(failure)


def read_again(failure: CallFailed) -> bool:
    """Tell whether a read that failed so is worth another attempt."""
    if PLUGIN_FAILED in failure.message and any(words in failure.message for words in _LOST):
        return False
    return failure.code in _TRANSIENT and not is_about_size(failure)


def commit_again(failure: CallFailed) -> bool:
    """Tell whether a commit that failed so was certainly not applied and may be sent again unchanged."""
    return read_again(failure) and not is_ambiguous(failure)


async def until(
    deadline: Deadline, attempt: Callable[[float], Awaitable[_Result]], *, again: Callable[[CallFailed], bool]
) -> _Result:
    """Return what `attempt` returns, called with the seconds that it may take, again and again as `again` allows.

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
        try:
            return await attempt(_attempt_seconds(remaining))
        except CallFailed as failed:
            if not again(failed):
                raise
            # What an earlier attempt was told says more than that the last one had no time left.
            if failure is None or failed.code != "DEADLINE_EXCEEDED" or deadline.remaining() > _TOO_LATE:
                failure = failed
            if not is_ambiguous(failed):
                # So far it is known how it failed: a last attempt that the deadline cuts off would put that in doubt.
                took = remaining - deadline.remaining()
                too_late = max(_TOO_LATE_TO_DOUBT, _TIMES_THE_LAST * took)
        remaining = deadline.remaining()
        # Jitter keeps writers that collided from colliding again; half of what is left keeps time for an attempt.
        await sleep(max(0.0, min(delay * random.uniform(0.5, 1.5), remaining / 2)))  # noqa: S311  # no secret
        delay = min(delay * _DELAY_GROWTH, _LONGEST_DELAY)


def _attempt_seconds(remaining: float) -> float:
    return min(remaining, max(remaining * _ATTEMPT_SHARE, _SHORTEST_ATTEMPT))


def _was_never_sent(failure: CallFailed) -> bool:
    return failure.code == "UNAVAILABLE" and any(words in failure.message for words in _NEVER_SENT)
