"""The tasks that a simulation starts, also by way of others, apart from those of everybody else on its event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final
from weakref import WeakSet

Tasks = WeakSet[asyncio.Task[Any]]

_TASKS: Final[ContextVar[Tasks | None]] = ContextVar("tasks of the simulation that runs in this context", default=None)


class _NotingFactory:
    """Makes tasks, as the loop does otherwise, and notes each for the simulation that it is of.

    A task has a copy of the context that it was started in, and so has what it starts.

    Attributes:
        before: The factory that the loop had before; None: it had none.
        users: How many simulations need this one.
    """

    def __init__(self, before: Any) -> None:
        self.before = before
        self.users = 0

    def __call__(self, loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> Any:
        if self.before is None:
            task: Any = asyncio.Task(coroutine, loop=loop, **options)
        else:
            task = self.before(loop, coroutine, **options)
        tasks = _TASKS.get()
        if tasks is not None:
            tasks.add(task)
        return task


@contextmanager
def own_tasks() -> Iterator[Tasks]:
    """Return the tasks that are started within this context on the running event loop, and by these; it grows."""
    loop = asyncio.get_running_loop()
    found: Any = loop.get_task_factory()
    factory = found if isinstance(found, _NotingFactory) else _NotingFactory(found)
    loop.set_task_factory(factory)
    factory.users += 1
    tasks = Tasks()
    token = _TASKS.set(tasks)
    try:
        yield tasks
    finally:
        _TASKS.reset(token)
        factory.users -= 1
        if not factory.users and loop.get_task_factory() == factory:
            loop.set_task_factory(factory.before)
