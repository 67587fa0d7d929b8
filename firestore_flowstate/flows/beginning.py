"""What must hold before a step begins."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from .gate import PASSES

if TYPE_CHECKING:
    from .driving import Drive


async def may_begin(drive: Drive, key: str | None = None) -> None:
    """Return when the next step may begin: everything in hand is durable, and the lease is ours.

    If no operation may begin any more this does not return; the task is cancelled.
    """
    if drive.attempts is not None and key is not None:
        await drive.attempts.announce(key)
    while True:
        if not drive.may_go_on:
            await drive.park()
        if drive.checkpoint.has_results:
            await drive.checkpoint.flush()
        elif drive.lease.is_over:
            await drive.checkpoint.commit()
        else:
            return


def begin_intent(drive: Drive, key: str) -> None:
    """Have it stored that the step is about to begin, before it does."""
    drive.image.record.intents.append(key)
    drive.checkpoint.note_record(needed=True)


class Attempts:
    """What a drive after a recovery writes once, before its first step: the keys that are about to begin.

    If such drives die again and again, the end names these steps.
    """

    def __init__(self, drive: Drive) -> None:
        self._drive = drive
        self._keys: list[str] = []
        self._writing: asyncio.Task[None] | None = None

    async def announce(self, key: str) -> None:
        """Have the key written, and return when it is. After the first time this returns at once."""
        if self._writing is None:
            self._writing = self._drive.waits.spawn(self._write())
        if not self._writing.done():
            self._keys.append(key)
            await asyncio.shield(self._writing)

    async def _write(self) -> None:
        for _ in range(PASSES):  # others may be about to begin too
            await asyncio.sleep(0)
        self._drive.image.record.trying = list(self._keys)
        self._drive.checkpoint.note_record(needed=True)
        await self._drive.checkpoint.flush()
