"""Driving runs in the background of this process.

Nobody awaits such a drive. So if the store cannot be reached it is tried again, and all else that fails is logged.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import Any, Final

from firestore_flowstate import BackendError

from .closing import end_in_time
from .engine import LOG, Engine
from .errors import UnknownFlowError
from .lease import Claim
from .running import drive, drive_claimed

_FIRST_PAUSE_MILLISECONDS: Final = 1_000
_LAST_PAUSE_MILLISECONDS: Final = 60_000


class Background:
    """Drives runs in tasks of the event loop that asks for it.

    Args:
        engine: A function that returns what all drives share.
    """

    def __init__(self, engine: Callable[[], Engine]) -> None:
        self._engine = engine
        self._tasks: set[asyncio.Task[Any]] = set()
        self._driving: set[asyncio.Task[Any]] = set()  # those of the dispatcher too
        self._failures: dict[str, int] = {}

    @property
    def tasks(self) -> Collection[asyncio.Task[Any]]:
        """The tasks that drive the runs that `begin` was given."""
        return self._tasks

    def begin(self, claimed: Claim) -> None:
        """Drive a run that this process has claimed, in a task."""
        task = asyncio.ensure_future(self._drive(claimed.image.id, lambda: drive_claimed(self._engine(), claimed)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def drive(self, id: str) -> None:
        """Drive the run if it is due; if the store cannot be reached, have the run driven again after a pause."""
        await self._drive(id, lambda: drive(self._engine(), id))

    async def close(self) -> None:
        """Await the tasks of this loop, which have been told to hand over, for at most 10 s."""
        here = asyncio.get_running_loop()
        await end_in_time([task for task in self._tasks | self._driving if task.get_loop() is here])

    async def _drive(self, id: str, work: Callable[[], Awaitable[Any]]) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  # this is a coroutine
        self._driving.add(task)
        try:
            await work()
        except BackendError as error:
            await self._again(id, error)
            return
        except UnknownFlowError as error:
            LOG.warning("%s", error)
        except Exception:  # noqa: BLE001  # nobody awaits this
            LOG.exception("The run %r cannot be driven.", id)
        finally:
            self._driving.discard(task)
        self._failures.pop(id, None)

    async def _again(self, id: str, error: BackendError) -> None:
        """Have the run driven after a pause of 1 s, which doubles with each failure in a row, up to a minute."""
        engine = self._engine()
        failed = self._failures[id] = self._failures.get(id, 0) + 1
        pause = min(_FIRST_PAUSE_MILLISECONDS * 2 ** min(failed - 1, 10), _LAST_PAUSE_MILLISECONDS)
        LOG.warning("The run %r cannot be driven now, and is tried again in %d s: %s", id, pause // 1000, error)
        at = engine.clock.now() + pause
        await engine.dispatch(id, at, at=at)
