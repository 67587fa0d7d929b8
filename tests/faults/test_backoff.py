"""The pauses between tries: random, growing, and never so long that there is no time for another try."""

from __future__ import annotations

import asyncio
import time

import pytest

from firestore_flowstate._rpc.deadline import Backoff, Deadline


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that are made, none of which takes any time."""
    made: list[float] = []

    async def note(seconds: float) -> None:
        made.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", note)
    return made


async def test_pauses_are_random(pauses: list[float]) -> None:
    """No two writers that collided wait equally long."""
    for _ in range(50):
        await Backoff(Deadline.after(60), first=0.01).pause()

    assert 50 == len(set(pauses))
    assert 0 <= min(pauses) < 0.005 < max(pauses) <= 0.01


async def test_pauses_grow_up_to_a_limit(pauses: list[float]) -> None:
    """Each may be twice as long as the one before, in the end as long as the longest."""
    for _ in range(200):
        backoff = Backoff(Deadline.after(60), first=0.01, longest=0.05)
        for _ in range(5):
            await backoff.pause()
    longest = [max(pauses[number::5]) for number in range(5)]

    assert [True] * 5 == [0.7 * limit < most <= limit for most, limit in zip(longest, LIMITS, strict=True)]


LIMITS = (0.01, 0.02, 0.04, 0.05, 0.05)


async def test_the_first_tries_may_follow_at_once(pauses: list[float]) -> None:
    """As many tries follow at once as are asked for."""
    backoff = Backoff(Deadline.after(60), at_once=2)
    for _ in range(3):
        await backoff.pause()

    assert 1 == len(pauses)


@pytest.mark.parametrize("seconds", [0.1, 0.0, -5.0])
async def test_no_pause_outlasts_the_deadline(pauses: list[float], seconds: float) -> None:
    """None takes more than half of what is left until then."""
    deadline = Deadline(time.monotonic() + seconds, 1.0)
    for _ in range(40):
        await Backoff(deadline, first=10.0, longest=10.0).pause()

    assert max(pauses) <= max(0.0, seconds / 2)
