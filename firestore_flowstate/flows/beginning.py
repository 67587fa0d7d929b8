"""What must hold before a step begins."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from .gate import PASSES

if TYPE_CHECKING:
    from .driving import Drive


async def may_begin(drive: Drive, key: str, *, is_step: bool = True) -> None:
    """Return when the next step may begin: every result in hand is stored, and the lease is ours.

    If no operation may begin any more, this does not return: the task waits until the drive cancels it.

    Args:
        drive: The drive.
        key: The key of what is about to begin.
        is_step: Whether that is a step, which a drive after a recovery announces.
    """
    if drive.announcement is not None and is_step:
        await drive.announcement.announce(key)
    while True:
        if not drive.may_go_on:
            withdraw_intent(drive, key)
            await drive.park(key)
        if drive.checkpoint.has_results:
            await drive.checkpoint.flush()
        elif drive.lease.is_over:
            await drive.checkpoint.commit()
        else:
            return


def begin_intent(drive: Drive, key: str) -> None:
    """Note the intent to begin a step with ``at_most_once``; `may_begin` returns only when it is stored."""
    drive.image.record.intents.append(key)
    drive.checkpoint.note_record(needed=True)


def withdraw_intent(drive: Drive, key: str) -> None:
    """Take back the intent to begin a step that will not begin, so that another drive may begin it."""
    if key in drive.image.record.intents:
        drive.image.record.intents.remove(key)
        drive.checkpoint.note_record(needed=False)


class Announcement:
    """The keys of the steps that are about to begin, which a drive after a recovery writes once, before its first step.

    If such drives die again and again, the run fails, and its error names these steps.
    """

    def __init__(self, drive: Drive) -> None:
        self._drive = drive
        self._keys: list[str] = []
        self._writing: asyncio.Task[None] | None = None

    async def announce(self, key: str) -> None:
        """Have the key written, and return when it is stored. After that one write this returns at once."""
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
