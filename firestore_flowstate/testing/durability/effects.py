"""What the sample flows do, noted in the journal: the side effects of their steps, and the results they see."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from ...flows import Retry, Run, WaitTimeoutError, current_run, current_step
from .journal import short
from .watched_store import WatchedStore


def _store(run: Run) -> WatchedStore:
    store: Any = run._drive.engine.store
    while not isinstance(store, WatchedStore):
        store = store._store  # the store of a simulation wraps it, and lets its process die
    return store


async def work(value: Any, pause: float = 0.0, *, fails: int = 0, once: bool = False) -> Any:
    """Note in the journal that the step begins and ends, and return the value.

    Args:
        value: What to return.
        pause: How long the step takes, in seconds.
        fails: How many attempts fail before one succeeds.
        once: Whether the step must not begin twice.
    """
    run, step = current_run(), current_step()
    about = {"key": step.key, "attempt": step.attempt, "owner": run._drive.token, "once": once}
    _store(run).journal.note("begin", run.id, **about)
    await _store(run).in_step(step.key)
    if pause:
        await asyncio.sleep(pause)
    _store(run).journal.note("end", run.id, **about)
    if step.attempt <= fails:
        raise ConnectionError(f"attempt {step.attempt} of {step.key}")
    return value


def saw(run: Run, key: str, value: Any, *, ordered: bool = True, timeout: bool = False) -> Any:
    """Note that the function has got the result of a key. Return it."""
    owner = run._drive.token
    _store(run).journal.note("saw", run.id, key=key, value=short(value), owner=owner, ordered=ordered, timeout=timeout)
    return value


async def step(
    run: Run, name: str, value: Any, pause: float = 0.0, *, fails: int = 0, retry: Retry | None = None
) -> Any:
    """Return the value by way of a step, and note that the function has seen it. Each name is to be used once."""
    options = run.options(retry=retry) if retry is not None else run
    return saw(run, name, await options.step(name, work, value, pause, fails=fails))


async def ask(run: Run, name: str, kind: Callable[..., Any] | None = None, *, patience: float | None = None) -> Any:
    """Return the answer to an interrupt, or "late" if none comes within `patience` seconds."""
    try:
        answer = await run.interrupt(name, kind, timeout=patience)  # type: ignore[arg-type]  # a type
    except WaitTimeoutError:
        return saw(run, name, "late", timeout=True)
    return saw(run, name, answer)
