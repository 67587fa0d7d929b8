"""Calls of a queue by a client that blocks: how long whoever awaits one can be kept."""

from __future__ import annotations

import threading

import pytest

from firestore_flowstate.flows.dispatch import queue_calls


async def test_a_call_that_does_not_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A token, a connection and an answer may each be late. The last attempt has its time, and no more."""
    monkeypatch.setattr(queue_calls, "CALL_SECONDS", 0.05)
    threads, over, began = queue_calls.CallThreads(), threading.Event(), threading.Event()

    def hang(left: float) -> None:
        began.set()
        over.wait()

    try:
        with pytest.raises(TimeoutError, match=r"has not ended within 1\.05 s"):
            await threads.call(hang, seconds=1.0)
        assert began.is_set()
    finally:
        over.set()
        threads.close()


async def test_what_a_call_returns_and_raises_comes_through() -> None:
    """Results and errors come as they are."""
    threads = queue_calls.CallThreads()
    try:
        assert 0 < await threads.call(lambda left: left, seconds=5) <= 5
        with pytest.raises(ZeroDivisionError):
            await threads.call(lambda left: 1 / 0, seconds=5)
    finally:
        threads.close()
